"""Under which request id a call runs: known everywhere within it, and passed on to the next service."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar

REQUEST_ID_KEY = "x-request-id"

_ACCEPTABLE = re.compile(r"[A-Za-z0-9_-]{1,64}")

# Each call runs in a task of its own and so in a context of its own: nothing is ever reset.
_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


def request_id() -> str | None:
    """The id of the request that is being served, or None outside of one."""
    return _request_id.get()


def take_request_id(offered: str | None) -> str:
    """Adopt the id that the caller sent if it is well-formed, else make one; it is bound and returned."""
    chosen = offered if offered and _ACCEPTABLE.fullmatch(offered) else secrets.token_hex(8)
    _request_id.set(chosen)
    return chosen
