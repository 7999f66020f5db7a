"""The whole way of files from a page into storage and the space, with everything that can go wrong on it."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syncline.model.blocks import KIB, MIB, MIN_BLOCK_BYTES
from syncline.model.chunking import Chunker
from tests.web.upload.cloud import ROOT, WEB, Cloud, Fault, Node, hexed
from tests.web.upload.panel import Panel

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def written(folder: Path, contents: dict[str, bytes]) -> list[Path]:
    paths = []
    for name, data in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        paths.append(path)
    return paths


def keep_few_blocks_inline(page: Page, monkeypatch: Any) -> None:
    """A content of more than three blocks has its manifest in an object."""
    monkeypatch.setattr("tests.web.upload.cloud.MAX_INLINE_BLOCKS", 3)
    source = (WEB / "upload" / "format.js").read_text().replace("MAX_INLINE_BLOCKS = 1024", "MAX_INLINE_BLOCKS = 3")
    page.route("**/format.js", lambda route: route.fulfill(body=source, content_type="text/javascript"))


def native_blocks(path: Path) -> list[str]:
    with path.open("rb") as file:
        return [block.digest.hex() for block in Chunker().cut(file.readinto)]


class Times:
    """A fault for each of the first requests; which one is counted by what it is about."""

    def __init__(self, fault: Fault, times: int) -> None:
        self.fault = fault
        self.times = times
        self.seen: dict[str, int] = {}

    def __call__(self, what: str) -> Fault | None:
        self.seen[what] = self.seen.get(what, 0) + 1
        return self.fault if self.seen[what] <= self.times else None


# ---- as it should be ----


def test_files_of_all_sizes_arrive(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    sizes = [0, 1, 1000, MIN_BLOCK_BYTES - 1, MIN_BLOCK_BYTES, MIN_BLOCK_BYTES + 1, 8 * MIB + 1, 20 * MIB]
    contents = {f"{size}.bin": noise(size, size) for size in sizes} | {"zeros": bytes(20 * MIB), "ünï.txt": b"text"}
    paths = written(tmp_path, contents)
    os.utime(paths[1], (1_700_000_000, 1_700_000_000.5))
    batch = panel.add(*paths)
    panel.wait_for_end()
    assert cloud.files() == contents
    items = panel.items()
    assert {item["state"] for item in items} == {"done"}
    assert all(item["done"] == item["total"] == item["size"] for item in items)
    content = cloud.at("1.bin").content
    assert content
    assert content["mtime_ms"] == 1_700_000_000_500
    empty = cloud.at("0.bin").content
    assert empty
    assert (empty["digest"], empty["size"], empty["blocks"]) == (hexed(b""), 0, [])
    for path in paths:
        refs = cloud.at(path.name).content
        assert refs
        assert [ref[0] for ref in refs["blocks"]] == native_blocks(path)
    (state,) = panel.batches()
    assert (state["id"], state["state"], state["files"]) == (batch, "done", len(contents))
    assert state["done"] == state["total"] == sum(map(len, contents.values()))
    assert state["timeLeft"] == 0
    events = panel.do("() => events")
    finished = [event for event in events if event["type"] == "finished"]
    assert [event["batch"]["id"] for event in finished] == [batch]
    assert {node["name"] for event in events if event["type"] == "committed" for node in event["nodes"]} == set(
        contents
    )
    assert cloud.most_running <= 4
    assert len(cloud.puts) == len({digest for digest, _ in cloud.puts})
    panel.do("() => uploads.clear()")
    assert panel.batches() == []
    panel.reload()
    assert panel.batches() == []


def test_a_folder_of_small_files_takes_few_requests(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    contents = {f"photos/{i % 20}/{i // 1000}/{i}.txt": noise(i % 3000 + 1, i) for i in range(2000)}
    written(tmp_path, contents)
    panel.add(tmp_path / "photos", chooser="folder")
    panel.wait_for_end(60)
    assert {item["state"] for item in panel.items()} == {"done"}
    assert cloud.files() == contents
    assert len(cloud.puts) <= 2
    assert len(cloud.asked) + len(cloud.seals) <= 6
    assert len(cloud.commits) <= 6
    assert panel.do("() => window.changes") < 600


def test_what_is_stored_already_is_not_sent_again(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    (path,) = written(tmp_path, {"a.bin": noise(10 * MIB)})
    panel.add(path)
    panel.wait_for_end()
    before = cloud.put_bytes()
    directory = cloud.make("elsewhere")
    panel.reload()
    panel.add(path, place={"parent": directory.id})
    panel.wait_for_end()
    assert cloud.files()["elsewhere/a.bin"] == path.read_bytes()
    # The last block may be a small one, whose place in a pack is not known to this page.
    assert cloud.put_bytes() - before < MIN_BLOCK_BYTES


def test_bytes_that_are_stored_as_something_else_are_sealed_as_what_they_are(
    page: Page, cloud: Cloud, tmp_path: Path, monkeypatch: Any
) -> None:
    """A block may be two parts of a pack; a pack, a file; a file, the manifest of another."""
    keep_few_blocks_inline(page, monkeypatch)
    parts = {"x.part1": noise(300 * KIB, 1), "x.part2": noise(300 * KIB, 2)}
    other = {"y.part1": noise(310 * KIB, 3), "y.part2": noise(310 * KIB, 4)}
    whole, other_whole = b"".join(parts.values()), b"".join(other.values())
    panel = Panel(page)
    panel.start()
    panel.add(*written(tmp_path, parts))
    panel.wait_for_end()
    panel.add(*written(tmp_path, {"x": whole, "y": other_whole}))
    panel.wait_for_end()
    panel.add(*written(tmp_path, other))
    panel.wait_for_end()
    panel.add(*written(tmp_path, {"long": noise(20 * MIB, 5)}))
    panel.wait_for_end()
    content = cloud.at("long").content
    assert content
    manifest = cloud.objects[content["manifest_object"]]
    panel.add(*written(tmp_path, {"manifest of long": manifest}))
    panel.wait_for_end()
    panel.reload()
    cloud.manifests.clear()
    panel.add(*written(tmp_path, {"long again": noise(20 * MIB, 5)}))
    panel.wait_for_end()
    assert {item["state"] for item in panel.items()} == {"done"}
    long = {"long": noise(20 * MIB, 5), "manifest of long": manifest, "long again": noise(20 * MIB, 5)}
    assert cloud.files() == parts | other | {"x": whole, "y": other_whole} | long


def test_packs_of_the_same_bytes_and_other_files(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    data = noise(300_000)
    contents = {f"{cut}.{i}": part for cut in (1000, 2000) for i, part in enumerate((data[:cut], data[cut:]))}
    paths = written(tmp_path, contents)
    panel.add(*paths[:2])
    panel.wait_for_end()
    panel.add(*paths[2:])
    panel.wait_for_end()
    panel.reload()
    panel.add(*written(tmp_path, more := {f"3000.{i}": part for i, part in enumerate((data[:3000], data[3000:]))}))
    panel.wait_for_end()
    assert cloud.files() == contents | more
    assert len({digest for digest, _ in cloud.puts}) == 1


def test_wrong_bytes_in_the_place_of_the_right_ones_are_replaced(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    large, pack = noise(2 * MIB), {"a": b"small", "b": b"smaller"}
    cloud.objects[hexed(large)] = bytes(2 * MIB)
    cloud.objects[hexed(b"".join(pack.values()))] = b"wrong"
    contents = pack | {"large": large}
    panel.add(*written(tmp_path, contents))
    panel.wait_for_end()
    assert {item["state"] for item in panel.items()} == {"done"}
    assert cloud.files() == contents


def test_files_that_share_bytes_store_them_once(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    data = noise(5 * MIB)
    contents = {"a": data, "b": data, "c": data + b"end", "d": b"small", "e": b"small", "f": bytes(17 * MIB)}
    panel.add(*written(tmp_path, contents))
    panel.wait_for_end()
    assert cloud.files() == contents
    assert cloud.put_bytes() < 5 * MIB + 8 * MIB + 2 * MIB


def test_directories_that_are_there_are_used(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    photos = cloud.make("photos")
    inner = cloud.make("inner", parent=photos.id)
    contents = {f"photos/{name}": name.encode() for name in ("a", "inner/b", "inner/new/c", "other/d")}
    written(tmp_path, contents)
    panel.add(tmp_path / "photos", chooser="folder")
    panel.wait_for_end()
    assert cloud.files() == contents
    assert (cloud.at("photos").id, cloud.at("photos/inner").id) == (photos.id, inner.id)


def test_empty_directories_can_be_made(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    panel.add(*written(tmp_path, {"a": b"a"}), place={"directories": ["x/y", "z"]})
    panel.wait_for_end()
    panel.wait_for(lambda: len(cloud.nodes) == 4)
    assert cloud.at("x/y").kind == cloud.at("z").kind == "directory"


def test_a_long_content_has_its_manifest_in_an_object(
    page: Page, cloud: Cloud, tmp_path: Path, monkeypatch: Any
) -> None:
    keep_few_blocks_inline(page, monkeypatch)
    panel = Panel(page)
    panel.start()
    contents = {"long": noise(16 * MIB), "short": noise(MIB)}
    panel.add(*written(tmp_path, contents))
    panel.wait_for_end()
    assert cloud.files() == contents
    content = cloud.at("long").content
    assert content
    assert set(content) == {"digest", "size", "mtime_ms", "manifest_object"}
    assert [one for seal in cloud.seals for one in seal if one.get("manifest")]


# ---- what is in the way ----


def test_the_same_content_in_the_same_place_is_done(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    there = cloud.make("a.txt", b"same")
    panel.add(*written(tmp_path, {"a.txt": b"same"}))
    panel.wait_for_end()
    assert panel.item("a.txt")["state"] == "done"
    assert panel.item("a.txt")["node"]["id"] == there.id
    assert cloud.at("a.txt").version == 1


def test_another_content_is_never_overwritten_without_a_decision(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    names = ["replace.txt", "both.txt", "skip.txt"]
    for name in names:
        cloud.make(name, b"theirs")
    cloud.make("both (2).txt", b"theirs too")
    cloud.make("folder.txt")
    batch = panel.add(*written(tmp_path, dict.fromkeys([*names, "folder.txt"], b"mine")))
    panel.wait_for_end()
    assert {item["state"] for item in panel.items()} == {"conflict"}
    assert set(cloud.files().values()) == {b"theirs", b"theirs too"}
    assert panel.batches()[0]["state"] == "conflict"
    shown = panel.item("replace.txt")["conflict"]
    assert (shown["id"], shown["version"]) == (cloud.at("replace.txt").id, 1)

    panel.reload()
    assert {item["state"] for item in panel.items()} == {"conflict"}
    for name, decision in zip(names, ["replace", "keep-both", "skip"], strict=True):
        panel.do("([id, decision]) => uploads.resolve(id, decision)", [panel.item(name)["id"], decision])
    panel.wait("!uploads.busy")
    assert panel.item("folder.txt")["state"] == "conflict"
    panel.do("(id) => uploads.resolve(id, 'replace')", batch)
    assert panel.item("folder.txt")["state"] == "conflict"
    panel.do("(id) => uploads.resolve(id, 'keep-both')", batch)
    panel.wait_for_end()
    assert cloud.files() == {
        "replace.txt": b"mine",
        "both.txt": b"theirs",
        "both (2).txt": b"theirs too",
        "both (3).txt": b"mine",
        "skip.txt": b"theirs",
        "folder (2).txt": b"mine",
    }
    assert cloud.at("replace.txt").version == 2
    assert panel.item("skip.txt")["state"] == "skipped"


def test_only_the_version_that_was_shown_is_replaced(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    node = cloud.make("a.txt", b"theirs")
    batch = panel.add(*written(tmp_path, {"a.txt": b"mine"}))
    panel.wait_for_end()
    cloud.change(node, b"newer")
    panel.do("(id) => uploads.resolve(id, 'replace')", batch)
    panel.wait("items[0].state === 'conflict' && items[0].conflict.version === 2")
    assert cloud.files() == {"a.txt": b"newer"}
    del cloud.nodes[node.id]
    panel.do("(id) => uploads.resolve(id, 'replace')", batch)
    panel.wait_for_end()
    assert cloud.files() == {"a.txt": b"mine"}


def test_a_file_where_a_folder_is_to_go_is_said(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    photos = cloud.make("photos", b"no folder")
    written(tmp_path, {"photos/a": b"a", "photos/in/b": b"b"})
    batch = panel.add(tmp_path / "photos", chooser="folder")
    panel.wait_for_end()
    assert {item["state"] for item in panel.items()} == {"failed"}
    assert "not a folder" in panel.items()[0]["reason"]
    del cloud.nodes[photos.id]
    panel.do("(id) => uploads.retry(id)", batch)
    panel.wait_for_end()
    assert cloud.files() == {"photos/a": b"a", "photos/in/b": b"b"}


def test_a_place_that_is_gone_is_said(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    panel.add(*written(tmp_path, {"a": b"a"}), place={"parent": "f" * 32})
    panel.wait_for_end()
    assert "no longer there" in panel.item("a")["reason"]
    cloud.nodes["f" * 32] = Node("f" * 32, ROOT, "back", "directory")
    panel.do("(id) => uploads.retry(id)", panel.item("a")["id"])
    panel.wait_for_end()
    assert cloud.files() == {"back/a": b"a"}


# ---- what goes wrong ----


def test_storage_that_fails_now_and_then_is_asked_again(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    faults = [Fault(500, "InternalError"), Fault(), Fault(503, "SlowDown", {"retry-after": "0"}), Fault(429), None]
    seen: dict[str, int] = {}

    def on_put(digest: str) -> Fault | None:
        seen[digest] = seen.get(digest, -1) + 1
        return faults[seen[digest]]

    cloud.on_put = on_put
    contents = {"large": noise(9 * MIB), "small": b"small"}
    panel.add(*written(tmp_path, contents))
    panel.wait_for_end()
    assert cloud.files() == contents
    assert all(count == 4 for count in seen.values())


def test_a_url_that_is_too_old_is_asked_for_again(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    cloud.url_lifetime = -1
    contents = {"large": noise(5 * MIB)}
    cloud.open.clear()
    panel.add(*written(tmp_path, contents))
    panel.wait_for(lambda: cloud.running > 0)
    cloud.url_lifetime = 3600
    cloud.open.set()
    panel.wait_for_end()
    assert cloud.files() == contents
    assert len(cloud.asked) > 1


def test_bytes_that_were_damaged_are_read_again(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    cloud.on_put = Times(Fault(400, "BadDigest"), 1)
    contents = {"large": noise(3 * MIB), "small": b"small"}
    panel.add(*written(tmp_path, contents))
    panel.wait_for_end()
    assert cloud.files() == contents


def test_a_gateway_that_fails_or_does_not_answer_is_asked_again(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    cloud.on_api = Times(Fault(503, "UNAVAILABLE", {"retry-after": "0"}), 2)
    cloud.after_api = Times(Fault(), 1)
    contents = {"d/large": noise(3 * MIB), "d/small": b"small"}
    written(tmp_path, contents)
    panel.add(tmp_path / "d", chooser="folder")
    panel.wait_for_end()
    assert cloud.files() == contents
    assert len({key for key, _ in cloud.commits}) == len(cloud.commits)


def test_what_does_not_work_fails_with_a_reason_and_can_be_tried_again(
    panel: Panel, cloud: Cloud, tmp_path: Path
) -> None:
    cloud.on_put = lambda digest: Fault(500, "InternalError")
    contents = {"large": noise(3 * MIB), "small": b"small"}
    batch = panel.add(*written(tmp_path, contents))
    panel.wait_for_end()
    assert {item["state"] for item in panel.items()} == {"failed"}
    assert "Storage does not answer (500 InternalError)" in panel.item("large")["reason"]
    cloud.on_put = lambda digest: None
    panel.do("(id) => uploads.retry(id)", batch)
    panel.wait_for_end()
    assert cloud.files() == contents
    assert panel.batches()[0]["done"] == panel.batches()[0]["total"]


def test_a_refusal_is_not_repeated(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    cloud.on_api = lambda what: Fault(403, "PERMISSION_DENIED")
    panel.add(*written(tmp_path, {"a": b"a"}))
    panel.wait_for_end()
    assert panel.item("a")["state"] == "failed"
    assert panel.item("a")["reason"] == "no: PERMISSION_DENIED"


def test_a_rate_is_waited_for_however_often_it_is_reached(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    """The person's other devices may be faster each time; other faults have six attempts."""
    cloud.on_api = Times(Fault(429, "RATE_EXCEEDED", {"retry-after": "0"}), 20)
    contents = {"a": b"a"}
    panel.add(*written(tmp_path, contents))
    panel.wait_for_end()
    assert cloud.files() == contents


def test_a_limit_that_waiting_does_not_help_against_is_not_tried_again(
    panel: Panel, cloud: Cloud, tmp_path: Path
) -> None:
    asked: list[str] = []

    def refuse(what: str) -> Fault:
        asked.append(what)
        return Fault(429, "LIMIT_REACHED")

    cloud.on_api = refuse
    panel.add(*written(tmp_path, {"a": b"a"}))
    panel.wait_for_end()
    assert panel.item("a")["reason"] == "no: LIMIT_REACHED"
    assert len(asked) == 1


def test_what_the_service_lost_is_stored_again(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    lost: list[str] = []

    def lose(what: str) -> None:
        if what == "changes" and not lost:
            with cloud.lock:
                lost.extend(cloud.sealed)
                cloud.sealed.clear()
                cloud.objects.clear()

    cloud.on_api = lose
    contents = {"large": noise(3 * MIB), "small": b"small"}
    panel.add(*written(tmp_path, contents))
    panel.wait_for_end()
    assert lost
    assert cloud.files() == contents


def test_a_request_that_is_too_large_is_halved(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    contents = {f"many/{i}": f"{i}".encode() for i in range(100)}
    sizes: list[int] = []
    commit = cloud.commit

    def limited(body: dict[str, Any], key: str) -> dict[str, Any]:
        sizes.append(len(body["changes"]))
        return commit(body, key)

    cloud.commit = limited  # type: ignore[method-assign]
    refused = iter([True, True])
    cloud.on_api = lambda what: Fault(413, "REQUEST_TOO_LARGE") if what == "changes" and next(refused, False) else None
    written(tmp_path, contents)
    panel.add(tmp_path / "many", chooser="folder")
    panel.wait_for_end()
    assert cloud.files() == contents
    assert max(sizes) <= 30
    assert len(sizes) <= 6


def test_names_that_cannot_be_are_said(panel: Panel, cloud: Cloud) -> None:
    panel.do("""() => uploads.add([
        { file: new File(["a"], "a"), path: "ok/e\\u0301" },
        { file: new File(["b"], "b"), path: "x".repeat(256) },
    ], { space: "s" })""")
    panel.wait_for_end()
    assert cloud.files() == {"ok/é": b"a"}
    assert "256 bytes; 255 are allowed" in panel.item("x" * 256)["reason"]


def test_a_worker_that_dies_is_replaced(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    panel.do(
        """async () => {
        const { Uploads } = await import("/upload/uploads.js");
        const { createApi, sameOrigin } = await import("/upload/api.js");
        window.workers = [];
        const startWorker = () => {
            workers.push(new Worker("/upload/worker.js", { type: "module" }));
            return workers.at(-1);
        };
        const patience = { attempts: 3, first: 20, longest: 100 };
        const api = createApi(sameOrigin(() => "a token"));
        window.uploads = new Uploads({ api, owner: "u3", patience, startWorker });
        await uploads.open();
    }"""
    )
    cloud.put_seconds = 0.1
    contents = {"large": noise(30 * MIB)} | {f"small {i}": noise(300 * KIB, i) for i in range(40)}
    panel.add(*written(tmp_path, contents))
    panel.wait_for(lambda: len(cloud.puts) >= 3)
    panel.do("() => workers[0].dispatchEvent(new ErrorEvent('error'))")
    panel.wait_for_end()
    assert cloud.files() == contents
    assert panel.do("() => workers.length") == 2


def test_reading_does_not_run_far_ahead_of_storage(page: Page, cloud: Cloud, tmp_path: Path) -> None:
    source = (WEB / "upload" / "uploads.js").read_text().replace("MOST_PENDING = 256", "MOST_PENDING = 4")
    page.route("**/uploads.js", lambda route: route.fulfill(body=source, content_type="text/javascript"))
    panel = Panel(page)
    panel.start()
    cloud.open.clear()
    contents = {"large": noise(48 * MIB), "small": b"small"}
    panel.add(*written(tmp_path, contents))
    panel.wait_for(lambda: cloud.running == 4)
    page.wait_for_timeout(300)
    assert panel.item("large")["state"] == "hashing"
    assert sum(cloud.asked) < 16
    cloud.open.set()
    panel.wait_for_end()
    assert cloud.files() == contents


# ---- pauses, reloads, changes of mind ----


def test_a_pause_stops_everything_and_can_end(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    data = noise(40 * MIB)
    cloud.put_seconds = 0.1
    panel.add(*written(tmp_path, {"large": data}))
    panel.wait_for(lambda: len(cloud.puts) >= 3)
    panel.do("() => uploads.pause()")
    panel.wait_for(lambda: cloud.running == 0)
    panel.page.wait_for_timeout(1_000)  # a request that the pause has given up may still be on its way to storage
    stopped = len(cloud.puts)
    panel.page.wait_for_timeout(400)
    assert len(cloud.puts) == stopped
    assert panel.item("large")["state"] in {"hashing", "uploading"}
    panel.do("() => uploads.resume()")
    panel.wait_for_end()
    assert cloud.files() == {"large": data}
    assert cloud.put_bytes() - len(data) <= 4 * 8 * MIB


def test_a_reload_goes_on_where_it_stopped(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    contents = {"large": noise(50 * MIB)} | {f"small {i}": noise(300 * KIB, i) for i in range(40)}
    cloud.put_seconds = 0.05
    panel.add(*written(tmp_path, contents))
    panel.wait_for(lambda: cloud.put_bytes() > 30 * MIB)
    panel.reload()
    assert {item["path"] for item in panel.items()} <= set(contents)
    panel.wait_for_end(40)
    assert cloud.files() == contents
    twice = cloud.put_bytes() - sum(map(len, contents.values()))
    # These were on the way or not sealed yet: four PUTs, and two packs that wait.
    assert twice <= 6 * 8 * MIB
    panel.reload()
    assert panel.batches() == []


def test_many_reloads_come_to_an_end(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    contents = {f"{i}": noise(3 * MIB, i) for i in range(6)} | {f"small {i}": noise(50 * KIB, i) for i in range(30)}
    cloud.put_seconds = 0.05
    panel.add(*written(tmp_path, contents))
    for i in range(4):
        panel.page.wait_for_timeout(50 + 100 * i)
        panel.reload()
    panel.wait("!uploads.busy")
    assert cloud.files() == contents


def test_a_file_that_was_not_kept_is_chosen_again(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    data = noise(20 * MIB)
    panel.reload(keepBytes=1000)
    cloud.put_seconds = 0.1
    paths = written(tmp_path, {"large": data, "small": b"small"})
    batch = panel.add(*paths)
    panel.wait_for(lambda: cloud.put_bytes() > 8 * MIB)
    panel.reload(keepBytes=1000)
    panel.wait("items.find(({ path }) => path === 'large').state === 'choose'")
    assert "Choose the file again" in panel.item("large")["reason"]
    panel.wait_for_end()
    assert panel.add(paths[0]) == batch
    panel.wait_for_end()
    assert cloud.files() == {"large": data, "small": b"small"}
    assert len(panel.batches()) == 1
    assert cloud.put_bytes() - len(data) <= 5 * 8 * MIB


def test_a_file_that_was_changed_is_chosen_again(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    panel.do("() => uploads.pause()")
    (path,) = written(tmp_path, {"a": noise(3 * MIB)})
    panel.add(path)
    path.write_bytes(noise(2 * MIB, 1))
    panel.do("() => uploads.resume()")
    panel.wait_for_end()
    assert panel.item("a")["state"] == "choose"
    panel.add(path)
    panel.wait("items.some(({ state }) => state === 'done')")
    assert cloud.files() == {"a": path.read_bytes()}


CHANGING = """async ([first, second]) => {
    const folder = await navigator.storage.getDirectory();
    const handle = await folder.getFileHandle("changing", { create: true });
    const write = async (size, byte) => {
        const stream = await handle.createWritable();
        await stream.write(new Uint8Array(size).fill(byte));
        await stream.close();
    };
    await write(...first);
    window.rewrite = () => write(...second);
    await uploads.add([{ handle, path: "changing" }], { space: "s" });
}"""


HANDLES = """async ([versions, size]) => {
    const files = Array.from({ length: versions }, (_, i) => {
        return new File([new Uint8Array(size).fill(i)], "changing", { lastModified: 1000 + i });
    });
    let asked = 0;
    const handle = { getFile: async () => files[Math.min(asked++, versions - 1)] };
    await uploads.add([{ handle, path: "changing" }], { space: "s" });
}"""


def test_a_file_that_changes_while_it_is_read_is_read_again(panel: Panel, cloud: Cloud) -> None:
    panel.do(HANDLES, [3, 3 * MIB])
    panel.wait_for_end()
    assert cloud.files() == {"changing": b"\2" * 3 * MIB}
    assert cloud.at("changing").to_json()["mtime_ms"] == 1002


def test_a_file_that_does_not_stop_changing_fails(panel: Panel, cloud: Cloud) -> None:
    panel.do(HANDLES, [100, 1000])
    panel.wait_for_end()
    assert panel.item("changing")["state"] == "failed"
    assert "It was read 4 times" in panel.item("changing")["reason"]
    assert cloud.files() == {}


def test_bytes_that_are_never_right_fail(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    cloud.on_put = lambda digest: Fault(400, "BadDigest")
    panel.add(*written(tmp_path, {"large": noise(3 * MIB)}))
    panel.wait_for_end()
    assert "changed while it was uploaded" in panel.item("large")["reason"]


def test_a_handle_outlives_the_page_and_finds_the_file_as_it_is(panel: Panel, cloud: Cloud) -> None:
    panel.do("() => uploads.pause()")
    panel.do(CHANGING, [[3 * MIB, 1], [2 * MIB, 2]])
    panel.do("() => rewrite()")
    panel.reload()
    panel.wait_for_end()
    assert cloud.files() == {"changing": b"\2" * 2 * MIB}
    assert panel.batches()[0]["total"] == 2 * MIB


def test_what_is_cancelled_is_not_uploaded(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    contents = {"cancelled": noise(20 * MIB), "kept": noise(MIB, 1), "small": b"small"}
    cloud.open.clear()
    batch = panel.add(*written(tmp_path, contents))
    panel.wait_for(lambda: cloud.running > 0)
    panel.do("(id) => uploads.cancel(id)", panel.item("cancelled")["id"])
    cloud.open.set()
    panel.wait_for_end()
    assert set(cloud.files()) == {"kept", "small"}
    assert panel.item("cancelled")["state"] == "cancelled"
    assert panel.batches()[0]["total"] == MIB + 5
    panel.add(*written(tmp_path, {"more": noise(20 * MIB, 2)}))
    panel.do("() => Promise.all(uploads.batches().map(({ id }) => uploads.cancel(id)))")
    panel.wait_for_end()
    panel.reload()
    assert panel.batches() == []
    assert "more" not in cloud.files()
    assert batch


def test_another_page_does_not_take_what_this_one_does(
    panel: Panel, cloud: Cloud, context: BrowserContext, origin: str, tmp_path: Path
) -> None:
    cloud.open.clear()
    panel.add(*written(tmp_path, {"a": noise(MIB)}))
    other = Panel(context.new_page())
    other.page.goto(origin)
    other.start()
    assert other.batches() == []
    stranger = Panel(context.new_page())
    stranger.page.goto(origin)
    panel.page.close()
    cloud.open.set()
    stranger.start(owner="u2")
    assert stranger.batches() == []
    other.page.reload()
    other.start()
    other.wait_for_end()
    assert cloud.files() == {"a": noise(MIB)}


def test_the_panel_is_told_how_far_it_is(panel: Panel, cloud: Cloud, tmp_path: Path) -> None:
    panel.do("""() => {
        window.seen = [];
        uploads.addEventListener("change", ({ detail }) => {
            seen.push(...detail.items.map(({ state, done }) => [state, done]));
        });
    }""")
    cloud.put_seconds = 0.1
    data = noise(30 * MIB)
    panel.add(*written(tmp_path, {"large": data}))
    panel.wait("batches[0].done > 0 && batches[0].speed > 0 && batches[0].timeLeft > 0 && items[0].timeLeft > 0")
    panel.wait_for_end()
    panel.page.wait_for_timeout(150)
    seen = panel.do("() => seen")
    states = [state for state, _ in seen]
    assert {"uploading", "done"} <= set(states) <= {"queued", "hashing", "uploading", "committing", "done"}
    assert seen[-1] == ["done", len(data)]
    assert all(0 <= done <= len(data) for _, done in seen)
    assert any(0 < done < len(data) for _, done in seen)
