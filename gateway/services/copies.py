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
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from anyio import CancelScope

from gateway.services.calls import CallPatience, Services, ask, set_patience
from gateway.services.changes import accepted, commit_mutations, refusal
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
    RateExceeded,
    RequestIdReused,
    SynclineError,
    TokenExpired,
)
from syncline.model.identifiers import RequestId, SpaceId, derived_request_id
from syncline.model.tree import CreateNode, Mutation, Node

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
"""Kinds of errors after which nothing of a commit was recorded."""
_PASSING: Final = frozenset({Kind.UNAVAILABLE, Kind.DEADLINE, Kind.EXHAUSTED})
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

    def __init__(self, under_way: Pool, *, seconds: float = COPY_SECONDS) -> None:
        """`under_way` is the pool that bounds the number of copies, and `seconds` the maximum duration of each."""
        self._under_way = under_way
        self._seconds = seconds

    @asynccontextmanager
    async def running(self, share: Share, token: Token, receive: Receive) -> AsyncIterator[RunningCopy]:
        """Context manager that yields a RunningCopy, and counts the copy until its end. The caller makes the copy, and
        undoes it if necessary, within the context.

        - `share` is charged for the copy. Raise TooMuchAtOnce, without waiting, if it may have no further one.
        - `token` returns an access token of the caller.
        - `receive` returns the next message of the client, and must have returned the whole body of the request.
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


@dataclass(frozen=True, slots=True)
class FirstCommit:
    """The commit with which a copy begins. Its last mutation makes the node of the copy; one before it may delete the
    node that has the name. The ids of all further commits of the copy follow from `request`.
    """

    space: SpaceId
    request: RequestId
    mutations: Sequence[Mutation]

    async def send(self, services: Services, token: str) -> metadata_pb2.CommitChangesResponse:
        """Commit the mutations, all of them or none, and return the answer. A repetition has the same answer."""
        return await commit_mutations(
            services,
            token,
            space=self.space,
            request=self.request,
            mutations=self.mutations,
            all_or_nothing=len(self.mutations) > 1,
        )


async def copy_tree(
    services: Services, copy: RunningCopy, *, space: SpaceId, request: RequestId, source: Node, to: CreateNode
) -> Node:
    """Make the directory `to` with a copy of everything below the directory `source`; return the new directory.

    A copy that is not completed is undone. Raise MutationRefused if a node cannot be created, and the errors of
    `RunningCopy.interrupting`.
    """
    made: Node | None = None
    first = FirstCommit(space, request, [to])
    try:
        with copy.interrupting():
            answer = await first.send(services, await copy.token())
            made = accepted(answer.results[-1])
            every = copy_below(services, copy.token, space=space, request=request, source=source.id, target=made.id)
            async with aclosing(every):
                async for _ in every:
                    pass
    except BaseException as error:
        if copy.valid_token and (made is not None or may_have_taken_effect(error)):
            await request_undo(services, copy.valid_token, first, is_made=made is not None)
        raise
    return made


def undo_of(request: RequestId) -> RequestId:
    """Return the id of the request that undoes the copy that `request` names."""
    return derived_request_id(request, 2**32 - 1)


def may_have_taken_effect(error: BaseException) -> bool:
    """Return True if a commit that has raised `error` may have been recorded all the same."""
    return not isinstance(error, SynclineError) or error.kind not in _REFUSALS


async def request_undo(services: Services, token: str, first: FirstCommit, *, is_made: bool) -> None:
    """Undo the copy that `first` has begun: its nodes go to the trash, and what it has replaced is restored, by one
    commit of metadata, whatever right the caller has by now. `is_made` is False if the answer to `first` is not known.
    `token` is valid for UNDO_SECONDS.

    The undo is not interrupted, and is repeated while it is refused for a time, for at most UNDO_SECONDS; metadata
    completes an undo that has begun. An error is logged and not raised, since the caller gets the error that ended the
    copy.
    """
    with CancelScope(shield=True):
        # A task of its own has its own waiting policy: an exhausted rate would keep the undo waiting for too long.
        await asyncio.create_task(_undone(services, token, first, is_made=is_made))


async def _undone(services: Services, token: str, first: FirstCommit, *, is_made: bool) -> None:
    set_patience(CallPatience())
    asked = metadata_pb2.UndoCopyRequest(
        space_id=first.space, request_id=undo_of(first.request), copy_request_id=first.request
    )
    # A commit that was sent while the right lasted may take effect for ASK_SECONDS more.
    last = time.monotonic() + 2 * ASK_SECONDS
    try:
        async with asyncio.timeout(UNDO_SECONDS):
            while True:
                try:
                    if not is_made:
                        found = await _is_made(services, token, first)
                        if found is False:
                            return
                        is_made = found is True
                    await ask(services.metadata.UndoCopy, asked, token=token)
                except RequestIdReused:
                    return  # the id names nothing but this undo, so another request under it has undone the copy
                except NoSuchRequest:
                    if time.monotonic() > last:
                        return
                    await asyncio.sleep(_UNDO_PAUSE_SECONDS)
                except SynclineError as error:
                    if error.kind not in _PASSING:
                        raise
                    await asyncio.sleep(_UNDO_PAUSE_SECONDS)
                else:
                    return
    except (SynclineError, TimeoutError) as error:
        log.warning("copy not undone", reason=error.reason if isinstance(error, SynclineError) else "DEADLINE")


async def _is_made(services: Services, token: str, first: FirstCommit) -> bool | None:
    """Return True if the commit `first` has made the node of the copy, after a repetition of it, and False if it was
    refused. Return None if a repetition is refused before it tells that.
    """
    try:
        answer = await first.send(services, token)
    except (*RIGHT_LOST, RateExceeded):
        return None
    return refusal(answer.results[-1]) is None


async def _interrupt_when_gone(receive: Receive, ending: Interruption) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    ending.interrupt(ClientGone())
