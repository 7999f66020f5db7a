"""Each operation has a cost: the items that it writes and the calls that it makes."""

import asyncio
import hashlib
import itertools
from collections import Counter

import pytest

from services.metadata.adapters.dynamodb_journal import DynamoJournal
from services.metadata.adapters.dynamodb_measures import DynamoMeasures
from services.metadata.adapters.dynamodb_objects import DynamoObjectIndex
from services.metadata.adapters.dynamodb_tree import DynamoTable
from services.metadata.adapters.s3 import S3Storage
from services.metadata.journal.commit import Request
from services.metadata.journal.open_spaces import OpenSpaces
from services.metadata.ports import Sealed
from services.metadata.quota import Measuring
from services.metadata.sealing import Objects
from services.metadata.tree.depths import Depths
from services.metadata.tree.search import NameSearch
from syncline.model.blocks import Digest, object_key
from syncline.model.identifiers import ROOT, SpaceId, created_node_id, new_request_id, new_text_id
from syncline.model.tree import Content, CreateNode, MoveNode, NodeKind
from syncline.model.verdicts import Verdict
from tests.contract.metadata.interposed import Faults, interposed
from tests.contract.metadata.support import creation, digest, file_node
from tests.services.metadata.support import FakeAuth
from tests.support.metadata import FixedQuotas, MemoryObjects, MemoryTopic, still_allowed

EMPTY = Content(Digest(hashlib.sha256().digest()), 0)


class Counted(Faults):
    """All calls, refusing none."""

    def operations(self) -> list[str]:
        return [operation for operation, _ in self.calls]

    def written(self) -> list[tuple[str, str]]:
        """The key of each item written, as often as it was."""
        keys = []
        for operation, call in self.calls:
            match operation:
                case "put_item":
                    keys.append(call["Item"])
                case "update_item":
                    keys.append(call["Key"])
                case "transact_write_items":
                    keys += [write["Put"]["Item"] for write in call["TransactItems"]]
                case "batch_write_item":
                    keys += [put["PutRequest"]["Item"] for puts in call["RequestItems"].values() for put in puts]
                case _:
                    assert operation in {"get_item", "batch_get_item", "query"}
        return [(key["pk"]["S"], key["sk"]["S"]) for key in keys]


@pytest.fixture
def counted():
    return Counted()


@pytest.fixture
async def client(embedded, counted):
    async with embedded.aws.client("dynamodb", embedded.metadata) as client:
        yield interposed(client, counted)


@pytest.fixture
def table(client, embedded):
    return DynamoTable(client, table=embedded.table)


@pytest.fixture
async def spaces(client, embedded, table):
    objects = MemoryObjects()
    clock = itertools.count(1_000)
    spaces = OpenSpaces(
        journal=DynamoJournal(client, table=embedded.table),
        table=table,
        topic=MemoryTopic(),
        objects=Objects(index=objects, storage=objects),
        depths=Depths(NameSearch(journal=DynamoJournal(client, table=embedded.table))),
        process="process",
        reserving=FixedQuotas(),
        max_nodes=1 << 40,
        max_journal_bytes=1 << 40,
        now_ms=lambda: next(clock),
        coalesce_seconds=0.0,
        lease_ms=30_000,
        capacity=100_000,
    )
    async with spaces.running():
        yield spaces


async def commit(spaces, space, *mutations):
    """Commit as one request, and wait until everything that follows from it has been done."""
    request = Request(new_request_id(), b"", "user", "device", mutations, 100)
    async with spaces.use(space) as live:
        answer = await live.committer.commit(request, ask=still_allowed)
        await live.projector.drain()
    assert {result.verdict for result in answer.results} == {Verdict.ACCEPTED}
    return request.id


async def test_renaming_a_directory_writes_six_items_whatever_it_holds(spaces, counted, space):
    made = await commit(spaces, space, CreateNode(ROOT, "photos", NodeKind.DIRECTORY))
    directory = created_node_id(space, made, 0)
    files = [CreateNode(directory, f"{i}.jpg", NodeKind.FILE, EMPTY) for i in range(300)]
    await commit(spaces, space, *files)
    counted.calls.clear()
    await commit(spaces, space, MoveNode(directory, ROOT, "photos", ROOT, "pictures"))
    written = counted.written()
    assert {(pk.removeprefix(f"S#{space}"), sk) for pk, sk in written} == {
        ("#J", f"{3:020}"),
        ("", "STATE"),
        (f"#N#{directory[:1].hex()}", directory.hex()),
        (f"#D#{ROOT.hex()}", "photos"),
        (f"#D#{ROOT.hex()}", "pictures"),
        ("#R", next(sk for pk, sk in written if pk.endswith("#R"))),
    }
    # The state twice: marked before the append, unmarked with the progress after the projection.
    assert len(written) == 7
    assert "transact_write_items" not in counted.operations()


async def test_a_mark_and_its_end_with_progress_are_one_write_each(table, counted, space):
    await table.mark_dirty(space, "one", 1_000)
    await table.save_progress(space, projected_seq=1, announced_seq=1, used_bytes=1, unmark={"one": 1_000})
    counted.calls.clear()
    await table.mark_dirty(space, "one", 2_000)
    await table.mark_dirty(space, "one", 3_000)
    await table.save_progress(space, projected_seq=2, announced_seq=2, used_bytes=1, unmark={})
    await table.save_progress(space, projected_seq=3, announced_seq=3, used_bytes=1, unmark={"one": 3_000})
    assert counted.operations() == ["update_item"] * 4


async def test_nothing_is_written_to_say_again_what_is_said(table, counted, space):
    await table.save_progress(space, projected_seq=5, announced_seq=5, used_bytes=1, unmark={})
    counted.calls.clear()
    await table.save_progress(space, projected_seq=4, announced_seq=4, used_bytes=1, unmark={"one": 1})
    assert counted.operations() == ["update_item"]  # the condition failed


async def test_a_thousand_files_take_eighty_transactions_and_read_in_twenty_batches(table, counted, space):
    projection = creation(*(file_node(f"file {i}", seq=1) for i in range(1000)))
    await table.project(space, projection)
    assert sorted(counted.operations()) == ["batch_write_item"] + ["transact_write_items"] * 80
    assert len(set(counted.written())) == len(counted.written()) == 2001
    counted.calls.clear()
    await table.rows(space, nodes=projection.nodes, names=projection.names)
    assert counted.operations() == ["batch_get_item"] * 20


class UnderWay(Faults):
    """Tells how many writes are under way at once, how many items each has, and of which space it is."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.most = 0
        self.sizes: list[int] = []
        self.spaces: list[str] = []

    async def __call__(self, operation, call, arguments):
        if operation == "transact_write_items":
            puts = [write["Put"]["Item"] for write in arguments["TransactItems"]]
        elif operation == "batch_write_item":
            puts = [put["PutRequest"]["Item"] for puts in arguments["RequestItems"].values() for put in puts]
        else:
            puts = [arguments["Item"]] if operation == "put_item" else []
        if not puts:
            return await call(**arguments)
        self.sizes.append(len(puts))
        self.spaces.append(puts[0]["pk"]["S"].split("#")[1])
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await call(**arguments)
        finally:
            self.now -= 1


@pytest.mark.parametrize(("writes", "alone"), [(2, 1), (6, 3)])
async def test_a_projection_has_half_of_the_writes_that_may_be_under_way(embedded, space, writes, alone):
    under_way = UnderWay()
    async with embedded.aws.client("dynamodb", embedded.metadata) as client:
        table = DynamoTable(interposed(client, under_way), table=embedded.table, projection_writes=writes)
        await table.project(space, creation(*(file_node(f"file {i}", seq=1) for i in range(200))))
        assert under_way.most == alone
        assert max(under_way.sizes) == 25
        others = [SpaceId(new_text_id()) for _ in range(8)]
        many = (creation(*(file_node(f"file {i}", seq=1) for i in range(50))) for _ in others)
        await asyncio.gather(*map(table.project, others, many))
        assert under_way.most == writes


async def test_a_small_projection_does_not_wait_for_a_large_one(embedded, space):
    under_way = UnderWay()
    other = SpaceId(new_text_id())
    async with embedded.aws.client("dynamodb", embedded.metadata) as client:
        table = DynamoTable(interposed(client, under_way), table=embedded.table)
        large = creation(*(file_node(f"file {i}", seq=1) for i in range(500)))
        writing = asyncio.create_task(table.project(space, large))
        while len(under_way.spaces) < 3:
            await asyncio.sleep(0)
        begun = len(under_way.spaces)
        await table.project(other, creation(file_node("small", seq=1)))
        assert len(under_way.spaces) - begun <= 3 + 5, "as many writes of the large one as of the small one, or so"
        assert not writing.done()
        await writing
    assert under_way.spaces.count(other) == 3


async def test_looking_for_the_next_entry_is_one_get(client, counted, embedded, space):
    journal = DynamoJournal(client, table=embedded.table)
    await journal.read(space, 0, 1)
    assert counted.operations() == ["get_item"]
    assert all(call["ConsistentRead"] for _, call in counted.calls)


async def test_all_reads_but_those_of_the_index_are_consistent(client, counted, table, embedded, space):
    node = file_node("a", seq=1)
    await table.rows(space, nodes=[node.id])
    await table.list_names(space, ROOT, after="", limit=5)
    await table.versions(space, node.id, before=5, limit=5)
    await table.trash(space, after=None, limit=5)
    await table.state(space)
    await DynamoJournal(client, table=embedded.table).read(space, 0, 5)
    await DynamoJournal(client, table=embedded.table).before(space, 5, 5)
    await DynamoObjectIndex(client, table=embedded.table).sealed(space, [digest("a")])
    for operation, call in counted.calls:
        asked = call["RequestItems"][embedded.table] if operation == "batch_get_item" else call
        assert asked["ConsistentRead"] is True
    counted.calls.clear()
    await table.stale(1, 5)
    assert counted.calls[0][1]["ConsistentRead"] is False  # DynamoDB refuses another


async def test_what_becomes_useless_expires(client, counted, embedded, space):
    day = 86_400
    table = DynamoTable(client, table=embedded.table, clock=lambda: 1_000_000.9)
    node = file_node("a", seq=1)
    projection = creation(node)
    projection.names[ROOT, "gone"] = (None, 1)
    projection.trash = {node.id: (False, 1)}
    await table.project(space, projection)
    await table.project(space, type(projection)(2, trash={node.id: (True, 2)}, names={(ROOT, "gone"): (node.id, 2)}))
    expiry: dict[tuple[str, str], list[object]] = {}
    for operation, call in counted.calls:
        for item in [call["Item"]] if operation == "put_item" else []:
            kind = item["pk"]["S"].split("#")[2]
            expiry.setdefault((kind, item["sk"]["S"]), []).append(item.get("expires_at"))
    for [_, call] in ((o, c) for o, c in counted.calls if o == "batch_write_item"):
        [put] = call["RequestItems"][embedded.table]
        assert put["PutRequest"]["Item"]["expires_at"] == {"N": str(1_000_000 + 30 * day)}
    week = {"N": str(1_000_000 + 7 * day)}
    assert expiry == {
        ("N", node.id.hex()): [None],
        ("D", "a"): [None],
        ("D", "gone"): [week, None],
        ("T", node.id.hex()): [week, None],
    }


async def test_what_it_costs_to_measure(client, counted, embedded, space):
    """A space that nobody writes to: two calls for a round of all spaces. One that is written to: few, by the page."""
    storage_calls = Counted()
    async with embedded.aws.client("s3", embedded.metadata) as s3:
        auth = FakeAuth()
        index = DynamoObjectIndex(client, table=embedded.table)
        storage = S3Storage(interposed(s3, storage_calls), bucket=embedded.bucket)
        measuring = Measuring(
            measures=DynamoMeasures(client, table=embedded.table),
            storage=storage,
            index=index,
            objects=Objects(index=index, storage=storage),
            table=DynamoTable(client, table=embedded.table),
            writers=auth,
            reserving=FixedQuotas(1_000),
            now_ms=lambda: 10**15,
            interval_seconds=60,
            keep_days=7,
        )
        while await measuring.measure():  # other tests left spaces to be measured
            pass
        counted.calls.clear()
        storage_calls.calls.clear()
        await measuring.schedule()
        assert await measuring.measure() == 0
        assert counted.operations() == ["query"]
        assert storage_calls.operations() == []

        names = [digest(f"object {number}") for number in range(1_050)]
        async with embedded.aws.client("s3") as root:
            for name in names:
                await root.put_object(Bucket=embedded.bucket, Key=object_key(space, name), Body=b"x", IfNoneMatch="*")
        await index.seal(space, {name: Sealed(1) for name in names[:1_000]})
        counted.calls.clear()
        auth.writing.add(space)
        await measuring.schedule()
        assert await measuring.measure() == 1
        assert storage_calls.operations() == ["list_objects_v2"] * 2
        assert Counter(counted.operations()) == {
            "batch_get_item": 1 + 11,  # one asks if it is to be measured; each other has a hundred objects
            "update_item": 2,  # that it is to be measured, and by whom
            "query": 1,
            "get_item": 2,  # the last measure, and what versions use
            "put_item": 2,  # it is kept as refused before auth is told, and after it
        }
        assert (auth.uploads[space].unsealed_objects, auth.uploads[space].stored_bytes) == (50, 1_050)
