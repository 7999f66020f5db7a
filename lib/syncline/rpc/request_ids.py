"""The request id of the current call: a text that follows one request through all processes and their logs. It is
available while the call is served, and is sent with each further call that is made for it.
"""

from __future__ import annotations

import re
import secrets
from contextvars import ContextVar

REQUEST_ID_KEY = "x-request-id"

_ACCEPTABLE = re.compile(r"[A-Za-z0-9_-]{1,64}")

# Each call runs in its own task and so in its own context, so that the variable need not be reset.
_request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


def request_id() -> str | None:
    """Return the id of the request that the current task or thread is serving; None outside of a request."""
    return _request_id.get()


def take_request_id(offered: str | None) -> str:
    """Choose the id of the request that is being served, and return it: `offered`, the id that the caller sent, if it
    has 1 to 64 characters of A-Z, a-z, 0-9, `_` and `-`, otherwise a new random one. From now on `request_id` returns
    it in the current context (`contextvars`), which is that of the call.
    """
    chosen = offered if offered and _ACCEPTABLE.fullmatch(offered) else secrets.token_hex(8)
    _request_id.set(chosen)
    return chosen
