"""The data of one WebDAV request: spaces, nodes and records, as the services and the store return them to the caller.
Each value is cached until the end of the request. Used in a worker thread.

The services are called only on behalf of the caller; their refusals become `DavRefused`, with WebDAV's status.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from gateway.dav.parts import MOUNT
from gateway.dav.refusals import DavRefused, refused_by
from gateway.identity.caller import Caller
from gateway.records.ports import MAX_READ_BYTES, NOTHING, Record, Records
from gateway.services.calls import Services, ask, known_node
from gateway.services.changes import commit_mutations, refusal
from gateway.services.copies import request_undo
from gateway.services.trees import Token, copy_below, pages_of
from gateway.threads import wait
from runtime.interruption import ASK_SECONDS
from syncline.auth.v1 import auth_pb2
from syncline.metadata.v1 import metadata_pb2
from syncline.model.errors import NoSuchNode, SynclineError
from syncline.model.identifiers import ROOT, DeviceId, NodeId, RequestId, SpaceId, UserId, new_request_id
from syncline.model.limits import MAX_CHECKED_RIGHTS
from syncline.model.tree import Content, DeleteNode, Mutation, Node, NodeKind, Result
from syncline.model.verdicts import Verdict
from syncline.wire.tree import content_from_wire, result_from_wire

T = TypeVar("T")

WRITING_SECONDS: Final = 1.0
"""Seconds for which a check of the right to write is valid, because one change writes several records."""
_PAGE_ITEMS: Final = 1000
_PAGE_VERSIONS: Final = 10
WRITING: Final = frozenset({auth_pb2.ROLE_EDITOR, auth_pb2.ROLE_OWNER})


@dataclass(frozen=True, slots=True)
class DavSpace:
    """A space in which the caller has a grant."""

    id: SpaceId
    name: str
    writable: bool
    owned: bool = False
    """True if the caller is an owner of the space."""


@dataclass(frozen=True, slots=True)
class Person:
    """The authenticated sender of a request, with the spaces in which they have a grant."""

    user: UserId
    device: DeviceId
    """The id of the sender's device: the program that has the key, or the device that the access token was
    issued to.
    """
    caller: Caller
    spaces: dict[str, DavSpace]
    """The spaces by their aliases, which are their names in addresses."""


@dataclass(frozen=True, slots=True)
class DavUsage:
    """The number of bytes that a space uses, and the maximum of this number."""

    used: int
    quota: int


class AskRight(Protocol):
    """Port by which a session checks with auth whether the caller still has a right."""

    async def __call__(self, space: SpaceId, *, writes: bool) -> None:
        """Ask auth if the caller may read in the space now, or, if `writes`, write in it. Raise the SynclineError of
        auth if the caller may not.
        """


class Pay(Protocol):
    """Port that applies the rate limit of property bytes (bytes of the properties that WebDAV clients set) to the
    caller.
    """

    async def __call__(self, size: int, *, refusable: bool) -> None:
        """Wait until the rate limit of the caller admits `size` further bytes of properties. If too many requests of
        the caller wait already and `refusable` is True, raise RateExceeded at once, and count nothing.
        """


def by_alias(spaces: Iterable[auth_pb2.Space]) -> dict[str, DavSpace]:
    """Return the spaces by alias: the name of a space in the paths of the caller, and its id if it has no alias."""
    # an auth service of the preceding release sends no aliases: the id is used, because it never means another space
    found = ((pb.alias or pb.space_id, pb) for pb in spaces)
    return {
        alias: DavSpace(SpaceId(pb.space_id), alias, pb.role in WRITING, pb.role == auth_pb2.ROLE_OWNER)
        for alias, pb in found
    }


class DavSession:
    """Makes the calls of one request to the services, and caches their answers."""

    def __init__(
        self,
        services: Services,
        records: Records,
        person: Person,
        loop: asyncio.AbstractEventLoop,
        *,
        ask_right: AskRight,
        monotonic: Callable[[], float] = time.monotonic,
        mount: str = MOUNT,
        waiting: Callable[[], AbstractAsyncContextManager[object]] = nullcontext,
        pay: Pay | None = None,
    ) -> None:
        """- `person` has just been authenticated; the spaces may be up to REMEMBERED_SECONDS old.
        - `ask_right` checks the right to read or write records, because no service protects them: to read, once
          ASK_SECONDS have passed since the request began or since the last check; to write, once WRITING_SECONDS have
          passed since the last check. The times are those of the clock `monotonic`, in seconds.
        - `mount` is the path of WebDAV in the address that the client uses.
        - `waiting` returns a context manager, which is entered on the event loop around everything that a worker waits
          for.
        - `pay` applies the rate limit of property bytes, if there is one.
        """
        self.mount = mount
        self._waiting = waiting
        self._services = services
        self._records = records
        self._ask_right = ask_right
        self._monotonic = monotonic
        self._began_at = monotonic()
        self._asked_at: dict[tuple[SpaceId, bool], float] = {}
        """The clock's times at which auth last confirmed a right, by space and kind of right: False for reading, True
        for writing.
        """
        self._loop = loop
        self.person = person
        self.began = time.time()
        self._nodes: dict[tuple[SpaceId, tuple[str, ...]], Node | None] = {}
        self._held: dict[tuple[SpaceId, str], Record] = {}
        self._all: dict[tuple[SpaceId, str], Mapping[str, Record] | None] = {}
        """All records of a space with a prefix of names, by space and prefix; None if the records are too large to
        hold.
        """
        self._usage: dict[SpaceId, DavUsage] = {}
        self._pay = pay
        self._owed = 0
        self._commit_token = ""
        """The access token of the last commit; empty before the first one."""

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the coroutine `work` on the event loop, and return its result to the calling worker thread. Raise
        DavRefused if it raises a SynclineError.
        """

        async def waited_for() -> T:
            async with self._waiting():
                return await work

        try:
            return wait(waited_for(), self._loop)
        except SynclineError as error:
            raise refused_by(error) from error

    async def _check_right(self, space: DavSpace, *, writes: bool = False) -> None:
        """Check that the caller may read the records of a space, or, if `writes`, write them. Raise the error of auth
        if the caller may not. Auth is asked again after a while, because a request may last long.
        """
        asked_at = self._asked_at.get((space.id, writes), -math.inf if writes else self._began_at)
        if self._monotonic() - asked_at > (WRITING_SECONDS if writes else ASK_SECONDS):
            await self._ask_right(space.id, writes=writes)
            self._note_right(space, writes=writes)

    def _note_right(self, space: DavSpace, *, writes: bool) -> None:
        self._asked_at[space.id, writes] = self._monotonic()

    async def _ask(self, method: Callable[..., Awaitable[T]], request: Any) -> T:
        return await ask(method, request, token=await self.person.caller.fresh())

    def _each(self, found: AsyncGenerator[T, None]) -> Iterator[T]:
        """Yield the items of `found`, a generator that runs on the event loop, to the calling worker thread. Raise
        DavRefused if it raises a SynclineError.
        """

        async def following() -> T | None:
            return await anext(found, None)

        try:
            while (one := self.wait(following())) is not None:
                yield one
        finally:
            self.wait(found.aclose())

    def owe(self, size: int) -> None:
        """Add `size`, a number of bytes of stored properties that were read or written, to what `settle` charges."""
        self._owed += size

    async def admit(self) -> None:
        """Wait until the rate limit for bytes of stored properties admits a request of the caller.

        Raise RateExceeded if too many requests of the caller wait already.
        """
        if self._pay is not None:
            await self._pay(1, refusable=True)

    async def settle(self) -> None:
        """Charge the bytes of stored properties that were added by `owe` to the caller, and wait until the rate limit
        admits them. Called on the event loop, not in a worker thread.
        """
        owed, self._owed = self._owed, 0
        if owed and self._pay is not None:
            await self._pay(owed, refusable=False)

    # ---- nodes ----

    def find(self, space: DavSpace, names: tuple[str, ...]) -> Node | None:
        """Return the node at the path `names` in the space; None if there is none outside of the trash. For the root of
        the space, which has the path (), only the id and the name of the returned node have a meaning.
        """
        if not names:
            return Node(ROOT, ROOT, space.name, NodeKind.DIRECTORY)
        key = (space.id, names)
        if key not in self._nodes:
            request = metadata_pb2.GetNodeRequest(space_id=space.id, path="/".join(names))
            self._nodes[key] = self.wait(self._found(request))
        return self._nodes[key]

    def node(self, space: DavSpace, node: NodeId) -> Node | None:
        """Return the node with this id; None if there is none outside of the trash."""
        return self.wait(self._found(metadata_pb2.GetNodeRequest(space_id=space.id, node=node)))

    def contents(self, space: DavSpace, node: Node) -> list[Content]:
        """Return the contents of the last versions of a file, up to ten, the current one first."""
        request = metadata_pb2.ListVersionsRequest(space_id=space.id, node=node.id, page_size=_PAGE_VERSIONS)
        answer = self.wait(self._ask(self._services.metadata.ListVersions, request))
        return [content_from_wire(one.content) for one in answer.versions]

    def look_ahead(self, space: DavSpace, names: tuple[str, ...], *, records: Sequence[str]) -> None:
        """Read together, and cache, the values that a change of the node at the path `names` needs: the node, its
        parent directory, and the records with the names `records`. The service that returns the nodes also checks the
        caller's right to read the space.
        """

        async def together() -> tuple[list[Node | None], Mapping[str, Record]]:
            requests = [metadata_pb2.GetNodeRequest(space_id=space.id, path="/".join(path)) for path in paths]
            return await asyncio.gather(
                asyncio.gather(*map(self._found, requests)), self._records.read(space.id, records)
            )

        paths = [path for path in (names, names[:-1]) if path]
        nodes, read = self.wait(together())
        for path, node in zip(paths, nodes, strict=True):
            self._nodes[space.id, path] = node
        for record in records:
            self._held[space.id, record] = read.get(record, NOTHING)

    async def _found(self, request: metadata_pb2.GetNodeRequest) -> Node | None:
        try:
            answer = await self._ask(self._services.metadata.GetNode, request)
        except NoSuchNode:
            return None
        return known_node(answer.node)

    def pages(self, space: DavSpace, parent: NodeId) -> Iterator[list[Node]]:
        """Yield the nodes in a directory, by name, a thousand at a time."""
        return self._each(pages_of(self._services, self.person.caller.fresh, space.id, parent, size=_PAGE_ITEMS))

    def usage(self, space: DavSpace) -> DavUsage:
        """Return the bytes that a space uses and its quota, as this request first read them."""
        if space.id not in self._usage:
            request = metadata_pb2.GetSpaceRequest(space_id=space.id)
            answer = self.wait(self._ask(self._services.metadata.GetSpace, request))
            self._usage[space.id] = DavUsage(answer.used_bytes, answer.quota_bytes)
        return self._usage[space.id]

    def writers(self, space: DavSpace, devices: Collection[DeviceId]) -> frozenset[DeviceId]:
        """Return those of `devices` (clients, browsers or keys) with which somebody may write in the space now."""

        async def found() -> frozenset[DeviceId]:
            asked, writers = sorted(devices), set[DeviceId]()
            for start in range(0, len(asked), MAX_CHECKED_RIGHTS):
                some = asked[start : start + MAX_CHECKED_RIGHTS]
                request = auth_pb2.CheckWritersRequest(space_id=space.id, device_ids=some)
                answer = await self._ask(self._services.auth.CheckWriters, request)
                writers.update(map(DeviceId, answer.device_ids))
            return frozenset(writers)

        return self.wait(found())

    def commit(
        self,
        space: DavSpace,
        mutations: Sequence[Mutation],
        *,
        request: RequestId | None = None,
        all_or_nothing: bool = False,
    ) -> list[Result | DavRefused]:
        """Apply mutations of a space in one commit, and return for each its result, or the refusal, in order. If one
        is refused, the others are applied all the same, unless `all_or_nothing` is True. `request` is the id of the
        commit; None stands for a new id.

        Raise DavRefused if the commit as a whole is refused; nothing is changed then.
        """
        self._nodes.clear()
        answer = self.wait(self._committed(space, mutations, request=request, all_or_nothing=all_or_nothing))
        results: list[Result | DavRefused] = []
        for pb in answer.results:
            error = refusal(pb)
            results.append(result_from_wire(pb) if error is None else refused_by(error))
        return results

    async def _committed(
        self,
        space: DavSpace,
        mutations: Sequence[Mutation],
        *,
        request: RequestId | None = None,
        all_or_nothing: bool = False,
    ) -> metadata_pb2.CommitChangesResponse:
        token = self._commit_token = await self.person.caller.fresh()
        answer = await commit_mutations(
            self._services,
            token,
            space=space.id,
            request=request or new_request_id(),
            mutations=mutations,
            all_or_nothing=all_or_nothing,
        )
        self._note_right(space, writes=True)  # metadata has just checked it
        return answer

    def commit_one(self, space: DavSpace, mutation: Mutation, *, request: RequestId | None = None) -> Node:
        """Apply one mutation of a space, and return the node's new state. Raise DavRefused if it is refused. `request`
        is the id of the commit; by default it gets a new one.
        """
        return accepted_or_raise(self.commit(space, [mutation], request=request)[0])

    def replace(
        self, space: DavSpace, there: Node | None, change: Mutation, *, request: RequestId | None = None
    ) -> Node:
        """Apply `change`, which gives the name of the node `there` to another node, and return the other node. The node
        `there` goes to the trash in the same commit; None stands for a name that is free. `request` is the id of the
        commit; by default it gets a new one. Raise DavRefused, with nothing changed, if a part of that is refused.
        """
        mutations = [change] if there is None else [DeleteNode(there.id, there.version), change]
        *deleted, changed = self.commit(space, mutations, request=request, all_or_nothing=len(mutations) > 1)
        for one in deleted:
            accepted_or_raise(one)
        if there is not None and isinstance(changed, DavRefused):
            # A metadata service of the preceding release decides each mutation by itself.
            self.restore(space, there.id)
        return accepted_or_raise(changed)

    def copy_below(
        self, space: DavSpace, source: NodeId, target: NodeId, token: Token, *, request: RequestId
    ) -> AsyncGenerator[list[tuple[NodeId, NodeId]], None]:
        """Copy everything below the directory `source` to below the directory `target`, and yield the pairs of the ids
        of source and copy, commit by commit (`gateway.services.trees.copy_below`). `token` returns an access token for
        each call, and the ids of the commits are derived from `request`. Called on the event loop, not in a worker
        thread.
        """
        self._nodes.clear()
        return copy_below(self._services, token, space=space.id, request=request, source=source, target=target)

    def undo_copy(self, space: DavSpace, copy: RequestId, *, token: str = "") -> None:
        """Undo the copy whose first commit is the request `copy`, as `gateway.services.copies.request_undo` does.
        `token` is the last access token of the copy; if empty, the one of the last commit.
        """
        self._nodes.clear()
        if valid := token or self._commit_token:
            self.wait(request_undo(self._services, valid, space=space.id, copy=copy))

    def restore(self, space: DavSpace, node: NodeId, *, parent: NodeId | None = None, name: str = "") -> Node:
        """Restore a node from the trash, into the directory `parent` (by default its former one) under `name` (by
        default its former one), and return its new state. Raise DavRefused if that is refused.
        """
        self._nodes.clear()
        answer = self.wait(self._restored(space, node, parent=parent, name=name))
        error = refusal(answer.result)
        if error is not None:
            raise refused_by(error)
        return known_node(answer.result.node)

    async def _restored(
        self, space: DavSpace, node: NodeId, *, parent: NodeId | None = None, name: str = ""
    ) -> metadata_pb2.RestoreNodeResponse:
        request = metadata_pb2.RestoreNodeRequest(
            space_id=space.id, request_id=new_request_id(), node=node, parent=parent or b"", name=name
        )
        return await self._ask(self._services.metadata.RestoreNode, request)

    # ---- records ----

    def record(self, space: DavSpace, name: str, *, anew: bool = False) -> Record:
        """Return the record `name` of a space as this request first read it, or, with `anew`, as it is stored now. A
        record that does not exist is empty. Raise DavRefused if the caller may no longer read in the space, or the
        store does not answer.
        """
        if anew or (space.id, name) not in self._held:
            self.records(space, [name])
        return self._held[space.id, name]

    def records(self, space: DavSpace, names: Sequence[str]) -> None:
        """Read the records `names` together and cache them. Raise DavRefused if the caller may no longer read in the
        space, or the store does not answer.
        """

        async def read() -> Mapping[str, Record]:
            await self._check_right(space)
            return await self._records.read(space.id, names)

        self.hold(space, names, self.wait(read()))

    def read_all(self, space: DavSpace, prefix: str) -> Mapping[str, Record] | None:
        """Return all records whose names begin with `prefix`, by name, as this request first read them; None if they
        are larger than MAX_READ_BYTES together. Raise DavRefused if the caller may no longer read in the space, or the
        store does not answer.
        """
        key = (space.id, prefix)

        async def read_all() -> Mapping[str, Record] | None:
            await self._check_right(space)
            return await self._records.read_all(space.id, prefix)

        if key not in self._all:
            read = self._all[key] = self.wait(read_all())
            self.owe(MAX_READ_BYTES if read is None else sum(len(one.data) for one in read.values()))
        return self._all[key]

    def has_asked_for_all(self, space: DavSpace, prefix: str) -> bool:
        """Return True if `read_all` was called for `prefix` in this request, so that its result is cached."""
        return (space.id, prefix) in self._all

    def hold(self, space: DavSpace, names: Iterable[str], read: Mapping[str, Record]) -> None:
        """Cache the records `names` of a space as they were read. `read` has those that exist, by name; the others are
        cached as missing.
        """
        for name in names:
            self._held[space.id, name] = read.get(name, NOTHING)

    def forget(self, space: DavSpace, names: Iterable[str]) -> None:
        """Drop the records `names` of a space from the cache, so that the next access reads them again."""
        for name in names:
            self._held.pop((space.id, name), None)

    def write(self, space: DavSpace, name: str, data: bytes, *, expires_at: float | None = None) -> None:
        """Write `data` as the record `name` of a space, or remove the record if `data` is empty. The record is dropped
        from the cache. The store may drop the record from `expires_at` on, in seconds since 1970; None keeps it.

        Nothing is written, and an error is raised, in these cases:

        - RecordMoved if another request has written the record since this request read it; a record that this request
          has not read must not exist;
        - DavRefused if the caller may no longer write in the space, or the store does not answer.
        """
        over = self._held.pop((space.id, name), NOTHING)

        async def write() -> None:
            await self._check_right(space, writes=True)
            await self._records.write(space.id, name, data, over=over, expires_at=expires_at)

        self.wait(write())


def accepted_or_raise(result: Result | DavRefused) -> Node:
    """Return the new state of the node if `result` is a Result, which must be that of an accepted mutation. If the
    mutation was refused, `result` is a DavRefused: raise it.
    """
    if isinstance(result, DavRefused):
        raise result
    assert result.verdict is Verdict.ACCEPTED
    assert result.node is not None, "what was accepted has a node"
    return result.node
