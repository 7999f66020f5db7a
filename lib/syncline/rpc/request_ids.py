"""The request id of the current call: available throughout the call, and forwarded to the next service."""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar

REQUEST_ID_KEY = "x-request-id"

_ACCEPTABLE = re.compile(r"[A-Za-z0-9_-]{1,64}")

# Each call runs in its own task and so in its own context, so that the variable need not be reset.
_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


def request_id() -> str | None:
    """Return the id of the request that is being served, or None outside of one."""
    return _request_id.get()


def take_request_id(offered: str | None) -> str:
    """Adopt the caller's request id if it is well-formed, otherwise create one; bind it and return it."""
    chosen = offered if offered and _ACCEPTABLE.fullmatch(offered) else secrets.token_hex(8)
    _request_id.set(chosen)
    return chosen
