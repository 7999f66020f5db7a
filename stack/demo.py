"""`make demo`: a story on real files. Two people, three devices, one shared folder, over the embedded AWS.

Every step is a command as a person types it, each device with a SYNCLINE_HOME of its own. Each step
checks what the system has done; the exit status is 0 only if all checks pass.

With `--endpoint` it uses a system that is already running. `--aws` is the address of that system's embedded AWS, from
which the mails are read with the root credentials, and `--aws-credentials` is the file with these.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from stack.data_directory import parsed_credentials
from stack.embedded_aws import Aws
from stack.running import running_stack
from syncline.model.identifiers import new_text_id

MIB: Final = 1 << 20
BIG_FILE_BYTES: Final = 64 * MIB
PASSWORD: Final = "ochre lantern vivid tundra"  # noqa: S105 - of the people of the story
MAIL_PATIENCE_SECONDS: Final = 180
"""Seconds in which a mail must come: notify tries a mail that could not be sent again after a minute."""
REPOSITORY: Final = Path(__file__).resolve().parent.parent
# Files of a work tree that are not part of its sources: environments, caches and the history.
NOT_COPIED: Final = shutil.ignore_patterns(
    ".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info", "build", "dist", "node_modules"
)

Mails = list[dict[str, Any]]


class StoryBroken(Exception):
    """The system did something else than a step of the story expects."""


@dataclass
class DemoTeller:
    """Prints the steps of the story and their durations."""

    began: float = field(default_factory=time.monotonic)
    chapters: int = 0

    def chapter(self, title: str) -> None:
        self.chapters += 1
        print(f"\n{self.chapters}. {title}", flush=True)

    def say(self, text: str) -> None:
        print(f"   {text}", flush=True)


@dataclass(frozen=True)
class DemoDevice:
    """A person's computer: its own SYNCLINE_HOME and its own copy of the folder."""

    owner: str
    name: str
    root: Path
    tag: str = ""
    """Suffix of the e-mail address, which distinguishes this owner from an earlier owner of the same name who already
    has an account.
    """

    @property
    def email(self) -> str:
        return f"{self.owner.lower()}{self.tag}@example.com"

    @property
    def folder(self) -> Path:
        return self.root / "folder"

    def run(self, *arguments: str, stdin: str = "", expect: int = 0) -> str:
        """Run the command `syncline` with `arguments` and the input `stdin` on this device; return its standard output.
        Raise StoryBroken if its exit status is not `expect`.
        """
        with self.start(*arguments) as child:
            output, errors = child.communicate(stdin)
        if child.returncode != expect:
            raise StoryBroken(
                f"syncline {' '.join(arguments)} ended with {child.returncode}, not {expect}: {errors.strip()}"
            )
        return output

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command `syncline` with `arguments` on this device, and return its process, whose standard streams
        are pipes. The caller has to wait for the end of the process.
        """
        return subprocess.Popen(
            [sys.executable, "-m", "syncline.cli", *arguments],
            env={**os.environ, "SYNCLINE_HOME": str(self.root / "home")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )

    def sync(self, *arguments: str) -> dict[str, Any]:
        """Sync the folder; return the report that the command prints with --json. `arguments` are further arguments of
        the command. Raise StoryBroken if anything could not be synced.
        """
        figures: dict[str, Any] = json.loads(self.run("sync", str(self.folder), "--json", *arguments))
        expect(not figures["problems"], f"{self.name} could not sync everything: {figures['problems']}")
        return figures

    def check(self) -> dict[str, Any]:
        """Return the document that `syncline check` prints with --json."""
        verdicts: dict[str, Any] = json.loads(self.run("check", str(self.folder), "--json"))
        return verdicts


def expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise StoryBroken(otherwise)


def contents(folder: Path) -> dict[str, str]:
    """Return each path below `folder` with the digest of its bytes, or a word for directories and links."""
    return dict(_contents(folder))


def _contents(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name == ".syncline" or name.startswith(".syncline/"):
            continue
        if path.is_symlink():
            yield name, f"-> {path.readlink()}"
        elif path.is_dir():
            yield name, "directory"
        else:
            with path.open("rb") as file:
                yield name, hashlib.file_digest(file, "sha256").hexdigest()


def same_trees(*devices: DemoDevice) -> int:
    """Return the number of entries in the devices' folders, which must be equal byte for byte. Raise StoryBroken if
    they differ.
    """
    first, *others = (contents(device.folder) for device in devices)
    for device, other in zip(devices[1:], others, strict=True):
        different = sorted(name for name in first.keys() | other.keys() if first.get(name) != other.get(name))
        expect(not different, f"{devices[0].name} and {device.name} differ in {different[:5]}")
    return len(first)


def moved(figures: dict[str, Any]) -> str:
    requests = figures["requests"]
    return (
        f"{figures['uploaded']} up ({figures['bytes_up'] / MIB:.1f} MiB), "
        f"{figures['downloaded']} down ({figures['bytes_down'] / MIB:.1f} MiB), "
        f"{requests['s3_put']} PUT, {requests['s3_get']} GET, {requests['grpc']} gRPC calls, {figures['seconds']:.2f} s"
    )


def story(tell: DemoTeller, scratch: Path, *, endpoint: str, mails: Callable[[], Mails] | None, tag: str = "") -> None:
    """Run the steps of the demonstration on a system that serves at `endpoint`, and print each of them by `tell`. The
    devices have their directories in `scratch`. `mails` returns all sent mails; with None, no step checks mails. `tag`
    is a suffix of the e-mail addresses. Raise StoryBroken if the system does something else than a step expects.
    """
    laptop = DemoDevice("Ann", "laptop", scratch / "laptop", tag)
    desktop = DemoDevice("Ann", "desktop", scratch / "desktop", tag)
    notebook = DemoDevice("Ben", "notebook", scratch / "notebook", tag)

    tell.chapter("Ann and Ben sign up; Ann makes a space and shares it with Ben")
    for device in (laptop, notebook):
        device.run(
            *("signup", "--endpoint", endpoint, "--email", device.email, "--password-stdin"),
            *("--device", device.name),
            stdin=f"{PASSWORD}\n",
        )
    laptop.run("spaces", "create", "Project")
    laptop.run("share", "Project", notebook.email, "--role", "editor")
    tell.say(f"{laptop.email} owns 'Project', {notebook.email} may edit it")

    tell.chapter("Ann syncs this repository's work tree and a generated file of 64 MiB")
    shutil.copytree(REPOSITORY, laptop.folder, ignore=NOT_COPIED, symlinks=True)
    big = laptop.folder / "generated.bin"
    big.write_bytes(random.Random(1).randbytes(BIG_FILE_BYTES))  # noqa: S311 - data, not a secret
    (laptop.folder / "an empty directory").mkdir()
    figures = laptop.sync("--space", "Project")
    expect(figures["uploaded"] > 100, "the work tree has more files than that")
    tell.say(moved(figures))

    tell.chapter("Ben's notebook joins, and gets the same tree")
    notebook.folder.mkdir(parents=True)
    tell.say(moved(notebook.sync("--space", "Project")))
    tell.say(f"{same_trees(laptop, notebook)} files and directories, the same byte for byte")

    tell.chapter("A second sync does nothing")
    for device in (laptop, notebook):
        figures = device.sync()
        requests = figures["requests"]
        idle = not (figures["uploaded"] or requests["s3_put"] or requests["s3_get"]) and requests["grpc"] <= 3
        expect(idle, f"a second sync did something: {figures}")
        tell.say(f"{device.name}: {moved(figures)}")

    tell.chapter("Ann inserts one byte into the middle of the big file, edits, renames, moves and deletes")
    half = BIG_FILE_BYTES // 2
    data = big.read_bytes()
    big.write_bytes(data[:half] + b"!" + data[half:])
    readme = laptop.folder / "README.md"
    readme.write_text(readme.read_text() + "\nAnn was here.\n")
    (laptop.folder / "docs").rename(laptop.folder / "documents")
    (laptop.folder / "LICENSE").rename(laptop.folder / "documents" / "LICENSE.txt")
    (laptop.folder / "constraints.txt").unlink()
    figures = laptop.sync()
    expect(figures["bytes_up"] < 20 * MIB, f"one byte cost {figures['bytes_up']} bytes of upload")
    tell.say(f"{moved(figures)}, {figures['moved']} moved, {figures['deleted_remote']} deleted")

    tell.chapter("Before he syncs, Ben asks the version check what is newer")
    verdicts = notebook.check()
    expect("generated.bin" in verdicts["stale"], f"the check did not notice the big file: {verdicts}")
    tell.say(f"{verdicts['current']} current, stale: {', '.join(verdicts['stale'][:4])}")
    tell.say(f"no longer at their paths: {len(verdicts['deleted']) + len(verdicts['unknown'])}")
    figures = notebook.sync()
    tell.say(f"then he syncs: {moved(figures)}, {figures['moved']} moved, {figures['deleted_local']} deleted")
    same_trees(laptop, notebook)

    tell.chapter("Both edit the same file without knowing of each other: nothing is lost")
    (laptop.folder / "pyproject.toml").write_text("Ann's version\n")
    (notebook.folder / "pyproject.toml").write_text("Ben's version\n")
    laptop.sync()
    figures = notebook.sync()
    expect(figures["conflicts"] == 1, f"a conflict was expected: {figures}")
    laptop.sync()
    copies = _conflict_copies(laptop.folder)
    expect((laptop.folder / "pyproject.toml").read_text() == "Ann's version\n", "Ann's version is not in its place")
    expect(len(copies) == 1, f"one conflict copy was expected: {copies}")
    tell.say(f"Ann's came first and keeps the name; Ben's is kept as {copies[0]!r}")

    tell.chapter("Ann's desktop joins later and gets the same tree")
    desktop.folder.mkdir(parents=True)
    desktop.run(
        *("login", "--endpoint", endpoint, "--email", desktop.email, "--password-stdin"),
        *("--device", desktop.name),
        stdin=f"{PASSWORD}\n",
    )
    tell.say(moved(desktop.sync("--space", "Project")))
    tell.say(f"{same_trees(laptop, notebook, desktop)} files and directories on three devices, byte for byte")

    tell.chapter("Ben was mailed about what Ann did, and Ann about Ben's copy")
    if mails is None:
        tell.say("of which nothing can be seen from here; --aws says where the mails can be read")
        return
    deadline = time.monotonic() + MAIL_PATIENCE_SECONDS
    while not all(_mails_to(mails(), device.email) for device in (laptop, notebook)):
        expect(time.monotonic() < deadline, "the mail did not come")
        time.sleep(0.2)
    for device in (notebook, laptop):
        subjects = _mails_to(mails(), device.email)
        tell.say(f"{len(subjects)} to {device.email}, the last one: {subjects[-1]!r}")


def _mails_to(mails: Mails, email: str) -> list[str]:
    """Return the subjects of the mails to one person, oldest first."""
    return [mail["Subject"] for mail in mails if email in mail["To"]]


def _conflict_copies(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("pyproject*") if path.name != "pyproject.toml"]


def whole_story(tell: DemoTeller, scratch: Path) -> None:
    """Tell the whole story, from the start of the system to its end."""
    tell.chapter("The whole system starts on this machine")
    with running_stack() as stack:
        tell.say(f"{stack.endpoint} serves after {time.monotonic() - tell.began:.1f} s: auth, metadata, notify, the")
        tell.say("gateway, and an embedded AWS that enforces every signature and policy")
        story(tell, scratch, endpoint=stack.endpoint, mails=stack.aws.mails)
        tell.chapter("Everything stops")
    tell.say(f"cleanly, {time.monotonic() - tell.began:.1f} s after the beginning")


def _mails_at(endpoint: str, credentials: Path) -> Callable[[], Mails]:
    return Aws(endpoint=endpoint, root=parsed_credentials(credentials.read_text())).mails


def main() -> int:
    """Run the demonstration, and print each of its steps. Return the exit status: 0 if the system did what each step
    expects of it, otherwise 1.
    """
    parser = argparse.ArgumentParser(prog="python -m stack.demo", description="Two people, three devices, one folder.")
    parser.add_argument("--endpoint", metavar="URL", help="tell it of a system that runs already")
    parser.add_argument("--aws", metavar="URL", help="where that system's embedded AWS is, to read the mails there")
    parser.add_argument(
        "--aws-credentials", metavar="FILE", type=Path, help="its root credentials: DIR/secrets/aws-credentials"
    )
    arguments = parser.parse_args()
    if arguments.aws and not (arguments.endpoint and arguments.aws_credentials):
        parser.error("--aws goes with --endpoint and --aws-credentials")
    tell = DemoTeller()
    with tempfile.TemporaryDirectory(prefix="syncline-demo-") as scratch:
        try:
            if arguments.endpoint is None:
                whole_story(tell, Path(scratch))
            else:
                tell.say(f"Of the system at {arguments.endpoint}")
                story(
                    tell,
                    Path(scratch),
                    endpoint=arguments.endpoint,
                    mails=_mails_at(arguments.aws, arguments.aws_credentials) if arguments.aws else None,
                    tag=f"-{new_text_id()[:6]}",
                )
        except StoryBroken as broken:
            print(f"\nThe story does not hold: {broken}", file=sys.stderr)
            return 1
    print("\nThe story holds.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
