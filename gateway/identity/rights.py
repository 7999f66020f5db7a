"""Repeated checks with auth of the caller's right during long operations: a download, an archive, an upload."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from gateway.services.calls import Services, ask
from syncline.auth.v1 import auth_pb2
from syncline.model.errors import DeviceRevoked, NoSuchSpace, PermissionDenied, SpaceDeleted, TokenExpired

CheckRight: TypeAlias = Callable[[], Awaitable[None]]
"""Coroutine function without arguments that checks the caller's right with auth, and raises the error that must end the
operation.
"""


def right_check(
    services: Services, token: Callable[[], Awaitable[str]], space: str, *, writes: bool = False
) -> CheckRight:
    """Return a function that checks with auth the caller's right in a space: to read, or, with `writes`, to write. The
    function raises these errors:

    - DeviceRevoked if the device was revoked;
    - NoSuchSpace if the grant has ended, and SpaceDeleted if the space is deleted;
    - PermissionDenied, with `writes`, if the caller may not write;
    - TokenExpired if the device or the access token has expired;
    - Unavailable if auth does not answer;
    - the errors of `token`.

    `token` is called for each check, and returns an access token of the caller; for a caller with a key it can return a
    new one at any time.
    """
    least = auth_pb2.ROLE_EDITOR if writes else auth_pb2.ROLE_VIEWER

    async def check() -> None:
        request = auth_pb2.CheckAccessRequest(space_id=space)
        answer: auth_pb2.CheckAccessResponse = await ask(services.auth.CheckAccess, request, token=await token())
        if answer.device_revoked:
            raise DeviceRevoked
        if answer.device_expired:
            raise TokenExpired
        if answer.deleted_at_ms:
            raise SpaceDeleted.since(space, at_ms=answer.deleted_at_ms, until_ms=answer.restorable_until_ms)
        if answer.role == auth_pb2.ROLE_UNSPECIFIED:
            raise NoSuchSpace(space_id=space)
        if answer.role < least:
            raise PermissionDenied("you may only read in this space")

    return check
