"""A client in another language, written from docs/clients.md: `examples/typescript` against the whole system."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from stack.demo import DemoDevice
from stack.running import running_stack
from stack.up import Stack
from syncline.auth.v1 import auth_pb2
from syncline.metadata.v1 import journal_pb2, metadata_pb2, metadata_pb2_grpc
from syncline.model.identifiers import SpaceId, new_text_id
from syncline.sdk.session import Session
from syncline.sdk.space import Space
from tests.clients.sdk.servicers import PASSWORD as HOSTILE
from tests.clients.sdk.servicers import Running, running
from tests.support.passwords import STRONG

MIB = 1 << 20
PASSWORD = STRONG
ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "typescript"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, installed and compiled in a folder of its own, beside the protos."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"the client in TypeScript needs {program}, which is not installed")
    root = tmp_path_factory.mktemp("typescript")
    unwanted = shutil.ignore_patterns("node_modules", "dist", "gen")
    copy = Path(shutil.copytree(EXAMPLE, root / "examples" / "typescript", ignore=unwanted))
    shutil.copytree(ROOT / "protos", root / "protos", ignore=unwanted)
    installed = npm(copy, "install", "--no-audit", "--no-fund")
    if installed.returncode:
        pytest.skip(f"npm could not install what the client in TypeScript needs: {installed.stderr[-500:]}")
    compiled = npm(copy, "run", "build")
    assert compiled.returncode == 0, compiled.stdout + compiled.stderr
    return copy


def npm(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["npm", *arguments], cwd=directory, capture_output=True, text=True, timeout=150, check=False)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A system of our own, since processes of it are killed."""
    with running_stack() as running:
        yield running


@dataclass(frozen=True)
class Typescript:
    """The program as somebody's device."""

    program: Path
    state: Path

    def command(self, *arguments: str) -> list[str]:
        return ["node", str(self.program / "dist" / "main.js"), "--state", str(self.state), *arguments]

    def run(self, *arguments: str, stdin: str = "", expect: int = 0) -> tuple[list[dict[str, Any]], str]:
        """One command: the lines of JSON that it prints, and what it tells people."""
        done = subprocess.run(
            self.command(*arguments), input=stdin, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        pipe = subprocess.PIPE
        with subprocess.Popen(self.command(*arguments), stdin=pipe, stdout=pipe, stderr=pipe, text=True) as child:
            try:
                yield child
            finally:
                child.kill()

    def change(self, **fields: Any) -> None:
        """Change the state as if it had been saved so."""
        self.state.write_text(json.dumps(json.loads(self.state.read_text()) | fields))


def signed_up(stack: Stack, root: Path) -> DemoDevice:
    """The native client of a new person."""
    device = DemoDevice(f"person-{new_text_id()}", "native", root)
    device.folder.mkdir(parents=True)
    device.run(
        *("signup", "--endpoint", stack.endpoint, "--email", device.email, "--password-stdin"), stdin=f"{PASSWORD}\n"
    )
    return device


def signed_in(built: Path, stack: Stack, native: DemoDevice) -> Typescript:
    """The same person's client in TypeScript."""
    client = Typescript(built, native.root / "state.json")
    client.run("sign-in", "--endpoint", stack.endpoint, "--email", native.email, stdin=f"{PASSWORD}\n")
    assert client.state.stat().st_mode & 0o777 == 0o600
    return client


@pytest.fixture
def native(stack: Stack, tmp_path: Path) -> DemoDevice:
    return signed_up(stack, tmp_path / "native")


@pytest.fixture
def typescript(built: Path, stack: Stack, native: DemoDevice) -> Typescript:
    return signed_in(built, stack, native)


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def sums(files: dict[str, bytes]) -> str:
    """Return the sums as sha256sum prints them."""
    return "".join(f"{hashlib.sha256(data).hexdigest()}  {path}\n" for path, data in files.items())


def write(folder: Path, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def read(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and ".syncline" not in path.parts
    }


def test_it_cuts_packs_and_names_as_all_others_do(built: Path) -> None:
    done = subprocess.run(
        ["node", "dist/vectors.js", str(ROOT / "protos" / "vectors")],
        cwd=built,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "all vectors hold\n"), done.stderr


@pytest.mark.parametrize(
    ("reason", "passing", "failures", "outcome"),
    [
        ("RATE_EXCEEDED", True, 30, "done after 31"),
        ("UNAVAILABLE", True, 2, "done after 3"),
        ("LIMIT_REACHED", False, 30, "LIMIT_REACHED after 1"),
    ],
)
def test_it_waits_for_a_rate_however_often_it_is_reached(
    built: Path, reason: str, passing: bool, failures: int, outcome: str
) -> None:
    script = f"""
        import {{ SynclineError }} from "./dist/errors.js";
        import {{ repeating }} from "./dist/retry.js";
        let asked = 0;
        const ask = async () => {{
          if (++asked <= {failures}) throw new SynclineError("{reason}", "no", {json.dumps(passing)}, 10);
          return "done";
        }};
        console.log(await repeating(ask).catch((error) => error.reason), "after", asked);
    """
    done = subprocess.run(
        ["node", "--input-type=module", "--eval", script],
        cwd=built,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == outcome, done.stderr


def test_both_clients_have_the_same_tree(native: DemoDevice, typescript: Typescript, tmp_path: Path) -> None:
    folder = tmp_path / "from-typescript"
    files = {
        "naïve – ünïcödé.txt": b"text",
        "empty": b"",
        "docs/deep/plan.txt": b"a plan",
        "docs/photo.raw": noise(9 * MIB, 1),
        **{f"many/{i}": str(i).encode() for i in range(1100)},
    }
    write(folder, files)
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("docs/deep/plan.txt")
    (folder / "empty directory").mkdir()
    os.utime(folder / "empty", ns=(0, 1_234_567_890_123_456_789))
    ((report,), _) = typescript.run("upload", str(folder))
    assert (report["files"], report["created"], report["failed"]) == (1106, 1106 + 4, [])

    assert native.sync()["downloaded"] == 1106
    assert read(native.folder) == files | {"run.sh": b"#!/bin/sh\n"}
    assert (native.folder / "run.sh").stat().st_mode & 0o100
    assert (native.folder / "link").readlink() == Path("docs/deep/plan.txt")
    assert (native.folder / "empty directory").is_dir()
    assert (native.folder / "empty").stat().st_mtime_ns == 1_234_567_890_123_456_789

    (native.folder / "docs" / "deep" / "plan.txt").write_text("a better plan")
    (native.folder / "many" / "7").unlink()
    (native.folder / "docs" / "photo.raw").rename(native.folder / "picture.raw")
    native.sync()
    back = tmp_path / "back"
    ((report,), _) = typescript.run("download", str(back))
    assert report["files"] == report["downloaded"] == 1105
    assert report["objects_down"] < 20, "packs are fetched whole"
    assert read(back) == read(native.folder)
    assert (back / "link").readlink() == Path("docs/deep/plan.txt")
    assert (back / "run.sh").stat().st_mode & 0o100
    ((again,), _) = typescript.run("download", str(back))
    assert (again["downloaded"], again["objects_down"]) == (0, 0)


def test_what_one_client_has_stored_costs_the_other_no_block(
    native: DemoDevice, typescript: Typescript, tmp_path: Path
) -> None:
    ours, theirs = noise(20 * MIB, 2), noise(20 * MIB, 3)
    write(native.folder, {"native.bin": ours})
    assert native.sync()["bytes_up"] == len(ours)

    folder = tmp_path / "from-typescript"
    write(folder, {"copy of native.bin": ours})
    ((report,), _) = typescript.run("upload", str(folder))
    assert (report["created"], report["bytes"], report["blocks"]) == (1, 20 * MIB, report["blocks"])
    assert report["blocks"] >= 3
    assert (report["objects_up"], report["bytes_up"]) == (0, 0)

    write(folder, {"typescript.bin": theirs})
    ((report,), _) = typescript.run("upload", str(folder))
    assert report["bytes_up"] == len(theirs)
    write(native.folder, {"copy of typescript.bin": theirs})
    figures = native.sync()
    assert figures["uploaded"] == 1
    assert (figures["bytes_up"], figures["requests"]["s3_put"]) == (0, 0)
    assert read(native.folder)["typescript.bin"] == theirs


TEN_THOUSAND = {f"{i // 500}/{i}.txt": f"file {i}".encode() for i in range(10_000)}


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_what_says_that_it_is_encoded_is_read_as_it_is(
    stack: Stack, native: DemoDevice, typescript: Typescript, tmp_path: Path, encoding: str
) -> None:
    """An object that was sealed before strange headers kept one from being sealed: its bytes are right."""
    data = noise(MIB // 2 + 1, 5)
    write(native.folder, {"whole": data})
    native.sync()
    with Session.open(native.root / "home") as session:
        key = f"spaces/{session.account.personal_space}/objects/{hashlib.sha256(data).hexdigest()}"

    async def put_anew() -> None:
        async with stack.aws.client("s3") as s3:
            where = {"Bucket": stack.resources.bucket_name, "Key": key}
            await s3.delete_object(**where)
            await s3.put_object(**where, Body=data, IfNoneMatch="*", ContentEncoding=encoding)

    asyncio.run(put_anew())
    typescript.run("download", str(tmp_path / "back"))
    assert read(tmp_path / "back") == {"whole": data}


def test_one_object_may_be_a_pack_and_a_block(native: DemoDevice, typescript: Typescript, tmp_path: Path) -> None:
    """Two parts go into one pack; the whole is a block of the same bytes, and so the same object."""
    folder = tmp_path / "from-typescript"
    parts = {f"x.part{i}": noise(307_200, 10 + i) for i in (1, 2)}
    write(folder, parts)
    ((report,), _) = typescript.run("upload", str(folder))
    assert (report["objects_up"], report["failed"]) == (1, [])
    whole = parts["x.part1"] + parts["x.part2"]
    write(folder, {"x": whole, "y": whole})
    ((report,), _) = typescript.run("upload", str(folder))
    assert (report["created"], report["failed"]) == (2, [])
    native.sync()
    assert read(native.folder) == parts | {"x": whole, "y": whole}


@pytest.fixture(scope="module")
def checker(built: Path, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Typescript:
    """The client of somebody who has 10,000 files in the space."""
    native = signed_up(stack, tmp_path_factory.mktemp("ten thousand"))
    write(native.folder, TEN_THOUSAND)
    assert native.sync()["uploaded"] == 10_000
    return signed_in(built, stack, native)


DIFFERING = {
    "0/3.txt": {"difference": "CONTENT", "sha256": hashlib.sha256(b"file 3").hexdigest()},
    "9/4999.txt": {"difference": "CONTENT", "sha256": hashlib.sha256(b"file 4999").hexdigest()},
    "19/none.txt": {"difference": "UNKNOWN", "sha256": ""},
}


def asked() -> list[str]:
    """The lines of 10,000 files, three of which differ."""
    changed = {path: b"something else" if path in DIFFERING else data for path, data in TEN_THOUSAND.items()}
    del changed["19/9999.txt"]
    return sums(changed | {"19/none.txt": b"?"}).splitlines(keepends=True)


def verdicts(lines: list[dict[str, Any]]) -> dict[str, Any]:
    return {line.pop("path"): line for line in lines if "path" in line}


def test_ten_thousand_versions_are_checked_in_one_stream(checker: Typescript) -> None:
    lines, told = checker.run("check", stdin="".join(asked()), expect=1)
    assert lines[-1] == {"complete": True, "files": 10_000, "differing": 3, "answers": 10, "seq": lines[-1]["seq"]}
    assert verdicts(lines) == DIFFERING
    assert told == "", "nothing broke, so it was one stream"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_an_outage_in_mid_stream_is_an_error_and_then_the_right_answer(
    stack: Stack, checker: Typescript, number: signal.Signals
) -> None:
    lines = asked()
    with checker.started("check", "--attempts", "40") as child:
        told = [*answers(child, lines[:4000], 4)]
        end_metadata(stack, number)
        # These lines are sent while nobody is there to hear them.
        output, errors = child.communicate("".join(lines[4000:]), timeout=120)
        told += [json.loads(line) for line in output.splitlines()]
    assert "broken: " in errors
    assert ("DRAINING" if number is signal.SIGTERM else "UNAVAILABLE") in errors
    assert child.returncode == 1
    assert told[-1] == {"complete": True, "files": 10_000, "differing": 3, "answers": 10, "seq": told[-1]["seq"]}
    assert verdicts(told) == DIFFERING

    # Without patience the same outage is an error, and never a wrong answer.
    with checker.started("check", "--attempts", "1") as child:
        told = [*answers(child, lines[:4000], 4)]
        end_metadata(stack, number)
        output, errors = child.communicate("".join(lines[4000:]), timeout=120)
    assert child.returncode == 3, output + errors
    assert "complete" not in output
    assert "UNAVAILABLE" in errors or "DRAINING" in errors
    told, _ = checker.run("check", "--attempts", "40", stdin="".join(lines), expect=1)
    assert verdicts(told) == DIFFERING


def answers(child: subprocess.Popen[str], lines: list[str], count: int) -> Iterator[dict[str, Any]]:
    """Ask about the lines, and give what is answered until so many batches are."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("".join(lines))
    child.stdin.flush()
    while count:
        line = json.loads(child.stdout.readline())
        count -= "checked" in line
        yield line


def end_metadata(stack: Stack, number: signal.Signals) -> None:
    """End the process; the stack starts another one."""
    before = stack.pids["metadata"]
    os.kill(before, number)
    deadline = time.monotonic() + 60
    while stack.pids["metadata"] == before:
        assert time.monotonic() < deadline, "metadata does not come back"
        time.sleep(0.05)


def test_an_upload_that_was_killed_goes_on(
    stack: Stack, native: DemoDevice, typescript: Typescript, tmp_path: Path
) -> None:
    folder = tmp_path / "from-typescript"
    files: dict[str, bytes] = {}
    with Session.open(native.root / "home") as session:
        space = Space(session, SpaceId(json.loads(typescript.state.read_text())["personal_space_id"]))
        was_killed = False
        while not was_killed:  # On a busy machine it may be done before it is seen to have begun.
            before = len(files)
            assert before < 20_000, "it always ended before it was killed"
            files |= {f"{i}.txt": f"file {i}".encode() for i in range(before, before + 4000)}
            write(folder, files)
            was_killed = killed_amid_commits(typescript.started("upload", str(folder)), space)
    ((report,), _) = typescript.run("upload", str(folder))
    assert report["unchanged"] >= before + 1000
    assert report["created"] + report["unchanged"] == len(files)
    assert native.sync()["downloaded"] == len(files)
    assert read(native.folder) == files


def killed_amid_commits(starting: AbstractContextManager[subprocess.Popen[str]], space: Space) -> bool:
    """Kill an upload once it has committed something; False if it ended before that."""
    head = space.get_space().head
    with starting as child:
        deadline = time.monotonic() + 60
        while space.get_space().head == head and child.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child.kill()
        assert child.wait() in {0, -signal.SIGKILL}
        return child.returncode == -signal.SIGKILL


def test_a_token_that_is_refused_is_refreshed(typescript: Typescript) -> None:
    state = json.loads(typescript.state.read_text())
    head, claims, signature = state["access_token"].split(".")
    typescript.change(access_token=f"{head}.{claims}.{signature[:-4]}AAAA")
    (spaces, _) = typescript.run("spaces")
    assert [space["name"] for space in spaces] == ["personal"]
    renewed = json.loads(typescript.state.read_text())
    assert renewed["refresh_token"] != state["refresh_token"]

    typescript.change(access_expires_at_ms=0)
    typescript.run("spaces")
    assert json.loads(typescript.state.read_text())["refresh_token"] != renewed["refresh_token"]

    typescript.change(access_token="nonsense")
    _, told = typescript.run("spaces", expect=3)
    assert told.startswith("TOKEN_MALFORMED: ")


def test_errors_are_told_by_their_reason(stack: Stack, typescript: Typescript, native: DemoDevice) -> None:
    sign_in = ("sign-in", "--endpoint", stack.endpoint, "--email", native.email)
    _, told = typescript.run(*sign_in, stdin="wrong password\n", expect=3)
    assert told.startswith("WRONG_PASSWORD: ")
    _, told = typescript.run("download", "x", "--space", "a" * 26, expect=3)
    assert told.startswith("NO_SUCH_SPACE: ")
    _, told = typescript.run("sign-in", "--endpoint", "http://127.0.0.1:9", "--email", native.email, expect=3)
    assert told.startswith("ENDPOINT_UNREACHABLE: ")


# ---- a hostile server, and hostile members


class HostileMetadata(metadata_pb2_grpc.MetadataServiceServicer):
    """Tells a tree that no service would tell."""

    nodes: Sequence[journal_pb2.Node] = ()
    endless = False

    def ListChanges(  # noqa: N802 - an rpc
        self, request: metadata_pb2.ListChangesRequest, context: grpc.ServicerContext
    ) -> Iterator[metadata_pb2.ListChangesResponse]:
        for number in itertools.count() if self.endless else ():
            yield metadata_pb2.ListChangesResponse(cursor=f"{number}".encode(), seq=number)
        yield metadata_pb2.ListChangesResponse(nodes=self.nodes, cursor=b"c", seq=1, complete=True)


@dataclass
class Hostile:
    services: Running
    metadata: HostileMetadata
    client: Typescript


@pytest.fixture
def hostile(built: Path, tmp_path: Path) -> Iterator[Hostile]:
    metadata = HostileMetadata()  # type: ignore[abstract]  # it has the rpcs that are asked for
    with running(metadata=metadata) as services:
        services.document["limits"] = dict.fromkeys(
            ("mutations", "mutations_bytes", "check_batch", "find_digests", "seal_objects"), 1000
        )
        client = Typescript(built, tmp_path / "state.json")
        client.run("sign-in", "--endpoint", services.endpoint, "--email", "ann@example.com", stdin=f"{HOSTILE}\n")
        yield Hostile(services, metadata, client)


EMPTY = journal_pb2.Content(digest=hashlib.sha256(b"").digest())


def listed(
    number: int,
    name: str,
    *,
    parent: int = 0,
    kind: journal_pb2.NodeKind.ValueType = journal_pb2.NODE_KIND_FILE,
    target: str = "",
) -> journal_pb2.Node:
    content = None if kind == journal_pb2.NODE_KIND_DIRECTORY else EMPTY
    if target:
        digest = hashlib.sha256(target.encode()).digest()
        content = journal_pb2.Content(digest=digest, size=len(target), target=target)
    node, above = number.to_bytes(16, "big"), parent.to_bytes(16, "big")
    return journal_pb2.Node(id=node, parent=above, name=name, kind=kind, version=1, content=content, seq=1)


def test_no_name_leads_out_of_the_folder(hostile: Hostile, tmp_path: Path) -> None:
    folder = tmp_path / "outside" / "folder"
    directory, link = journal_pb2.NODE_KIND_DIRECTORY, journal_pb2.NODE_KIND_SYMLINK
    bad = ["..", ".", "", "../up", "a/b", f"{tmp_path}/absolute", "nul\0", ".syncline", ".SYNCLINE", "n" * 256]
    hostile.metadata.nodes = [
        listed(1, "good"),
        *(listed(number, name) for number, name in enumerate(bad, 10)),
        listed(30, "..", kind=directory),
        listed(31, "below", parent=30),
        listed(40, "link", kind=link, target=str(tmp_path)),
        listed(41, "through", parent=40),
        listed(50, "twice"),
        listed(51, "twice"),
        # A circle, and directories in directories.
        listed(60, "one", parent=61, kind=directory),
        listed(61, "other", parent=60, kind=directory),
        listed(1000, "d", kind=directory),
        *(listed(number, "d", parent=number - 1, kind=directory) for number in range(1001, 9000)),
    ]
    ((report,), _) = hostile.client.run("download", str(folder), expect=4)
    assert (report["files"], report["downloaded"]) == (3, 3)
    refused = [failed["path"] for failed in report["failed"]]
    assert len(refused) == len(bad) + 3
    assert {*bad, "twice"} <= set(refused)
    assert {path.name for path in folder.iterdir()} == {"good", "link", "twice", "d"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "state.json"]
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


def test_nothing_is_written_through_a_link_that_was_a_directory(hostile: Hostile, tmp_path: Path) -> None:
    """A member makes a directory of what was a link: this device still has the link."""
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    outside.mkdir()
    hostile.metadata.nodes = [listed(1, "a", kind=journal_pb2.NODE_KIND_SYMLINK, target=str(outside))]
    hostile.client.run("download", str(folder))
    assert (folder / "a").readlink() == outside
    directory = journal_pb2.NODE_KIND_DIRECTORY
    hostile.metadata.nodes = [
        listed(2, "a", kind=directory),
        listed(3, "b", parent=2, kind=directory),
        listed(4, "authorized_keys", parent=2),
        listed(5, "c", parent=3),
        listed(6, "good"),
    ]
    ((report,), _) = hostile.client.run("download", str(folder), expect=4)
    assert not list(outside.iterdir())
    assert {failed["path"] for failed in report["failed"]} == {"a", "a/b", "a/authorized_keys", "a/b/c"}
    assert all("in the way" in failed["reason"] for failed in report["failed"])
    assert (folder / "good").is_file()


def test_a_file_that_its_blocks_do_not_add_up_to_is_not_fetched(hostile: Hostile, tmp_path: Path) -> None:
    block = hashlib.sha256(b"x").digest()
    lies = [
        journal_pb2.Manifest(blocks=block * 1000, lengths=[1 << 24] * 1000),
        journal_pb2.Manifest(blocks=block, lengths=[1, 2, 3]),
        journal_pb2.Manifest(blocks=block, lengths=[5], objects=block, object_index=[7], offsets=[0]),
        journal_pb2.Manifest(blocks=block, lengths=[5], objects=block, object_index=[0], offsets=[1 << 30]),
    ]
    hostile.metadata.nodes = [listed(1, "good")]
    for number, manifest in enumerate(lies, 2):
        node = listed(number, f"lie {number}")
        node.content.CopyFrom(journal_pb2.Content(digest=b"d" * 32, size=5, manifest=manifest))
        hostile.metadata.nodes = [*hostile.metadata.nodes, node]
    ((report,), _) = hostile.client.run("download", str(tmp_path / "folder"), expect=4)
    assert (report["downloaded"], report["objects_down"]) == (1, 0)
    assert len(report["failed"]) == len(lies)


def test_what_has_no_end_is_given_up(hostile: Hostile, tmp_path: Path) -> None:
    hostile.metadata.endless = True
    _, complaint = hostile.client.run("download", str(tmp_path / "folder"), expect=3)
    assert complaint.startswith("UNEXPECTED_ANSWER: ")
    hostile.services.document["limits"]["check_batch"] = 0
    _, complaint = hostile.client.run("spaces", expect=3)
    assert complaint.startswith("NOT_SYNCLINE: ")
    hostile.services.document["limits"]["check_batch"] = 1000
    hostile.services.document["filling"] = "x" * 100_000
    _, complaint = hostile.client.run("spaces", expect=3)
    assert complaint.startswith("UNEXPECTED_ANSWER: ")


def test_names_of_spaces_steer_no_terminal_and_hide_nothing(hostile: Hostile) -> None:
    name = "a\u200b\u00ad\ufe0f\U000e0041\U000e0101\u2028\x9b31m\u202e b"
    hostile.services.auth.spaces = [auth_pb2.Space(space_id=new_text_id(), name=name, role=auth_pb2.ROLE_EDITOR)]
    shown = subprocess.run(hostile.client.command("spaces"), capture_output=True, check=True, timeout=60).stdout
    assert shown.isascii()
    assert json.loads(shown)["name"] == name


def test_the_client_in_typescript_waits(slow: Stack, built: Path, tmp_path: Path) -> None:
    native = signed_up(slow, tmp_path / "native")
    client = signed_in(built, slow, native)
    folder = tmp_path / "from-typescript"
    files = {f"{number % 30:02}/{number}": new_text_id().encode() for number in range(1500)}
    write(folder, files)
    ((report,), _) = client.run("upload", str(folder))
    assert (report["files"], report["created"], report["failed"]) == (1500, 1530, [])
    write(folder, {f"more/{number}": new_text_id().encode() for number in range(20)})
    ((report,), _) = client.run("upload", str(folder))
    assert (report["created"], report["failed"]) == (21, [])
    assert native.sync()["downloaded"] == 1520
    assert read(native.folder) == read(folder)
