"""Copies of directories with everything below them. They are shared fairly, bounded in time, and undone as a whole.

A copy ends when its caller disconnects, after COPY_SECONDS, or shortly before its access token expires if there is no
next one. The nodes that it has created until then go to the trash, by a call with a token that is still valid for
UNDO_SECONDS.

If the caller has lost the right to write meanwhile, metadata undoes the copy without it, unless somebody has changed
something in the copy.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from typing import Any, Final

from anyio import CancelScope

from gateway.services.calls import Services, ask
from gateway.services.changes import accepted, commit_mutations
from gateway.services.trees import Token, copy_below
from runtime.claims import read_claims
from runtime.interruption import ASK_SECONDS, ClientGone, Interruption
from runtime.logs import structlog
from runtime.pool import Pool, Share
from syncline.metadata.v1 import metadata_pb2
from syncline.model.errors import (
    DeviceRevoked,
    Kind,
    NoSuchRequest,
    NoSuchSpace,
    PermissionDenied,
    RequestIdReused,
    SynclineError,
    TokenExpired,
    Unavailable,
)
from syncline.model.identifiers import RequestId, SpaceId, derived_request_id
from syncline.model.tree import CreateNode, DeleteNode, Node

COPIES_AT_ONCE: Final = 16
"""Maximum number of directories that one gateway copies at the same time."""
COPY_SECONDS: Final = 600.0
"""Maximum duration of one copy in seconds."""
UNDO_SECONDS: Final = 45.0
"""Seconds for which the token of a copy stays valid after the copy has ended, so that the copy can be undone. The token
of a caller with a key is replaced earlier before its expiry.
"""
_UNDO_PAUSE_SECONDS: Final = 1.0
RIGHT_LOST: Final = (PermissionDenied, NoSuchSpace, DeviceRevoked)
"""Errors of a commit whose caller may not write in the space any more."""

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
"""ASGI's function that returns the next message of the client."""

log = structlog.get_logger()


class CopyTooLong(SynclineError):
    """The copy took longer than one request may, and was undone; copy the directories in it one by one."""

    reason = "COPY_TOO_LONG"
    kind = Kind.DEADLINE


class RunningCopy:
    """A copy in progress: it interrupts the calls of the copy when the copy has to end, and returns access tokens for
    them.
    """

    def __init__(self, token: Token, ending: Interruption) -> None:
        """`token` returns an access token of the caller, and `ending` interrupts the copy."""
        self.valid_token = ""
        """The last token that `token` returned; it is valid for UNDO_SECONDS after the copy was interrupted."""
        self._token = token
        self._ending = ending
        self._expiry: asyncio.TimerHandle | None = None

    async def token(self) -> str:
        """Return an access token for the next call. Raise TokenExpired if the token expires before the copy could be
        undone.
        """
        token = await self._token()
        if token != self.valid_token:
            seconds = read_claims(token).expires_at - time.time() - UNDO_SECONDS
            error = TokenExpired("the access token expires before the copy is complete; get another one and repeat it")
            if seconds <= 0:
                raise error
            self.stop()
            self._expiry = asyncio.get_running_loop().call_later(seconds, self._ending.interrupt, error)
            self.valid_token = token
        return token

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Raise an error within this block as soon as the copy has to end: ClientGone if the caller has disconnected,
        CopyTooLong after COPY_SECONDS, and TokenExpired shortly before the last token expires.
        """
        with self._ending.interrupting():
            yield

    def stop(self) -> None:
        """Cancel the timer that ends the copy before its token expires."""
        if self._expiry is not None:
            self._expiry.cancel()


class Copies:
    """Counts the copies that one gateway has in progress, and bounds their number."""

    def __init__(self, under_way: Pool, *, seconds: float = COPY_SECONDS) -> None:
        """`under_way` is the pool that bounds the number of copies, and `seconds` the maximum duration of each."""
        self._under_way = under_way
        self._seconds = seconds

    @asynccontextmanager
    async def running(self, share: Share, token: Token, receive: Receive) -> AsyncIterator[RunningCopy]:
        """Provide a RunningCopy, and count the copy until the end of the block, which includes its undo.

        `receive` must have returned the whole body of the request. Raise TooMuchAtOnce, without waiting, if `share` may
        have no further copy.
        """
        if not self._under_way.try_take(1, share):
            raise self._under_way.refused("too many directories are being copied at once; try again in a few seconds")
        ending = Interruption()
        copy = RunningCopy(token, ending)
        limit = asyncio.get_running_loop().call_later(self._seconds, ending.interrupt, CopyTooLong())
        leaving = asyncio.create_task(_interrupt_when_gone(receive, ending))
        try:
            yield copy
        finally:
            limit.cancel()
            copy.stop()
            leaving.cancel()
            self._under_way.give(1, share)
            await asyncio.gather(leaving, return_exceptions=True)


async def copy_tree(
    services: Services, copy: RunningCopy, *, space: SpaceId, request: RequestId, source: Node, to: CreateNode
) -> Node:
    """Make the directory `to` with a copy of everything below the directory `source`; return the new directory.

    A copy that is not completed is undone. Raise MutationRefused if a node cannot be created, and the errors of
    `RunningCopy.interrupting`.
    """
    made: Node | None = None

    async def undo() -> None:
        # The first commit may have been interrupted in progress. Its repetition tells what became of it.
        token = copy.valid_token
        try:
            answer = await commit_mutations(services, token, space=space, request=request, mutations=[to])
            top = accepted(answer.results[0])
            delete = DeleteNode(top.id, top.version)
            await commit_mutations(services, token, space=space, request=undo_of(request), mutations=[delete])
        except RIGHT_LOST:
            await undo_without_right(services, token, space=space, copy=request)

    try:
        with copy.interrupting():
            token = await copy.token()
            answer = await commit_mutations(services, token, space=space, request=request, mutations=[to])
            made = accepted(answer.results[0])
            every = copy_below(services, copy.token, space=space, request=request, source=source.id, target=made.id)
            async with aclosing(every):
                async for _ in every:
                    pass
    except BaseException as error:
        is_refused = isinstance(error, SynclineError) and not isinstance(
            error, Unavailable | CopyTooLong | TokenExpired
        )
        if copy.valid_token and (made is not None or not is_refused):
            with CancelScope(shield=True):
                await undone(undo)
        raise
    return made


def undo_of(request: RequestId) -> RequestId:
    """Return the id of the request that undoes the copy that `request` names."""
    return derived_request_id(request, 2**32 - 1)


async def undo_without_right(services: Services, token: str, *, space: SpaceId, copy: RequestId) -> None:
    """Have metadata undo the copy whose directory the request with the id `copy` has created, if the caller may not
    write any more. Do nothing if there is no such copy.
    """
    asked = metadata_pb2.UndoCopyRequest(space_id=space, request_id=undo_of(copy), copy_request_id=copy)
    # A commit that was sent while the right lasted may take effect for ASK_SECONDS more.
    last = time.monotonic() + 2 * ASK_SECONDS
    while True:
        try:
            # The id names nothing but this undo, so another request under it has undone the copy.
            with suppress(RequestIdReused):
                await ask(services.metadata.UndoCopy, asked, token=token)
        except NoSuchRequest:
            if time.monotonic() > last:
                return
            await asyncio.sleep(_UNDO_PAUSE_SECONDS)
        else:
            return


async def undone(undo: Callable[[], Awaitable[object]]) -> None:
    """Call `undo`, again and again while a service is unavailable, for at most UNDO_SECONDS. An error of `undo` is
    logged and not raised, since the caller gets the error that ended the copy.
    """
    try:
        async with asyncio.timeout(UNDO_SECONDS):
            while True:
                try:
                    await undo()
                except Unavailable:
                    await asyncio.sleep(_UNDO_PAUSE_SECONDS)
                else:
                    return
    except (SynclineError, TimeoutError) as error:
        log.warning("copy not undone", reason=error.reason if isinstance(error, SynclineError) else "DEADLINE")


async def _interrupt_when_gone(receive: Receive, ending: Interruption) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    ending.interrupt(ClientGone())
