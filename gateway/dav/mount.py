"""Where WebDAV is mounted. What it needs is imported by its first request: many gateways never see one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from starlette.routing import Route

from gateway import paths  # noqa: F401 # registers `any_path`
from gateway.dav.ports import Records

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from gateway.address import OwnAddress
    from gateway.api.caller import Keys
    from gateway.content import Contents
    from gateway.dav.app import Dav
    from gateway.ports import ObjectSink
    from gateway.services import Services
    from runtime.pool import Pool

MOUNT: Final = "/dav"


@dataclass(frozen=True, slots=True)
class Behind:
    """What the application works with."""

    services: Services
    keys: Keys
    contents: Contents
    sink: ObjectSink
    records: Records
    own: OwnAddress
    upload_memory: int
    """What uploads may hold, in bytes."""
    bodies: Pool
    """Memory for all other bodies of requests."""


def routes(behind: Behind) -> list[Route]:
    """The routes of WebDAV, for all its methods."""
    mounted = _Mounted(behind)
    return [Route(MOUNT, mounted), Route(f"{MOUNT}/{{path:any_path}}", mounted)]


class _Mounted:
    """An ASGI application that is made when it is first asked."""

    __name__ = "dav"  # the route's name in logs and figures

    def __init__(self, behind: Behind) -> None:
        self._behind = behind
        self._dav: Dav | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if self._dav is None:
            from gateway.dav.app import Dav  # noqa: PLC0415 # see above

            self._dav = Dav(self._behind)
        await self._dav(scope, receive, send)
