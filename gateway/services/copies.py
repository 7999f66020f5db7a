"""Copies of directories with everything below them. They are shared fairly, bounded in time, and undone as a whole.

A copy ends when its caller disconnects, after COPY_SECONDS, or shortly before its access token expires if there is no
next one. The nodes that it has created until then go to the trash, by a call with a token that is still valid for
UNDO_SECONDS.

Metadata undoes the copy by one commit, whatever right the caller has by then, unless somebody else has changed
something in the copy.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any, Final

import grpc
from anyio import CancelScope

from gateway.services.calls import CallPatience, Services, ask, set_patience
from gateway.services.changes import accepted, commit_mutations
from gateway.services.trees import Token, copy_below
from runtime.claims import read_claims
from runtime.interruption import ASK_SECONDS, ClientGone, Interruption
from runtime.logs import structlog
from runtime.pool import Pool, Share
from syncline.metadata.v1 import metadata_pb2
from syncline.model.errors import Kind, NoSuchRequest, RequestIdReused, SynclineError, TokenExpired
from syncline.model.identifiers import RequestId, SpaceId, derived_request_id
from syncline.model.tree import CreateNode, Node

COPIES_AT_ONCE: Final = 16
"""Maximum number of directories that one gateway copies at the same time."""
COPY_SECONDS: Final = 600.0
"""Maximum duration of one copy in seconds."""
UNDO_SECONDS: Final = 45.0
"""Seconds for which the token of a copy stays valid after the copy has ended, so that the copy can be undone. The token
of a caller with a key is replaced earlier before its expiry.
"""
_UNDO_PAUSE_SECONDS: Final = 1.0
_REFUSALS: Final = frozenset(
    {
        Kind.INVALID,
        Kind.DENIED,
        Kind.NOT_FOUND,
        Kind.ALREADY_EXISTS,
        Kind.CONFLICT,
        Kind.PRECONDITION,
        Kind.EXHAUSTED,
    }
)
"""Kinds of errors after which nothing of a commit was recorded, if the call had one attempt."""
_TRANSIENT: Final = frozenset({Kind.UNAVAILABLE, Kind.DEADLINE, Kind.EXHAUSTED})
"""Kinds of errors of an undo after which it is repeated."""

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
        """Context manager within which an error is raised as soon as the copy has to end: ClientGone if the caller has
        disconnected, CopyTooLong after the maximum duration of a copy, and TokenExpired shortly before the last token
        expires.
        """
        with self._ending.interrupting():
            yield

    def stop(self) -> None:
        """Cancel the timer that ends the copy before its token expires."""
        if self._expiry is not None:
            self._expiry.cancel()


class Copies:
    """Counts the copies that one gateway has in progress, and bounds their number."""

    def __init__(self, in_progress: Pool, *, seconds: float = COPY_SECONDS) -> None:
        """`in_progress` is the pool that bounds the number of copies, and `seconds` the maximum duration of each."""
        self._in_progress = in_progress
        self._seconds = seconds

    @asynccontextmanager
    async def running(self, share: Share, token: Token, receive: Receive) -> AsyncIterator[RunningCopy]:
        """Context manager that yields a RunningCopy, and counts the copy until its end. The caller makes the copy, and
        undoes it if necessary, within the context.

        - `share` is charged for the copy. Raise TooMuchAtOnce, without waiting, if it may have no further one.
        - `token` returns an access token of the caller.
        - `receive` returns the next message of the client, and must have returned the whole body of the request.
        """
        if not self._in_progress.try_take(1, share):
            raise self._in_progress.refused("too many directories are being copied at once; try again in a few seconds")
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
            self._in_progress.give(1, share)
            await asyncio.gather(leaving, return_exceptions=True)


async def copy_tree(
    services: Services, copy: RunningCopy, *, space: SpaceId, request: RequestId, source: Node, to: CreateNode
) -> Node:
    """Make the directory `to` with a copy of everything below the directory `source`; return the new directory.

    A copy that is not completed is undone. Raise MutationRefused if a node cannot be created, and the errors of
    `RunningCopy.interrupting`.
    """
    made: Node | None = None
    try:
        with copy.interrupting():
            token = await copy.token()
            answer = await commit_mutations(services, token, space=space, request=request, mutations=[to])
            made = accepted(answer.results[-1])
            every = copy_below(services, copy.token, space=space, request=request, source=source.id, target=made.id)
            async with aclosing(every):
                async for _ in every:
                    pass
    except BaseException as error:
        if copy.valid_token and (made is not None or may_have_taken_effect(error)):
            await request_undo(services, copy.valid_token, space=space, copy=request)
        raise
    return made


def undo_of(request: RequestId) -> RequestId:
    """Return the id of the request that undoes the copy that `request` names."""
    return derived_request_id(request, 2**32 - 1)


def may_have_taken_effect(error: BaseException) -> bool:
    """Return True if a commit that has raised `error` may have been recorded all the same: if the error is no refusal,
    or if only the last one of several attempts was refused.
    """
    return not isinstance(error, SynclineError) or error.kind not in _REFUSALS or error.is_of_repetition


async def request_undo(services: Services, token: str, *, space: SpaceId, copy: RequestId) -> None:
    """Undo the copy whose first commit is the request `copy`: its nodes go to the trash, and what it has replaced is
    restored, by one commit of metadata, whatever right the caller has by now. Nothing is changed if the first commit
    was not recorded. `token` is valid for UNDO_SECONDS.

    The undo is not interrupted, and is repeated while it is refused for a time or the first commit may still arrive,
    for at most UNDO_SECONDS; metadata completes an undo that has begun. An error is logged and not raised, because the
    caller gets the error that ended the copy.
    """
    with CancelScope(shield=True):
        # A task of its own has its own waiting policy: an exhausted rate would keep the undo waiting for too long.
        await asyncio.create_task(_undone(services, token, space, copy))


async def _undone(services: Services, token: str, space: SpaceId, copy: RequestId) -> None:
    set_patience(CallPatience())
    asked = metadata_pb2.UndoCopyRequest(space_id=space, request_id=undo_of(copy), copy_request_id=copy)
    missing_until: float | None = None
    try:
        async with asyncio.timeout(UNDO_SECONDS):
            while True:
                try:
                    await ask(services.metadata.UndoCopy, asked, token=token)
                except RequestIdReused:
                    return  # the id names nothing but this undo, so another request under it has undone the copy
                except NoSuchRequest:
                    # The first commit is not repeated to find out what became of it: one that has never arrived would
                    # take effect by that. One that was sent while the right lasted may take effect for ASK_SECONDS
                    # more.
                    if missing_until is None:
                        missing_until = time.monotonic() + 2 * ASK_SECONDS
                    elif time.monotonic() > missing_until:
                        return
                    await asyncio.sleep(_UNDO_PAUSE_SECONDS)
                except SynclineError as error:
                    if error.kind not in _TRANSIENT:
                        raise
                    await asyncio.sleep(_UNDO_PAUSE_SECONDS)
                else:
                    return
    except TimeoutError:
        # Metadata may still be at work: it continues an undo without its caller, and logs how the undo ends.
        log.warning("copy not known to be undone", seconds=UNDO_SECONDS)
    except SynclineError as error:
        log.warning("copy not undone", reason=error.reason)
    except grpc.aio.AioRpcError as error:
        # A metadata service of the preceding release does not have the call (UNIMPLEMENTED).
        log.warning("copy not undone", reason=error.code().name)


async def _interrupt_when_gone(receive: Receive, ending: Interruption) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    ending.interrupt(ClientGone())
