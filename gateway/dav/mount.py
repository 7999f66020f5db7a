"""The mount of WebDAV. Its modules are imported at the first request, because many gateways never receive a request for
WebDAV.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from gateway.dav.parts import MOUNT, DavParts
from gateway.http import paths  # noqa: F401 # registers `any_path`
from syncline.model.errors import SynclineError

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from gateway.dav.app import Dav


def routes(parts: DavParts) -> list[Route]:
    """Return the routes of WebDAV, for all its methods."""
    mounted = _Mounted(parts)
    return [Route(MOUNT, mounted), Route(f"{MOUNT}/{{path:any_path}}", mounted)]


def mount_refusal(error: SynclineError) -> Response:
    """Return an error as a response in the form that WebDAV clients expect."""
    from gateway.dav.refusals import error_page, refused_by  # noqa: PLC0415 # see above

    status, body, headers = error_page(refused_by(error))
    return Response(body, status, headers=headers)


class _Mounted:
    """An ASGI application that is created at its first request."""

    __name__ = "dav"  # the route's name in logs and metrics

    def __init__(self, parts: DavParts) -> None:
        self._parts = parts
        self._dav: Dav | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._dav is None:
            from gateway.dav.app import Dav  # noqa: PLC0415 # see above

            self._dav = Dav(self._parts)
        await self._dav(scope, receive, send)
