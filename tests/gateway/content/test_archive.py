"""Archives that are made while they go out."""

import asyncio
import hashlib
import io
import random
import stat
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.content.archive import Archives, ArchiveSize, ArchiveTooLarge, CutShort, walk
from gateway.content.assemble import Contents, Memory
from gateway.ports import ObjectUnreadable
from runtime.pool import Pool, Share, TooMuchAtOnce
from syncline.model.blocks import MIB, Digest, Manifest
from syncline.model.identifiers import ROOT, NodeId, new_request_id
from syncline.model.names import archived_name, name_problem, normalize
from syncline.model.tree import Content, Node, NodeKind
from tests.gateway.fakes import SPACE, stored
from tests.support.storage import InMemoryObjectSource

MTIME = 1_764_000_000
PLENTY = 100_000_000
ANN = Share("ann", "192.0.2.1")


class Tree:
    """Nodes of a space, and their contents."""

    objects: Any

    def __init__(self, objects=None) -> None:
        self.objects = objects or InMemoryObjectSource()
        self.children: dict[NodeId, list[Node]] = {ROOT: []}

    def add(self, parent: NodeId, name: str, kind: NodeKind, content: Content | None = None) -> Node:
        node = Node(NodeId(new_request_id()), parent, name, kind, content=content, committed_at_ms=MTIME * 1000)
        self.children[parent].append(node)
        self.children[node.id] = []
        return node

    def folder(self, name: str, parent: NodeId = ROOT) -> NodeId:
        return self.add(parent, name, NodeKind.DIRECTORY).id

    def file(self, name: str, *blocks: bytes, parent: NodeId = ROOT, executable: bool = False) -> Node:
        data = b"".join(blocks)
        digest = Digest(hashlib.sha256(data).digest())
        manifest = stored(self.objects, list(blocks))
        content = Content(digest, len(data), MTIME * 10**9, executable=executable, manifest=manifest)
        return self.add(parent, name, NodeKind.FILE, content)

    async def of(self, directory: NodeId):
        for node in list(self.children[directory]):
            yield node

    def entries(self):
        return walk(self.of(ROOT), lambda directory: self.of(directory.id))

    async def measure(self, most: ArchiveSize) -> ArchiveSize:
        paths = [entry.path async for entry in self.entries()]
        return ArchiveSize(len(paths), sum(len(path.encode()) + 1 for path in paths))


async def archive(tree: Tree, *, budget: Memory | None = None, threads: int = 2) -> zipfile.ZipFile:
    contents = Contents(tree.objects, budget or Memory(PLENTY))
    with ThreadPoolExecutor(threads) as pool:
        async with aclosing(
            Archives(contents, pool, Pool("archives", 16)).stream(
                SPACE, tree.entries(), measure=tree.measure, share=ANN
            )
        ) as chunks:
            whole = b"".join([chunk async for chunk in chunks])
    made = zipfile.ZipFile(io.BytesIO(whole))
    assert made.testzip() is None
    return made


@pytest.mark.parametrize("size", [1000, 300_000], ids=["read ahead", "streamed"])
async def test_an_archive_that_is_cut_short_does_not_look_complete(size):
    """The process gives up what is under way: the part that was made must not get an end of its own."""

    class GivenUp(InMemoryObjectSource):
        async def read(self, space, digest, *, offset, length, share):
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
            return []

    tree = Tree(GivenUp())
    tree.folder("before")
    tree.file("given up", b"x" * size)
    tree.folder("after")
    with pytest.raises(CutShort):
        await archive(tree)


async def test_a_tree_as_it_is():
    tree = Tree()
    docs = tree.folder("docs")
    tree.folder("empty")
    tree.file("empty.txt")
    tree.file("run.sh", b"#!", parent=docs, executable=True)
    large = [bytes([index]) * 300_000 for index in range(5)]
    tree.file("large", *large)
    tree.add(ROOT, "link", NodeKind.SYMLINK, Content(Digest(bytes(32)), 4, target="docs"))
    made = await archive(tree)
    names = ["docs/", "docs/run.sh", "empty/", "empty.txt", "large", "link"]
    assert made.namelist() == names
    assert made.read("large") == b"".join(large)
    modes = {name: made.getinfo(name).external_attr >> 16 for name in names}
    assert stat.S_ISLNK(modes["link"])
    assert made.read("link") == b"docs"
    assert modes["docs/run.sh"] & 0o111
    assert not modes["large"] & 0o111
    assert made.getinfo("large").date_time[:3] == (2025, 11, 24)
    assert {made.getinfo(name).compress_size <= made.getinfo(name).file_size + 1000 for name in names} == {True}


async def test_many_small_files_are_read_ahead_and_in_order():
    class Slow(InMemoryObjectSource):
        under_way = most = 0

        async def read(self, space, digest, *, offset, length, share):
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            await asyncio.sleep(0.005)
            self.under_way -= 1
            return await super().read(space, digest, offset=offset, length=length, share=share)

    tree = Tree(Slow())
    for index in range(100):
        tree.file(f"{index:03}", f"content {index}".encode())
    made = await archive(tree)
    assert made.namelist() == [f"{index:03}" for index in range(100)]
    assert made.read("042") == b"content 42"
    assert 2 < tree.objects.most <= 8


class Counted(InMemoryObjectSource):
    """Knows what was read of it, and how much of that at once."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[int] = []
        self.held = self.most_held = 0

    async def read(self, space, digest, *, offset, length, share):
        self.reads.append(length)
        self.held += length
        self.most_held = max(self.most_held, self.held)
        await asyncio.sleep(0)
        self.held -= length
        return await super().read(space, digest, offset=offset, length=length, share=share)


def packed(tree: Tree, parent: NodeId, count: int, size: int, *, order: list[int] | None = None) -> dict[str, bytes]:
    """Files whose blocks lie in packs of 1,000, one after the other in this order of their names."""
    files = {f"{index:05}": random.Random(index).randbytes(size) for index in range(count)}
    names = sorted(files)
    uploaded = [names[index] for index in order] if order else names
    nodes = {}
    for at in range(0, count, 1000):
        together = uploaded[at : at + 1000]
        manifest = stored(tree.objects, [files[name] for name in together], packed=True)
        for name, ref in zip(together, manifest.refs(), strict=True):
            content = Content(ref.digest, size, MTIME * 10**9, manifest=Manifest.of([ref]))
            nodes[name] = Node(NodeId(new_request_id()), parent, name, NodeKind.FILE, content=content)
    tree.children[parent] += [nodes[name] for name in names]
    return files


async def test_packs_are_read_once_and_not_a_file_at_a_time():
    tree, budget = Tree(Counted()), Memory(PLENTY)
    files = packed(tree, tree.folder("many"), 12_000, 300)
    made = await archive(tree, budget=budget)
    assert made.namelist() == ["many/", *(f"many/{name}" for name in sorted(files))]
    assert all(made.read(f"many/{name}") == data for name, data in files.items())
    assert len(tree.objects.reads) <= 40
    assert sum(tree.objects.reads) == 12_000 * 300
    assert budget.taken() == 0


async def test_packs_that_were_filled_in_another_order_are_read_in_few_pieces():
    """Two readers fill a pack by turns, and some files are not in the archive any more."""
    tree = Tree(Counted())
    order = list(range(4_000))
    for at in range(0, 4_000, 8):
        random.Random(at).shuffle(order_of_eight := order[at : at + 8])
        order[at : at + 8] = order_of_eight
    files = packed(tree, ROOT, 4_000, 500, order=order)
    del tree.children[ROOT][1::7]
    made = await archive(tree)
    assert len(made.namelist()) == len(tree.children[ROOT])
    assert all(made.read(name) == files[name] for name in made.namelist())
    assert len(tree.objects.reads) <= 60
    assert sum(tree.objects.reads) <= 1.3 * 4_000 * 500


async def test_what_is_read_together_is_bounded():
    tree = Tree(Counted())
    packed(tree, ROOT, 3_000, 4_000)
    await archive(tree)
    assert max(tree.objects.reads) <= 1.2 * MIB
    assert tree.objects.most_held <= 3 * MIB


async def test_a_block_in_a_pack_that_holds_other_bytes_breaks_the_archive_off():
    tree = Tree()
    packed(tree, ROOT, 20, 100)
    ((name, data),) = [item for item in tree.objects.objects.items() if len(item[1]) == 2_000]
    tree.objects.objects[name] = data[:1_234] + b"?" + data[1_235:]
    with pytest.raises(ObjectUnreadable, match="holds other bytes"):
        await archive(tree)


async def test_the_same_content_many_times_is_read_once_in_a_group():
    tree = Tree(Counted())
    for index in range(500):
        tree.file(f"{index:03}", b"the same")
    made = await archive(tree)
    assert {made.read(name) for name in made.namelist()} == {b"the same"}
    assert len(tree.objects.reads) <= 8


async def test_names_that_windows_would_take_for_paths():
    tree = Tree()
    for name in ("..\\..\\evil", "..%5C..%5Cevil", "a\\b", "a%5Cb (2)", "plain"):
        tree.file(name, name.encode())
    made = await archive(tree)
    assert len(set(made.namelist())) == 5
    assert not any("\\" in name for name in made.namelist())
    assert made.read("..%5C. (2).%5Cevil") == b"..%5C..%5Cevil"


ODD = st.text(alphabet="aAbBßſ:\\.% 5Cx\x01ÉéI", min_size=1, max_size=12)
LONG = st.builds(
    lambda head, fill, tail: head + fill * 240 + tail, ODD, st.sampled_from(["a", "A", ":", ".", " "]), ODD
)
DEVICES = st.sampled_from(["CON", "con", "NUL.txt", "nul.TXT", "NU%4C.txt", "COM1", "C:", "a", "A", "a (2)", "A (2)"])
NAMES = st.one_of(DEVICES, ODD, LONG).map(normalize).filter(lambda name: not name_problem(name))


@given(st.lists(NAMES, unique=True, max_size=30))
@settings(deadline=None, suppress_health_check=list(HealthCheck))  # not about time
def test_every_name_is_held_everywhere_and_no_two_are_the_same_anywhere(names: list[str]) -> None:
    """Neither a system that ignores case nor one that refuses characters and devices loses a file."""

    async def paths() -> dict[str, str]:
        tree = Tree()
        for name in names:
            tree.add(ROOT, name, NodeKind.DIRECTORY)
        return {entry.path: entry.node.name async for entry in tree.entries()}

    found = asyncio.run(paths())
    assert sorted(found.values()) == sorted(names)
    assert len({normalize(path.casefold()) for path in found}) == len(names)
    for path, name in found.items():
        assert archived_name(path) == path
        assert not name_problem(path)
        # A name that needs no other form, and that no other entry may take, is kept.
        others = {normalize(archived_name(other).casefold()) for other in names if other != name}
        if archived_name(name) == name and normalize(name.casefold()) not in others and "(" not in name:
            assert path == name


async def test_names_that_differ_only_in_case_are_different_everywhere():
    """Otherwise a file would be lost, or one below a directory would be unpacked to where a link leads."""
    tree = Tree()
    link = Content(Digest(hashlib.sha256(b"/etc").digest()), 4, 0, target="/etc")
    tree.add(ROOT, "Etc", NodeKind.SYMLINK, link)
    tree.file("passwd", b"evil", parent=tree.folder("etc"))
    tree.file("photo.JPG", b"1")
    tree.file("photo.jpg", b"2")
    made = await archive(tree)
    assert made.namelist() == ["Etc", "etc (2)/", "etc (2)/passwd", "photo.JPG", "photo (2).jpg"]
    assert made.read("photo (2).jpg") == b"2"


def long_paths(count: int) -> Tree:
    """A ZIP ends with a list of all paths, of which a person can make very many that are very long."""
    tree = Tree()
    above = tree.folder("d" * 250)
    for number in range(count):
        tree.file(f"{number:05}{'n' * 200}", parent=above)
    return tree


async def test_lists_of_entries_take_memory_of_a_pool():
    tree = long_paths(8_000)
    contents = Contents(tree.objects, Memory(PLENTY))
    with ThreadPoolExecutor(2) as threads:
        archives = Archives(contents, threads, Pool("archives", 16), directory_bytes=64 * MIB)
        held = archives._directories
        async with aclosing(archives.stream(SPACE, tree.entries(), measure=tree.measure, share=ANN)) as chunks:
            first = await anext(chunks)
            reserved = held.taken()
            assert 8_000 * (512 + 2 * 450) < reserved <= 32 * MIB
            parts, taken = [first], set()
            async for chunk in chunks:
                parts.append(chunk)
                taken.add(held.taken())
            assert taken == {reserved}, "it was enough from the beginning"
        assert len(zipfile.ZipFile(io.BytesIO(b"".join(parts))).namelist()) == 8_001
        assert held.taken() == 0


async def test_an_archive_of_more_paths_than_it_can_list_is_refused_before_its_first_byte():
    tree = long_paths(8_000)
    contents = Contents(tree.objects, Memory(PLENTY))
    with ThreadPoolExecutor(2) as threads:
        archives = Archives(contents, threads, Pool("archives", 16), directory_bytes=4 * MIB)
        asked: list[ArchiveSize] = []

        async def measure(most: ArchiveSize) -> ArchiveSize:
            asked.append(most)
            return await tree.measure(most)

        chunks = archives.stream(SPACE, tree.entries(), measure=measure, share=ANN)
        with pytest.raises(ArchiveTooLarge, match="smaller directories"):
            await anext(chunks)
        assert [most.memory_bytes for most in asked] == [4 * MIB], "in each respect as much as one archive may have"
        assert archives._directories.taken() == archives._under_way.taken() == 0


async def test_a_tree_that_grows_meanwhile_breaks_the_archive_off_when_memory_ends():
    tree = long_paths(8_000)
    contents = Contents(tree.objects, Memory(PLENTY))

    async def small(most: ArchiveSize) -> ArchiveSize:
        return ArchiveSize(1, 1)

    with ThreadPoolExecutor(2) as threads:
        archives = Archives(contents, threads, Pool("archives", 16), directory_bytes=4 * MIB)

        async def read() -> None:
            async with aclosing(archives.stream(SPACE, tree.entries(), measure=small, share=ANN)) as chunks:
                async for _ in chunks:
                    assert archives._directories.taken() <= 4 * MIB

        with pytest.raises(TooMuchAtOnce):
            await read()
        assert archives._directories.taken() == 0


async def test_names_that_become_the_same_cost_a_few_steps_each():
    """Each place of sixteen is a backslash or what stands for one."""
    steps = []
    for count in (200, 400):
        tree = Tree()
        for number in range(count):
            name = "".join("%5C" if bit == "1" else "\\" for bit in f"{number:016b}")
            tree.add(ROOT, name, NodeKind.DIRECTORY)
        names, calls = set(), 0

        def counted(frame: FrameType, event: str, arg: object) -> Any:
            nonlocal calls
            calls += event == "line" and frame.f_code.co_name == "free"
            return counted

        sys.settrace(counted)
        try:
            names = {entry.path async for entry in tree.entries()}
        finally:
            sys.settrace(None)
        assert len(names) == count
        steps.append(calls)
    assert steps[1] <= 2.3 * steps[0]


async def test_nodes_of_several_directories_never_share_a_path():
    """A link and a directory of one name would be unpacked to where the link leads; of two files, one would be lost."""
    tree = Tree()
    link = Content(Digest(hashlib.sha256(b"/etc").digest()), 4, 0, target="/etc")
    one, two, three = (tree.folder(name) for name in ("one", "two", "three"))
    nodes = [tree.add(one, "x", NodeKind.SYMLINK, link), tree.add(two, "X", NodeKind.DIRECTORY)]
    tree.file("passwd", b"evil", parent=nodes[1].id)
    nodes += [
        tree.file("a.txt", name.encode(), parent=parent) for name, parent in (("1", one), ("2", two), ("3", three))
    ]
    nodes.append(tree.file("a (2).txt", b"4", parent=one))
    tree.children[ROOT] = nodes
    made = await archive(tree)
    names = ["x", "X (2)/", "X (2)/passwd", "a.txt", "a (2).txt", "a (3).txt", "a (2) (2).txt"]
    assert made.namelist() == names
    assert [made.read(name) for name in names[3:]] == [b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("mtime_ns", [-(10**30), 0, 10**12, 10**30, 2**63 - 1])
async def test_times_that_archives_cannot_hold(mtime_ns):
    tree = Tree()
    node = tree.file("f", b"x")
    assert node.content is not None
    tree.children[ROOT] = [replace(node, content=replace(node.content, mtime_ns=mtime_ns))]
    made = await archive(tree)
    assert 1980 <= made.getinfo("f").date_time[0] <= 2038


async def test_what_nobody_takes_any_more_is_not_read_any_more():
    class Counted(InMemoryObjectSource):
        reads = 0

        async def read(self, space, digest, *, offset, length, share):
            self.reads += 1
            return await super().read(space, digest, offset=offset, length=length, share=share)

    tree, budget = Tree(Counted()), Memory(PLENTY)
    for index in range(200):
        tree.file(f"{index:03}", *(bytes([index, n]) * 200_000 for n in range(3)))
    contents = Contents(tree.objects, budget)
    with ThreadPoolExecutor(2) as pool:
        chunks = Archives(contents, pool, Pool("archives", 16)).stream(
            SPACE, tree.entries(), measure=tree.measure, share=ANN
        )
        for _ in range(5):
            await anext(chunks)
        await chunks.aclose()
        reads = tree.objects.reads
        await asyncio.sleep(0.1)
        assert tree.objects.reads == reads < 30
        assert budget.taken() == 0


async def test_a_content_that_cannot_be_read_breaks_the_archive_off():
    tree, budget = Tree(), Memory(PLENTY)
    tree.file("good", b"good")
    bad = tree.file("bad", b"b" * 400_000)
    assert bad.content is not None
    del tree.objects.objects[SPACE, bad.content.digest]
    with pytest.raises(ObjectUnreadable):
        await archive(tree, budget=budget)
    assert budget.taken() == 0


async def test_more_archives_than_threads_and_memory_all_get_done():
    """None waits for what another one holds."""
    trees = [Tree() for _ in range(12)]
    for number, tree in enumerate(trees):
        for index in range(10):
            tree.file(f"small {index}", bytes([number, index]) * 1000)
        tree.file("large", *(bytes([number, n]) * 400_000 for n in range(4)))
    budget = Memory(1_700_000)
    async with asyncio.timeout(60):
        made = await asyncio.gather(*(archive(tree, budget=budget) for tree in trees))
    assert all(len(one.namelist()) == 11 for one in made)
    assert budget.taken() == 0


async def test_archives_of_one_link_that_nobody_takes_leave_some_for_others():
    tree, under_way = Tree(), Pool("archives", 8)
    tree.file("small", b"small")
    tree.file("large", *(bytes([n]) * 400_000 for n in range(4)))
    contents = Contents(tree.objects, Memory(PLENTY))
    with ThreadPoolExecutor(8) as threads:
        archives = Archives(contents, threads, under_way)
        link = Share("link", "net")
        slow = [archives.stream(SPACE, tree.entries(), measure=tree.measure, share=link) for _ in range(10)]
        begun = [asyncio.create_task(anext(chunks)) for chunks in slow]
        async with asyncio.timeout(60):
            while under_way.taken() < 4:
                await asyncio.sleep(0.01)
        await asyncio.wait(begun, timeout=0.5)
        assert under_way.taken() == 4
        async with (
            asyncio.timeout(60),
            aclosing(archives.stream(SPACE, tree.entries(), measure=tree.measure, share=ANN)) as chunks,
        ):
            made = b"".join([chunk async for chunk in chunks])
        assert len(zipfile.ZipFile(io.BytesIO(made)).namelist()) == 2
        for task in begun:
            task.cancel()
        await asyncio.gather(*begun, return_exceptions=True)
        for chunks in slow:
            await chunks.aclose()
        assert under_way.taken() == 0
