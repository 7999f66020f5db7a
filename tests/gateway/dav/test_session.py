"""Spaces in addresses, statuses of what is refused, locks that processes want at once, and long work."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from wsgidav.dav_error import DAVError

from gateway.dav import properties
from gateway.dav.locks import Locks
from gateway.dav.protocol import segments
from gateway.dav.refusals import DavRefused, error_page, refused_by
from gateway.dav.session import DavSession, DavSpace, Person, by_alias
from gateway.dav.upload import SpaceStorage, UploadCredentials
from gateway.identity.caller import Caller, KeyTokens
from gateway.services.calls import Services
from gateway.services.changes import refusal
from runtime.pool import Share
from syncline.auth.v1 import auth_pb2
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.chunking import Block, digest_of
from syncline.model.identifiers import ROOT, DeviceId, NodeId, SpaceId, UserId, new_request_id
from syncline.model.limits import MAX_CHECKED_RIGHTS
from syncline.model.tree import DeleteNode, Node, NodeKind
from syncline.model.verdicts import Verdict
from syncline.wire.tree import node_to_wire
from tests.support.records import InMemoryRecords
from tests.support.rights import Rights
from tests.support.storage import InMemoryObjectSink, InMemoryObjectSource

SPACE = DavSpace(SpaceId("a" * 26), "Spaß", True)


def test_a_space_is_addressed_by_its_alias_alone():
    def pb(alias, space_id, role):
        return auth_pb2.Space(space_id=space_id * 26, name="Project", alias=alias, role=role)

    found = by_alias(
        [
            pb("Project (bbbbbb)", "b", auth_pb2.ROLE_EDITOR),
            pb("Project", "c", auth_pb2.ROLE_VIEWER),
            pb("", "a", auth_pb2.ROLE_OWNER),  # an auth service that knows no aliases yet says this
        ]
    )
    assert {name: (space.id[0], space.writable) for name, space in found.items()} == {
        "Project (bbbbbb)": ("b", True),
        "Project": ("c", False),
        "a" * 26: ("a", True),
    }


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        (Verdict.QUOTA_EXCEEDED, 507),
        (Verdict.NODES_EXCEEDED, 507),
        (Verdict.NAME_TAKEN, 409),
        (Verdict.PARENT_NOT_FOUND, 409),
        (Verdict.VERSION_CONFLICT, 409),
        (Verdict.NAME_INVALID, 400),
        (Verdict.CYCLE, 403),
        (Verdict.NODE_NOT_FOUND, 404),
    ],
)
def test_what_is_refused_has_a_status_of_webdav(verdict, status):
    error = refusal(journal_pb2.MutationResult(verdict=journal_pb2.Verdict.ValueType(verdict.value)))
    assert error is not None
    told, body, headers = error_page(refused_by(error))
    assert told == status
    assert f"<s:exception>{verdict.name}</s:exception>".encode() in body
    assert headers["content-type"] == "application/xml; charset=utf-8"


@pytest.mark.parametrize(
    ("raw", "path"),
    [("/dav", "/"), ("/dav/", "/"), ("/dav/a%20b/c;d%3Fe%23f/", "/a b/c;d?e#f/"), ("/dav/%2541", "/%41")],
)
def test_an_address_is_decoded_once_by_name(raw, path):
    assert segments(raw) == path


@pytest.mark.parametrize("raw", ["/davx", "/other", "/dav/a%2Fb", "/dav/%ff"])
def test_an_address_that_is_none_of_ours_is_refused(raw):
    with pytest.raises(DavRefused):
        segments(raw)


def session(records, user="ann", members=("ann", "ben"), *, device="laptop", ended=()):
    person = Person(UserId(user), DeviceId(f"{device} of {user}"), Caller("token"), {SPACE.name: SPACE})
    return DavSession(auth_of(members, ended), records, person, asyncio.get_running_loop(), ask_right=Rights())


def auth_of(members, ended) -> Any:
    """Services of which only auth is asked: by the devices of members somebody may write that have not ended."""

    async def check_writers(request, **_more):
        assert len(request.device_ids) <= MAX_CHECKED_RIGHTS
        writers = [one for one in request.device_ids if one.partition(" of ")[2] in members and one not in ended]
        return auth_pb2.CheckWritersResponse(device_ids=writers)

    return SimpleNamespace(auth=SimpleNamespace(CheckWriters=check_writers))


def acquire(locks, url, user="ann", depth="infinity", owner=b""):
    try:
        lock = locks.acquire(
            url=url,
            lock_type="write",
            lock_scope="exclusive",
            lock_depth=depth,
            lock_owner=owner,
            timeout=60,
            principal=user,
            token_list=[],
        )
    except DAVError as error:
        return None if error.value == 423 else str(error)
    return lock["token"]


class Slow(InMemoryRecords):
    """These records let others have their turn between reading and writing."""

    async def read(self, space, names):
        found = await super().read(space, names)
        await asyncio.sleep(0.01)
        return found


async def test_of_many_processes_that_lock_at_once_one_does():
    records = Slow()
    above, below = "/Spa%C3%9F/a", "/Spa%C3%9F/a/b"
    wanted = [above, below] * 3
    everybody = [f"user {i}" for i in range(len(wanted))]
    tokens = await asyncio.gather(
        *(
            asyncio.to_thread(acquire, Locks(session(records, members=everybody), home=url), url, everybody[i])
            for i, url in enumerate(wanted)
        )
    )
    assert len([token for token in tokens if token]) == 1


async def test_a_lock_binds_all_processes_until_it_is_released():
    records, url = InMemoryRecords(), "/Spa%C3%9F/a"

    def story():
        token = acquire(Locks(session_, home=url), url)
        other = Locks(other_, home=url)
        with pytest.raises(DAVError):
            other.check_write_permission(url=f"{url}/b", depth="0", token_list=[], principal="ben")
        with pytest.raises(DAVError):  # the token alone is not enough
            other.check_write_permission(url=f"{url}/b", depth="0", token_list=[token], principal="ben")
        own = Locks(session_, home=url)
        own.check_write_permission(url="/Spa%C3%9F", depth="infinity", token_list=[token], principal="ann")
        assert own.refresh(token, timeout=10**9)["timeout"] == 24 * 3600
        own.release(token)
        other.look_again()
        other.check_write_permission(url=f"{url}/b", depth="0", token_list=[], principal="ben")

    session_, other_ = session(records), session(records, "ben")
    await asyncio.to_thread(story)


async def test_one_person_leaves_others_as_many_locks_as_they_have_themselves():
    records = InMemoryRecords()

    def take(own: DavSession, user: str) -> int:
        """Return how many locks a person gets, until they are told that they have too many."""
        for count in range(1000):
            url = f"/Spa%C3%9F/{user}{count}"
            told = acquire(Locks(own, home=url), url, user, "0", owner=b"x" * 1900)
            if told is None or not told.startswith("urn:uuid:"):
                assert "leave free for others" in str(told)
                return count
        raise AssertionError("there is no end")

    ann = await asyncio.to_thread(take, session(records), "ann")
    ben = await asyncio.to_thread(take, session(records, "ben"), "ben")
    assert 50 < ann < 70  # half of 256 KiB, each lock with some 2,100 bytes
    assert ann // 2 <= ben <= ann


async def test_the_root_of_a_space_can_be_locked_and_released():
    records, url = InMemoryRecords(), "/Spa%C3%9F"

    def story():
        own = Locks(session_, home=url)
        token = acquire(own, url)
        assert token.startswith("urn:uuid:")
        assert acquire(Locks(other_, home=f"{url}/a"), f"{url}/a", "ben") is None
        again = Locks(session_, home=url)
        again.look_again()
        again.release(token)
        other = Locks(other_, home=f"{url}/a")
        other.look_again()
        assert acquire(other, f"{url}/a", "ben")

    session_, other_ = session(records), session(records, "ben")
    await asyncio.to_thread(story)


@pytest.mark.parametrize(("members", "locked"), [(["ann", "ben"], True), (["ben"], False)])
async def test_a_lock_ends_with_the_right_to_write(members, locked):
    """Ann has taken it, and is removed, or may only read since."""
    records, url = InMemoryRecords(), "/Spa%C3%9F/a"
    assert await asyncio.to_thread(acquire, Locks(session(records), home=url), url)
    other = Locks(session(records, "ben", members), home=url)
    assert (await asyncio.to_thread(acquire, other, url, "ben") is None) is locked


@pytest.mark.parametrize("asking", ["ann", "ben"])
@pytest.mark.parametrize(("ended", "locked"), [((), True), (("key of ann",), False)])
async def test_a_lock_ends_with_the_key_that_took_it(asking, ended, locked):
    """Ann ends a key of hers, or it expires: it keeps nobody out any more, on whichever device she or another comes."""
    records, url = InMemoryRecords(), "/Spa%C3%9F/a"
    assert await asyncio.to_thread(acquire, Locks(session(records, device="key"), home=url), url)
    other = Locks(session(records, asking, ended=ended), home=url)
    assert (await asyncio.to_thread(acquire, other, url, asking) is None) is locked


async def test_locks_of_any_number_of_devices_are_looked_at():
    records, root = InMemoryRecords(), "/Spa%C3%9F"
    keys = [f"key {number}" for number in range(MAX_CHECKED_RIGHTS + 5)]
    for key in keys:
        url = f"{root}/{key}"
        assert await asyncio.to_thread(acquire, Locks(session(records, device=key), home=url), url)
    for ended, locked in (keys[:-1], True), (keys, False):
        other = Locks(session(records, "ben", ended=[f"{key} of ann" for key in ended]), home=root)
        assert (await asyncio.to_thread(acquire, other, root, "ben") is None) is locked


async def test_properties_that_are_set_at_once_are_all_kept():
    records = Slow()
    sessions = [session(records) for _ in range(4)]
    await asyncio.gather(
        *(
            asyncio.to_thread(properties.change, one, SPACE, ROOT, [(f"{{x}}{i}", "<v/>")])
            for i, one in enumerate(sessions)
        )
    )
    found = await asyncio.to_thread(properties.read_properties, session(records), SPACE, ROOT)
    assert sorted(found) == [f"{{x}}{i}" for i in range(4)]


class Clocked:
    """Services that give a key a token for a quarter of an hour, and take none that is older."""

    def __init__(self):
        self.now = 1_764_000_000.0
        self.issued = {}
        self.changes = 0

    async def exchange(self, _request, metadata):
        token = f"token {len(self.issued)}"
        self.issued[token] = self.now + 900
        tokens = auth_pb2.Tokens(access_token=token, access_expires_at_ms=int(self.issued[token] * 1000))
        return auth_pb2.ExchangeKeyResponse(tokens=tokens)

    def check(self, metadata):
        assert self.issued[dict(metadata)["authorization"].removeprefix("Bearer ")] > self.now

    async def issue(self, _request, metadata):
        self.check(metadata)
        return auth_pb2.IssueCredentialsResponse(access_key_id="a", expires_at_ms=int(self.now * 1000) + 3_600_000)

    async def seal(self, request, metadata):
        self.check(metadata)
        return metadata_pb2.SealObjectsResponse(verdicts=[metadata_pb2.SEAL_VERDICT_SEALED] * len(request.objects))

    async def commit(self, request, metadata):
        self.check(metadata)
        self.changes += 1
        made = node_to_wire(Node(NodeId(b"n" * 16), ROOT, "d", NodeKind.DIRECTORY, version=1))
        result = journal_pb2.MutationResult(verdict=journal_pb2.VERDICT_ACCEPTED, node=made)
        return metadata_pb2.CommitChangesResponse(results=[result] * len(request.mutations))

    async def list(self, request, metadata):
        self.check(metadata)
        self.now += 800  # a large tree takes its time
        child = Node(NodeId(request.parent[:-1] + b"c"), NodeId(request.parent), "d", NodeKind.DIRECTORY, version=1)
        return metadata_pb2.ListNodesResponse(nodes=[node_to_wire(child)] if self.changes < 4 else [])

    @property
    def services(self):
        auth: Any = SimpleNamespace(ExchangeKey=self.exchange, IssueCredentials=self.issue)
        metadata: Any = SimpleNamespace(SealObjects=self.seal, CommitChanges=self.commit, ListNodes=self.list)
        nobody: Any = None
        return Services(auth, metadata, nobody, nobody)


async def holder(clocked):
    return await KeyTokens(clocked.services, now=lambda: clocked.now).caller("key")


async def test_what_takes_longer_than_a_token_lasts_goes_on_with_the_next():
    clocked = Clocked()
    caller = await holder(clocked)
    source = InMemoryObjectSource()
    held = UploadCredentials(now_ms=lambda: int(clocked.now * 1000))
    storage = SpaceStorage(
        clocked.services,
        InMemoryObjectSink(source),
        held,
        space=SPACE.id,
        caller=caller,
        share=Share.alone("ann"),
    )
    person = Person(UserId("ann"), DeviceId("device"), caller, {SPACE.name: SPACE})
    one = DavSession(clocked.services, InMemoryRecords(), person, asyncio.get_running_loop(), ask_right=Rights())
    for i in range(4):
        block = Block(digest_of(bytes([i])), bytes([i]))
        await storage.store([block])
        clocked.now += 800
    await asyncio.to_thread(one.commit, SPACE, [DeleteNode(ROOT, 1)])
    assert len(source.objects) == 4
    assert len(clocked.issued) == 3


async def test_a_tree_whose_copy_takes_longer_than_a_token_lasts_is_copied():
    clocked = Clocked()
    person = Person(UserId("ann"), DeviceId("device"), await holder(clocked), {SPACE.name: SPACE})
    one = DavSession(clocked.services, InMemoryRecords(), person, asyncio.get_running_loop(), ask_right=Rights())
    source, target = NodeId(bytes(15) + b"a"), NodeId(b"b" * 16)
    below = one.copy_below(SPACE, source, target, person.caller.fresh, request=new_request_id())
    copied = [pairs async for pairs in below]
    assert [len(pairs) for pairs in copied] == [1, 1, 1, 1]
    assert len(clocked.issued) == 3
