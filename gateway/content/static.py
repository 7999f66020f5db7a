"""Fixed answers: bytes made once, which clients cache by entity tag."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from gateway.content.ranges import RangeOutcome, wanted


@dataclass(frozen=True, slots=True)
class FixedAnswer:
    """A body and its entity tag."""

    content: bytes
    media_type: str
    etag: str

    @classmethod
    def of(cls, content: bytes, media_type: str) -> FixedAnswer:
        """Return the answer with the body `content`, whose entity tag is derived from the SHA-256 of the body."""
        return cls(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:32]}"')

    def response(self, request: Request, headers: Mapping[str, str]) -> Response:
        """Return the answer to a GET or HEAD, with these headers: 304 if the client has the body already, otherwise the
        whole body.
        """
        told = {**headers, "etag": self.etag}
        asked = {name: value for name, value in request.headers.items() if name == "if-none-match"}
        if wanted(asked, method=request.method, etag=self.etag, size=len(self.content)) is RangeOutcome.NOT_MODIFIED:
            return Response(status_code=304, headers=told)
        return Response(self.content, media_type=self.media_type, headers=told)
