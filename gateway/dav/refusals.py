"""Errors in the form of WebDAV: a status, and an XML body with the reason (RFC 4918, section 16)."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Final
from xml.sax.saxutils import escape

from wsgidav.dav_error import DAVError

from syncline.model.errors import SynclineError
from syncline.model.printable import spaced
from syncline.rpc.errors import http_status

MEDIA_TYPE: Final = "application/xml; charset=utf-8"
CHALLENGE: Final = 'Basic realm="Syncline", charset="UTF-8"'

_STATUS: Final = {
    "NAME_TAKEN": HTTPStatus.CONFLICT,
    "PARENT_NOT_FOUND": HTTPStatus.CONFLICT,
    "QUOTA_EXCEEDED": HTTPStatus.INSUFFICIENT_STORAGE,
    "NODES_EXCEEDED": HTTPStatus.INSUFFICIENT_STORAGE,
    "CYCLE": HTTPStatus.FORBIDDEN,
}
"""The status that the RFC prescribes, by the reason of an error, where it differs from the status in the HTTP API."""


class DavRefused(DAVError):  # type: ignore[misc]  # WsgiDAV has no types
    """A refused WebDAV request: the status of the answer, and a text for people. `reason` is for programs to branch on.

    `retry_after` is the number of seconds after which the client may try again; None if waiting does not help.
    """

    def __init__(
        self,
        status: int,
        text: str,
        *,
        reason: str = "",
        condition: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(status, text, err_condition=condition)
        self.reason = reason or HTTPStatus(status).name
        self.text = text
        self.retry_after = retry_after


def refused_by(error: SynclineError) -> DavRefused:
    """Return the refusal for an error of the gateway or of a service."""
    status = _STATUS.get(error.reason, http_status(error))
    return DavRefused(status, str(error), reason=error.reason, retry_after=error.retry_after_seconds)


def error_page(error: DAVError) -> tuple[int, bytes, dict[str, str]]:
    """Return status, body and headers of the answer to a failed request.

    `exception` and `message` are the elements in which ownCloud servers report errors, so that its clients display
    them.
    """
    status = int(error.value)
    inner = ""
    if error.err_condition is not None:
        condition = error.err_condition
        hrefs = "".join(f"<D:href>{escape(href)}</D:href>" for href in condition.hrefs)
        name = condition.condition_code.removeprefix("{DAV:}")
        inner = f"<D:{name}>{hrefs}</D:{name}>" if hrefs else f"<D:{name}/>"
    reason = error.reason if isinstance(error, DavRefused) else HTTPStatus(status).name
    text = error.text if isinstance(error, DavRefused) else error.context_info or HTTPStatus(status).phrase
    body = (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<D:error xmlns:D="DAV:" xmlns:s="http://sabredav.org/ns">'
        f"{inner}<s:exception>{escape(reason)}</s:exception><s:message>{escape(spaced(str(text)))}</s:message></D:error>\n"
    )
    headers = {"content-type": MEDIA_TYPE, "cache-control": "no-store"}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = CHALLENGE
    if isinstance(error, DavRefused) and error.retry_after is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after))
    return status, body.encode(), headers
