"""The mount point of WebDAV, and the components that it uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.records.ports import Records

if TYPE_CHECKING:
    from gateway.content.assemble import Contents
    from gateway.http.parsing import ParsingTime
    from gateway.identity.address import OwnAddress
    from gateway.identity.caller import KeyTokens
    from gateway.ports import ObjectSink
    from gateway.services.calls import Services
    from gateway.services.copies import Copies
    from runtime.pool import Pool

MOUNT: Final = "/dav"


@dataclass(frozen=True, slots=True)
class DavParts:
    """The components that WebDAV's ASGI application uses."""

    services: Services
    keys: KeyTokens
    contents: Contents
    sink: ObjectSink
    records: Records
    own: OwnAddress
    upload_memory: int
    """Maximum number of bytes that all uploads together may hold in memory."""
    bodies: Pool
    """The pool of memory for the bodies of all requests other than PUT."""
    parsing: ParsingTime
    copies: Copies
