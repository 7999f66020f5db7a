"""Request ids: random, or derived from an `Idempotency-Key`, so that a repeated request is carried out once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Header
from starlette.requests import Request

from gateway.identity.caller import Caller, Signed
from syncline.model.identifiers import RequestId, new_request_id

MAX_KEY_CHARACTERS: int = 255
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=MAX_KEY_CHARACTERS,
        description="Any text that identifies this request: a repetition with the same text is carried out once and "
        "gets the same answer.",
    ),
]


@dataclass(frozen=True, slots=True)
class RequestName:
    """The id under which the services know a request; `given` is True if the client can repeat the request under the
    same id.
    """

    id: RequestId
    given: bool


async def request_name(request: Request, caller: Signed, idempotency_key: IdempotencyKey = None) -> RequestName:
    """Return the id of a request that changes something. Without the header `Idempotency-Key`, the id is random. With
    the header, the id is derived from the header, the caller, the method, the path and the body, so that the same
    request has the same id again.
    """
    return _name(request, caller, idempotency_key, await request.body())


async def secret_request_name(request: Request, caller: Signed, idempotency_key: IdempotencyKey = None) -> RequestName:
    """Return the id of a request whose body has passwords, as `request_name` does, but without the body: somebody who
    reads the stored ids could try passwords on such an id faster than on their hashes. The service compares the body.
    """
    return _name(request, caller, idempotency_key, b"")


def _name(request: Request, caller: Caller, idempotency_key: str | None, body: bytes) -> RequestName:
    if idempotency_key is None:
        return RequestName(new_request_id(), given=False)
    seen = hashlib.sha256(b"syncline request\0")
    # A key identifies a request of one person: with another body or address it identifies another request.
    for part in (
        caller.claims.subject.encode(),
        idempotency_key.encode(),
        request.method.encode(),
        request.url.path.encode(),
    ):
        seen.update(len(part).to_bytes(4, "big") + part)
    seen.update(body)
    return RequestName(RequestId(seen.digest()[:16]), given=True)


Named = Annotated[RequestName, Depends(request_name)]
"""The argument `name` of an operation that changes something: the id of the request, which is carried out once."""
SecretlyNamed = Annotated[RequestName, Depends(secret_request_name)]
"""The same for an operation whose body has passwords."""
