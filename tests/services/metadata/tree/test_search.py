"""Search by names: against the replay of the journal, within its memory, and as callers meet it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import random
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.metadata.entry import replay
from services.metadata.journal.commit import CommitOutcome, Request
from services.metadata.ports import Sealed
from services.metadata.tree.search import SPACE_WEIGHT, NameSearch, words_of
from services.metadata.tree.view import SpaceView
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.accounts import Role
from syncline.model.blocks import MIN_MEAN_BLOCK_BYTES, Digest
from syncline.model.errors import InvalidArgument
from syncline.model.identifiers import ROOT, NodeId, RequestId, SpaceId, created_node_id, new_request_id, new_text_id
from syncline.model.names import MAX_PATH_NAMES, name_problem
from syncline.model.tree import Content, CreateNode, DeleteNode, MoveNode, Mutation, Node, NodeKind, RestoreNode
from syncline.model.verdicts import Verdict
from syncline.wire.pages import page_token_to_wire
from tests.services.metadata.simulation import SPACE, Process, World, run_virtually
from tests.services.metadata.support import (
    EMPTY_DIGEST,
    UNPROJECTED_SECONDS,
    Caller,
    Service,
    creating,
    reason_of,
    service,
)
from tests.support.journal import small_entry
from tests.support.metadata import MemoryJournal, MemoryTable, still_allowed

J, M = journal_pb2, metadata_pb2
EMPTY = Content(digest=Digest(hashlib.sha256().digest()), size=0)


# ---- against the replay of the journal

NAMES = ["a", "A b", "b", "ab", "a.b", "a-b", "Straße", "STRASSE b", "é", "Éa", "ﬁle a"]
QUERIES = ["a", "b", "A B", "b a", "ss", "É", "e\u0301", "fi", ".", "zz", "a a", "strasse"]
assert not any(map(name_problem, NAMES))


def key(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def expected(nodes: dict[NodeId, Node], query: str) -> list[tuple[str, Node]]:
    """Return the matches by brute force."""

    def names(node: Node) -> list[str] | None:
        if node.deleted_at_ms:
            return None
        if node.parent == ROOT:
            return [node.name]
        above = names(nodes[node.parent])
        return None if above is None else [*above, node.name]

    words = key(query).split()
    found = [(names(node), node) for node in nodes.values() if all(word in key(node.name) for word in words)]
    return sorted((("/".join(path), node) for path, node in found if path is not None), key=lambda one: one[0])


async def search_all(process: Process, query: str, *, limit: int) -> list[tuple[str, Node]]:
    found: list[tuple[str, Node]] = []
    after: str | None = ""
    async with process.spaces.use(SPACE) as live:
        while after is not None:
            page, after = await process.search.search(
                live.view, words_of(query), after=after, limit=limit, account="ann"
            )
            assert len(page) == limit or after is None
            assert page or not found, "a page that says there are more is followed by more"
            found += [(one.path, one.node) for one in page]
    return found


class Story:
    """A tree that changes at random, in either of two processes, and is searched after each few changes."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.world = World(self.rng)
        self.processes = [
            Process(self.world, capacity=self.rng.choice((0, 10, 1000)), most_names=self.rng.choice((0, 12, 25, 1000)))
            for _ in range(2)
        ]

    def nodes(self) -> dict[NodeId, Node]:
        return replay(small_entry(i + 1, blob) for i, blob in enumerate(self.world.journal.entries[SPACE]))

    def mutation(self) -> Mutation:
        rng, nodes = self.rng, list(self.nodes().values())
        directories = [ROOT, ROOT, *(node.id for node in nodes if node.kind is NodeKind.DIRECTORY)]
        where, name = rng.choice(directories), rng.choice(NAMES)
        node = rng.choice(nodes) if nodes else None
        match rng.randrange(8):
            case 0 | 1 if node:
                return MoveNode(node.id, node.parent, node.name, where, name)
            case 2 if node:
                return DeleteNode(node.id, node.version)
            case 3 if deleted := [one for one in nodes if one.deleted_at_ms]:
                return RestoreNode(rng.choice(deleted).id, rng.choice((None, where)), rng.choice(("", name)))
            case 4 | 5:
                return CreateNode(where, name, NodeKind.DIRECTORY)
            case _:
                return CreateNode(where, name, NodeKind.FILE, EMPTY)

    async def commit(self, process: Process) -> CommitOutcome:
        mutations = tuple(self.mutation() for _ in range(self.rng.choice((1, 1, 5))))
        async with process.spaces.use(SPACE) as live:
            request = Request(RequestId(self.rng.randbytes(16)), b"f", "user", "device", mutations, 100)
            return await live.committer.commit(request, ask=still_allowed)

    async def run(self) -> None:
        for _ in range(12):
            for _ in range(self.rng.randint(1, 6)):
                await self.commit(self.rng.choice(self.processes))
            process, query = self.rng.choice(self.processes), self.rng.choice(QUERIES)
            limit = self.rng.choice((1, 2, 3, 1000))
            assert await search_all(process, query, limit=limit) == expected(self.nodes(), query)
            assert process.search.size <= process.search._most


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_search_finds_what_the_journal_says(seed: int) -> None:
    random.seed(seed)
    run_virtually(Story(seed).run())


# ---- memory


async def pause() -> None:
    """Lets others go on meanwhile."""
    await asyncio.sleep(0)


class Spaces:
    """Spaces of some directories each, as one process has them."""

    def __init__(self, most_names: int) -> None:
        self.journal = CountedJournal()
        self.table = MemoryTable()
        self.search = NameSearch(journal=self.journal, most_names=most_names)
        self.world = World(random.Random(1))
        self.world.journal = self.journal
        self.views: dict[SpaceId, SpaceView] = {}

    async def make(self, names: int) -> SpaceId:
        space = SpaceId(new_text_id())
        await self.fill(space, names)
        return space

    async def fill(self, space: SpaceId, names: int, *, called: str = "name") -> None:
        process = Process(self.world)
        process.spaces._journal = self.journal
        async with process.spaces.use(space) as live:
            first = len(self.journal.entries[space])
            for number in range(first, first + names):
                make = CreateNode(ROOT, f"{called} {number}", NodeKind.DIRECTORY)
                answer = await live.committer.commit(
                    Request(new_request_id(), b"f", "u", "d", (make,), 9), ask=still_allowed
                )
                assert answer.results[0].verdict is Verdict.ACCEPTED
        await process.spaces.stop()
        self.journal.reads.clear()

    async def count(self, space: SpaceId, query: str = "name", *, account: str = "ann") -> int:
        view = self.views.setdefault(space, self.view(space))
        found, end = await self.search.search(view, words_of(query), after="", limit=1000, account=account)
        assert end is None
        assert self.search.size <= self.search._most
        return len(found)

    def view(self, space: SpaceId) -> SpaceView:
        return SpaceView(space, journal=self.journal, table=self.world.table, capacity=1000)


class CountedJournal(MemoryJournal):
    """Knows from where it was read, but for looks at the next entry."""

    def __init__(self) -> None:
        super().__init__(pause)
        self.reads: list[int] = []
        self.looks = 0
        self.begun: list[SpaceId] = []
        """The spaces of all reads, in order."""
        self.going = asyncio.Event()
        """Reads wait while this event is cleared."""
        self.going.set()

    async def read(self, space, after, limit):
        self.looks += 1
        self.begun.append(space)
        await self.going.wait()
        found = await super().read(space, after, limit)
        if found:
            self.reads.append(after)
        return found


async def test_what_was_not_searched_for_longest_is_forgotten_first() -> None:
    spaces = Spaces(most_names=3 * (10 + SPACE_WEIGHT) - 1)
    first, second, third = [await spaces.make(10) for _ in range(3)]
    assert [await spaces.count(one) for one in (first, second, first, third)] == [10] * 4
    assert [spaces.search.keeps(one) for one in (first, second, third)] == [True, False, True]
    assert spaces.search.size == 2 * (10 + SPACE_WEIGHT)
    assert await spaces.count(second) == 10
    assert [spaces.search.keeps(one) for one in (first, second, third)] == [False, True, True]


async def test_a_space_larger_than_the_memory_is_searched_without_keeping_it() -> None:
    spaces = Spaces(most_names=40)
    small, large = await spaces.make(10), await spaces.make(60)
    assert await spaces.count(small) == 10
    for _ in range(2):
        assert await spaces.count(large) == 60
        assert await spaces.count(large, "name 5") == 15
        assert not spaces.search.keeps(large)
    assert spaces.search.size <= 10 + SPACE_WEIGHT
    # From now on it leaves alone what others have in memory.
    assert await spaces.count(small) == 10
    assert await spaces.count(large) == 60
    assert spaces.search.keeps(small)


async def test_many_searches_of_one_person_in_a_large_space_do_not_hold_up_others() -> None:
    spaces = Spaces(most_names=40)
    large, other = await spaces.make(60), await spaces.make(60)
    assert [await spaces.count(one) for one in (large, other)] == [60, 60]
    spaces.journal.begun.clear()
    spaces.journal.going.clear()
    asked = [asyncio.create_task(spaces.count(large, account="ann")) for _ in range(5)]
    async with asyncio.timeout(60):
        while not spaces.journal.begun:
            await asyncio.sleep(0)
        asked.append(asyncio.create_task(spaces.count(other, account="ben")))
        while other not in spaces.journal.begun:
            await asyncio.sleep(0)
        assert spaces.journal.begun == [large, other]
        spaces.journal.going.set()
        assert await asyncio.gather(*asked) == [60] * 6


async def test_many_searches_at_once_of_a_space_that_turns_out_to_be_too_large_keep_nothing() -> None:
    spaces = Spaces(most_names=40)
    large = await spaces.make(60)
    assert await asyncio.gather(*(spaces.count(large) for _ in range(5))) == [60] * 5
    assert spaces.search.size == 0


async def test_a_space_that_outgrows_the_memory_is_no_longer_kept() -> None:
    spaces = Spaces(most_names=40)
    space = await spaces.make(30)
    assert await spaces.count(space) == 30
    assert spaces.search.keeps(space)
    await spaces.fill(space, 10)
    assert await spaces.count(space) == 40
    assert not spaces.search.keeps(space)
    assert spaces.search.size == 0


async def test_spaces_that_are_searched_at_once_stay_within_the_memory_together() -> None:
    spaces = Spaces(most_names=40)
    several = [await spaces.make(30) for _ in range(6)]
    assert await asyncio.gather(*(spaces.count(one) for one in several)) == [30] * 6
    assert sum(map(spaces.search.keeps, several)) <= 1


async def test_a_warm_search_reads_no_entry_and_a_later_one_only_what_is_new() -> None:
    spaces = Spaces(most_names=1000)
    space = await spaces.make(20)
    assert await spaces.count(space) == 20
    assert spaces.journal.reads[0] == 0
    assert await spaces.count(space) == 20  # the first that asks whether the index is of this history
    spaces.journal.reads.clear()
    assert await spaces.count(space) == 20
    assert spaces.journal.reads == []
    await spaces.fill(space, 3)
    assert await spaces.count(space) == 23
    assert spaces.journal.reads
    assert min(spaces.journal.reads) >= 19


async def test_searches_that_come_together_share_a_build() -> None:
    spaces = Spaces(most_names=1000)
    space = await spaces.make(70)
    looks = spaces.journal.looks
    assert await asyncio.gather(*(spaces.count(space) for _ in range(10))) == [70] * 10
    assert spaces.journal.looks - looks <= 8
    assert spaces.journal.reads.count(0) == 1
    assert len(spaces.journal.reads) <= 70 // 32 + 3


@pytest.mark.parametrize("most_names", [0, 1000])
async def test_a_search_that_is_cancelled_anywhere_does_the_next_no_harm(most_names: int) -> None:
    spaces = Spaces(most_names)
    space = await spaces.make(70)

    slow = MemoryJournal(pause)
    slow.entries = spaces.journal.entries
    for steps in itertools.count():
        search = NameSearch(journal=slow, most_names=most_names)
        view = SpaceView(space, journal=slow, table=MemoryTable(pause), capacity=1000)
        searching = asyncio.create_task(search.search(view, ("name",), after="", limit=1000, account="ann"))
        for _ in range(steps):
            await asyncio.sleep(0)
        if searching.done():
            break
        searching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await searching
        async with asyncio.timeout(60):
            found, _ = await search.search(view, ("name",), after="", limit=1000, account="ann")
        assert len(found) == 70
        assert search.size == (70 + SPACE_WEIGHT if most_names else 0)
    assert steps > 10


async def test_a_space_that_was_restored_from_a_backup_is_read_anew() -> None:
    spaces = Spaces(most_names=1000)
    space, other = await spaces.make(5), SpaceId(new_text_id())
    assert await spaces.count(space) == 5
    for called in ("name", "another"):
        spaces.journal.entries[other] = spaces.journal.entries[other][:2]
        spaces.world.table = MemoryTable()
        await spaces.fill(other, 4, called=called)
    spaces.journal.entries[space] = spaces.journal.entries[other]
    spaces.views.clear()
    size = spaces.search.size
    assert await spaces.count(space, "name") == 2
    assert await spaces.count(space, "another") == 4
    assert spaces.search.size == size + 1


# ---- as callers meet it


def searching(caller: Caller, query: str, *, size: int = 0, token: str = ""):
    request = M.SearchNodesRequest(space_id=caller.space, query=query, page_size=size, page_token=token)
    return caller.stub.SearchNodes(request)


async def paths(caller: Caller, query: str, *, size: int = 0) -> list[str]:
    found, token = [], ""
    while True:
        answer = await searching(caller, query, size=size, token=token)
        assert len(answer.found) <= (size or 100)
        found += [one.path for one in answer.found]
        if not (token := answer.next_page_token):
            return found


async def test_live_nodes_are_found_with_their_paths(editor: Caller) -> None:
    holidays = await editor.create("Holidays")
    photos = await editor.create("Photos of holidays", parent=holidays.id)
    beach = await editor.create("Beach PHOTO.jpeg", parent=photos.id)
    await editor.create("photo.txt")
    found = (await searching(editor, "photo")).found
    assert [one.path for one in found] == [
        "Holidays/Photos of holidays",
        "Holidays/Photos of holidays/Beach PHOTO.jpeg",
        "photo.txt",
    ]
    assert [one.node for one in found][:2] == [photos, beach]
    assert await paths(editor, "  PHOTO\tof \u00a0") == ["Holidays/Photos of holidays"]
    assert await paths(editor, "photo beach") == ["Holidays/Photos of holidays/Beach PHOTO.jpeg"]
    assert await paths(editor, "photo nothing") == []
    await editor.commit(M.Mutation(delete=M.DeleteNode(node=holidays.id)))
    assert await paths(editor, "photo") == ["photo.txt"]
    restored = M.RestoreNodeRequest(space_id=editor.space, request_id=new_request_id(), node=holidays.id, name="Old")
    await editor.stub.RestoreNode(restored)
    assert await paths(editor, "beach") == ["Old/Photos of holidays/Beach PHOTO.jpeg"]


async def test_case_and_composition_do_not_matter(editor: Caller) -> None:
    names = ["\u00c9t\u00e9", "STRASSE", "stra\u00dfe", "\u039f\u0394\u039f\u03a3", "\u01f0x", "\ufb01le"]
    await editor.commit(*(creating(name) for name in names))
    for query, found in {
        "e\u0301T\u00c9": ["\u00c9t\u00e9"],
        "Stra\u00dfe": ["STRASSE", "stra\u00dfe"],
        "\u03bf\u03b4\u03bf\u03c2": ["\u039f\u0394\u039f\u03a3"],
        "J\u030cX": ["\u01f0x"],
        "FILE": ["\ufb01le"],
    }.items():
        assert await paths(editor, query) == found


def token_after(caller: Caller, last: bytes) -> str:
    """The token that leads on after a path in a search for "a"."""
    return page_token_to_wire(last, listing=f"search {caller.space} a")


async def test_pages_of_any_size_hold_every_match_once_in_the_order_of_paths(editor: Caller) -> None:
    tree = ["a", "a.b", "a-b", "a b", "ab", "z"]
    made = []
    for name in tree:
        create = M.CreateNode(parent=ROOT, name=name, kind=J.NODE_KIND_DIRECTORY)
        made.append((await editor.commit(M.Mutation(create=create))).results[0].node)
    await editor.commit(*(creating(f"a{n}", parent=parent.id) for parent in made for n in range(5)))
    everything = await paths(editor, "a", size=1000)
    assert everything == sorted(everything)
    assert len(everything) == 5 + 30
    for size in (1, 2, 7, 34, 35):
        assert await paths(editor, "a", size=size) == everything
    # A page may begin after what is gone or has never been.
    for after in ("a", "a/", "a/a2", "a/a2/x", "a0", "zz", "a.b"):
        answer = await searching(editor, "a", size=1000, token=token_after(editor, after.encode()))
        assert [one.path for one in answer.found] == [path for path in everything if path > after]


async def test_what_is_committed_before_is_found_wherever_it_was_and_whatever_lags() -> None:
    async with (
        service(coalesce_seconds=UNPROJECTED_SECONDS) as here,
        service(here.backend, coalesce_seconds=UNPROJECTED_SECONDS) as there,
        here.caller() as editor,
        there.caller(Role.VIEWER, space=editor.space) as viewer,
    ):
        docs = await editor.create("docs")
        for number in range(5):
            await editor.create(f"note {number}.txt", parent=docs.id)
            assert len(await paths(viewer, "note")) == number + 1
        move = M.MoveNode(node=docs.id, from_parent=ROOT, from_name="docs", parent=ROOT, name="papers")
        await editor.commit(M.Mutation(move=move))
        assert await paths(viewer, "note 3") == ["papers/note 3.txt"]
        assert not here.backend.table.nodes


async def test_a_page_of_large_manifests_ends_before_it_is_too_large(metadata: Service, editor: Caller) -> None:
    blocks = 1024
    metadata.backend.objects.index[editor.space, Digest(EMPTY_DIGEST)] = Sealed(MIN_MEAN_BLOCK_BYTES)
    manifest = J.Manifest(blocks=EMPTY_DIGEST * blocks, lengths=[MIN_MEAN_BLOCK_BYTES] * blocks)
    content = J.Content(digest=bytes(32), size=blocks * MIN_MEAN_BLOCK_BYTES, manifest=manifest)
    for entry in range(7):
        films = [
            M.CreateNode(parent=ROOT, name=f"film {entry} {n}", kind=J.NODE_KIND_FILE, content=content)
            for n in range(8)
        ]
        await editor.commit(*(M.Mutation(create=film) for film in films))
    first = await searching(editor, "film", size=1000)
    assert first.ByteSize() < 1_100_000
    assert first.next_page_token
    assert await paths(editor, "film", size=1000) == [f"film {entry} {n}" for entry in range(7) for n in range(8)]


async def test_the_deepest_tree_is_searched(editor: Caller) -> None:
    request = new_request_id()
    made = [created_node_id(editor.space, request, number) for number in range(MAX_PATH_NAMES)]
    answer = await editor.commit(*(creating("a", parent=above) for above in [ROOT, *made[:-1]]), request_id=request)
    assert {one.verdict for one in answer.results} == {J.VERDICT_ACCEPTED}
    found = await paths(editor, "A", size=100)
    assert found == ["/".join("a" * depth) for depth in range(1, MAX_PATH_NAMES + 1)]


async def test_members_search_and_nobody_else(metadata: Service, editor: Caller) -> None:
    await editor.create("docs")
    async with metadata.caller(Role.VIEWER, space=editor.space) as viewer:
        assert await paths(viewer, "docs") == ["docs"]
    async with metadata.caller(None, space=editor.space) as stranger:
        assert await reason_of(searching(stranger, "docs")) == "NO_SUCH_SPACE"
    async with metadata.caller() as elsewhere:
        assert await paths(elsewhere, "docs") == []


async def test_hostile_arguments_are_refused(editor: Caller) -> None:
    await editor.commit(creating("a"), creating("ab"))
    for query in ("", " ", "\t\u2003\n", "a" * 256):
        assert await reason_of(searching(editor, query)) == "INVALID_ARGUMENT"
        with pytest.raises(InvalidArgument):
            words_of(query)
    assert await paths(editor, "b" * 255) == []
    token = (await searching(editor, "a", size=1)).next_page_token
    for hostile in ("x", "AAAA", "\u00e4", "!" * 50, token[:-1], token + "A", token_after(editor, b"\xff")):
        assert await reason_of(searching(editor, "a", token=hostile)) == "INVALID_PAGE_TOKEN", hostile
    assert [one.path for one in (await searching(editor, "a", token=token)).found] == ["ab"]
    assert await reason_of(editor.stub.SearchNodes(M.SearchNodesRequest(space_id="x", query="a"))) == "INVALID_ARGUMENT"
