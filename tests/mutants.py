"""`make mutants`: the sync engine is broken in known ways, one at a time, and its tests have to notice.

Each mutant is a textual patch of a copy of the tree. One that no test notices is a rule that nobody holds.
"""

from __future__ import annotations

import argparse
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
COPIED = ("clients", "core", "protos", "runtime", "services", "stack", "tests", "wire", "pyproject.toml")
TESTS = "tests/clients/sync"
SLOW_TO_TELL = "test_convergence.py"
TENTHS_NOTICED = 9
SECONDS = 900
MEMORY_BYTES = 4 << 30


@dataclass(frozen=True, slots=True)
class Mutant:
    """In a file of the engine, `was` (which is there once) becomes `now`."""

    name: str
    file: str
    was: str
    now: str


MUTANTS = (
    Mutant(
        "a mass deletion that is held back is done",
        "rounds",
        "return without_deletions(found.plan, found.base, **too_many)",
        "return found.plan",
    ),
    Mutant(
        "two edits of one file: ours wins",
        "merge",
        "ContentFlow.UP if remote.digest == base.digest else ContentFlow.CONFLICT",
        "ContentFlow.UP",
    ),
    Mutant(
        "a deletion there wins over an edit here",
        "merge",
        "if here.kind is not NodeKind.DIRECTORY and (here.digest",
        "if False and (here.digest",
    ),
    Mutant(
        "a deletion here wins over an edit there",
        "merge",
        "if there.kind is not NodeKind.DIRECTORY and (there.digest",
        "if False and (there.digest",
    ),
    Mutant(
        "of two nodes of one name the space's gives way",
        "merge",
        "there is None or there.place != place,\n",
        "there is not None and there.place == place,\n",
    ),
    Mutant(
        "files of one name are one, whatever is in them",
        "merge",
        "winner_is_here or mine.digest is None or mine.digest != theirs.digest",
        "winner_is_here",
    ),
    Mutant("both moves of a cycle hold", "merge", "if not cycle:\n", "if cycle or not cycle:\n"),
    Mutant(
        "a directory is deleted with what has to stay",
        "reshape",
        "if any(node in self._target for node in level):",
        "if False:",
    ),
    Mutant(
        "what is moved aside does not say what it is",
        "reshape",
        "transit_name(holder))",
        'f"aside {len(self._operations)}")',
    ),
    Mutant(
        "a move does not wait for its name", "reshape", "if doomed is None:", "if doomed is None and node == holder:"
    ),
    Mutant(
        "a file that was read too early is trusted",
        "identify",
        "return before.trusted and entry.signature == before.signature",
        "return entry.signature == before.signature",
    ),
    Mutant(
        "size and time say all about a file",
        "identify",
        "return before.trusted and entry.signature == before.signature",
        "return before.trusted and entry.signature.size == before.signature.size "
        "and entry.signature.mtime_ns == before.signature.mtime_ns",
    ),
    Mutant(
        "any directory with the same inode is the same",
        "identify",
        "node.id not in self._taken and has_something_of(n, node)",
        "node.id not in self._taken",
    ),
    Mutant(
        "a file that was changed meanwhile is replaced",
        "files",
        "replaced = same_file(self.stat(aside), expected)",
        "replaced = True",
    ),
    Mutant(
        "a file that was changed meanwhile is deleted",
        "files",
        "if not same_file(self.stat(aside), expected):",
        "if False:",
    ),
    Mutant(
        "a move overwrites",
        "files",
        "            _rename_noreplace(source, name, target, new_name)\n",
        "            os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)\n",
    ),
    Mutant(
        "what was moved aside is discarded",
        "apply_here",
        "if digest is not None and digest in known(node):",
        "if digest is not None:",
    ),
    Mutant(
        "the state is ahead of the disk",
        "apply_here",
        "            self._files.flush([], self._dirty)\n",
        "",
    ),
    Mutant(
        "a content gets its name before it is on the disk",
        "apply_here",
        "                self._files.flush(temporaries, [])\n",
        "                pass\n",
    ),
    Mutant(
        "what was noted as settled outlives a write",
        "state",
        '        self._db.execute("DELETE FROM settled")\n',
        "",
    ),
    Mutant(
        "a glance passes over the time of the last change",
        "scan",
        "found.st_ctime_ns, ",
        "",
    ),
    Mutant(
        "a commit is not written down before it is sent",
        "apply_there",
        "        state.put_in_flight("
        "InFlight(batch.request, tuple(batch.mutations), tuple(batch.evidence), self._right))\n",
        "",
    ),
    Mutant(
        "a directory is deleted there with what is new in it",
        "apply_there",
        "and self._ledger.mirror.pull(self._space):",
        "and False:",
    ),
    Mutant(
        "the base says what was planned, not what is",
        "ledger",
        "if (here.digest, here.executable) != (there.digest, there.executable):",
        "if False:",
    ),
    Mutant(
        "what a restored space lacks was deleted", "mirror", "        if agreed_elsewhere:\n", "        if False:\n"
    ),
    Mutant(
        "what a mount covers was deleted",
        "strange",
        "if before.filesystem == entry.filesystem or entry.hidden:",
        "if True:",
    ),
    Mutant(
        "what was on a mount that is absent was deleted with its mount point",
        "identify",
        "            if node.filesystem and not accounted:\n",
        "            if False:\n",
    ),
    Mutant(
        "what was done without the right is done later",
        "disown",
        "return told.read_only or state.right not in {None, told} or state.refused",
        "return told.read_only",
    ),
    Mutant(
        "a viewer's changes are taken back by nobody",
        "disown",
        "return told.read_only or state.right not in {None, told} or state.refused",
        "return state.right not in {None, told} or state.refused",
    ),
    Mutant(
        "what is done without the right is taken back once, and then done",
        "disown",
        "            del agreed[node]\n",
        "            del agreed[node]\n        return Disowned(todo, frozenset(nodes), frozenset(forgotten))\n",
    ),
    Mutant(
        "a plan is carried out by whatever right there is",
        "apply_there",
        "self._right = right\n",
        "self._right = None\n",
    ),
    Mutant("a plan is made by a right that was remembered", "mirror", "fresh_right=True", "fresh_right=False"),
    Mutant(
        "the right that is noted is not the one of the plan",
        "rounds",
        "self._note_right(found.right, ",
        "self._note_right(self._mirror.right, ",
    ),
    Mutant(
        "a commit in flight is sent by whatever right there is",
        "apply_there",
        "commit.request, right=commit.right)",
        "commit.request, right=None)",
    ),
    Mutant(
        "an include that failed on the way is refused when it is asked for again",
        "rounds",
        "if not chosen and path not in state.included:",
        "if not chosen:",
    ),
    Mutant(
        "a scan during which something was mounted is believed",
        "scan",
        "    raise MountsChanging\n",
        "    return found.found\n",
    ),
    Mutant(
        "what another client keeps goes up",
        "filters",
        "        if entry.local_name == PRIVATE:\n            return True\n",
        "",
    ),
    Mutant(
        "own commits that a restored space lost are believed in",
        "mirror",
        "if self._ahead and not agreed_elsewhere:",
        "if False:",
    ),
)


def breed(mutant: Mutant | None, folder: Path) -> None:
    """A copy of the tree with the mutant in it, or a sound one. ValueError if the mutant does not apply."""
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    if mutant is None:
        return
    (folder / "clients" / "sync" / f"{mutant.file}.py").write_text(mutated(mutant))


def mutated(mutant: Mutant) -> str:
    """The text of the file with the mutant in it. ValueError if the mutant does not apply."""
    text = (REPOSITORY / "clients" / "sync" / f"{mutant.file}.py").read_text()
    if text.count(mutant.was) != 1:
        raise ValueError(
            f"{mutant.name!r} does not apply: {mutant.file}.py has its text {text.count(mutant.was)} times"
        )
    return text.replace(mutant.was, mutant.now)


def hunted(folder: Path) -> str | None:
    """The test that notices; None if none does."""
    files = sorted((folder / TESTS).glob("test_*.py"), key=lambda file: (file.name == SLOW_TO_TELL, file.name))
    command = [sys.executable, "-m", "pytest", *map(str, files), "-x", "-q", "--tb=no", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            preexec_fn=_limit_memory,
        )
    except subprocess.TimeoutExpired:
        return "none in particular: they do not end"
    if done.returncode == 0:
        return None
    noticed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return (
        noticed[1].removeprefix(f"{TESTS}/")
        if noticed
        else f"pytest ended with {done.returncode}: {done.stdout[-500:]}"
    )


def _limit_memory() -> None:
    """A tree with a cycle in it has no end."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*", help="only mutants with one of these words in their name")
    parser.add_argument("--breed", action="store_true", help="only see whether they can still be made of the engine")
    asked = parser.parse_args()
    words = asked.words
    chosen = [mutant for mutant in MUTANTS if not words or any(word in mutant.name for word in words)]
    if asked.breed:
        for mutant in chosen:
            mutated(mutant)
        print(f"{len(chosen)} mutants can be made")
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        breed(None, Path(temporary))
        if noticed := hunted(Path(temporary)):
            print(f"the engine itself does not pass its tests, so they say nothing about mutants: {noticed}")
            return 1
    survivors = []
    for mutant in chosen:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as temporary:
            breed(mutant, Path(temporary))
            noticed = hunted(Path(temporary))
        if noticed is None:
            survivors.append(mutant)
        verdict = f"noticed by {noticed}" if noticed else "NOT NOTICED"
        print(f"{mutant.file:12} {mutant.name}: {verdict} ({time.monotonic() - began:.0f} s)", flush=True)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants were noticed")
    return 1 if 10 * (len(chosen) - len(survivors)) < TENTHS_NOTICED * len(chosen) else 0


if __name__ == "__main__":
    sys.exit(main())
