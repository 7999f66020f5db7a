"""The ways in which the sync engine is broken; the tests of the engine, all of them, have to notice each."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

MUTANTS = (
    Mutant(
        "a mass deletion that is held back is done",
        "clients/python/syncline/sync/plan/mass_deletion.py",
        "return without_deletions(todo, base, sides), waiting",
        "return todo, waiting",
    ),
    Mutant(
        "two edits of one file: ours wins",
        "clients/python/syncline/sync/plan/merge.py",
        "ContentFlow.UP if remote.digest == base.digest else ContentFlow.CONFLICT",
        "ContentFlow.UP",
    ),
    Mutant(
        "a deletion there wins over an edit here",
        "clients/python/syncline/sync/plan/merge.py",
        "if here.kind is not NodeKind.DIRECTORY and (here.digest",
        "if False and (here.digest",
    ),
    Mutant(
        "a deletion here wins over an edit there",
        "clients/python/syncline/sync/plan/merge.py",
        "if there.kind is not NodeKind.DIRECTORY and (there.digest",
        "if False and (there.digest",
    ),
    Mutant(
        "of two nodes of one name the space's gives way",
        "clients/python/syncline/sync/plan/merge.py",
        "there is None or there.place != place,\n",
        "there is not None and there.place == place,\n",
    ),
    Mutant(
        "files of one name are one, whatever is in them",
        "clients/python/syncline/sync/plan/merge.py",
        "winner_is_here or mine.digest is None or mine.digest != theirs.digest",
        "winner_is_here",
    ),
    Mutant(
        "both moves of a cycle hold",
        "clients/python/syncline/sync/plan/merge.py",
        "if not cycles:\n",
        "if cycles or not cycles:\n",
    ),
    Mutant(
        "a directory is deleted with what has to stay",
        "clients/python/syncline/sync/plan/reshape.py",
        "if any(node in self._target for node in level):",
        "if False:",
    ),
    Mutant(
        "what is moved aside does not say what it is",
        "clients/python/syncline/sync/plan/reshape.py",
        "transit_name(holder))",
        'f"aside {len(self._operations)}")',
    ),
    Mutant(
        "a move does not wait for its name",
        "clients/python/syncline/sync/plan/reshape.py",
        "if doomed is None:",
        "if doomed is None and node == holder:",
    ),
    Mutant(
        "a file that was read too early is trusted",
        "clients/python/syncline/sync/scan/identify.py",
        "return before.trusted and entry.signature == before.signature",
        "return entry.signature == before.signature",
    ),
    Mutant(
        "size and time say all about a file",
        "clients/python/syncline/sync/scan/identify.py",
        "return before.trusted and entry.signature == before.signature",
        "return before.trusted and entry.signature.size == before.signature.size "
        "and entry.signature.mtime_ns == before.signature.mtime_ns",
    ),
    Mutant(
        "any directory with the same inode is the same",
        "clients/python/syncline/sync/scan/identify.py",
        "node.id not in self._taken and has_something_of(n, node)",
        "node.id not in self._taken",
    ),
    Mutant(
        "a file that was changed meanwhile is replaced",
        "clients/python/syncline/sync/folder/files.py",
        "replaced = same_file(self.stat(aside), expected)",
        "replaced = True",
    ),
    Mutant(
        "a file that was changed meanwhile is deleted",
        "clients/python/syncline/sync/folder/files.py",
        "if not same_file(self.stat(aside), expected):",
        "if False:",
    ),
    Mutant(
        "a move overwrites",
        "clients/python/syncline/sync/folder/files.py",
        "            _rename_noreplace(source, name, target, new_name)\n",
        "            os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)\n",
    ),
    Mutant(
        "something is put beside another spelling of its name",
        "clients/python/syncline/sync/folder/files.py",
        "        return any((directory, other) != _split(but) for other in spellings.others(name))\n",
        "        return False\n",
    ),
    Mutant(
        "a twin that a person made keeps an update away",
        "clients/python/syncline/sync/folder/files.py",
        "            self.move(temporary if replaced else aside, path, back=True)\n",
        "            self.move(temporary if replaced else aside, path)\n",
    ),
    Mutant(
        "what was moved aside is discarded",
        "clients/python/syncline/sync/apply/local.py",
        "if digest is not None and digest in known(node):",
        "if digest is not None:",
    ),
    Mutant(
        "the state is ahead of the disk",
        "clients/python/syncline/sync/apply/local.py",
        "            self._files.flush([], self._dirty)\n",
        "",
    ),
    Mutant(
        "a content gets its name before it is on the disk",
        "clients/python/syncline/sync/apply/local.py",
        "                self._files.flush(temporaries, [])\n",
        "                pass\n",
    ),
    Mutant(
        "what was noted as settled outlives a write",
        "clients/python/syncline/sync/state/database.py",
        '        self._db.execute("DELETE FROM settled")\n',
        "",
    ),
    Mutant(
        "a glance passes over the time of the last change",
        "clients/python/syncline/sync/scan/walk.py",
        "found.st_ctime_ns, ",
        "",
    ),
    Mutant(
        "a commit is not written down before it is sent",
        "clients/python/syncline/sync/apply/remote.py",
        "        state.put_in_flight("
        "InFlight(batch.request, tuple(batch.mutations), tuple(batch.evidence), self._right))\n",
        "",
    ),
    Mutant(
        "a directory is deleted there with what is new in it",
        "clients/python/syncline/sync/apply/remote.py",
        "and self._ledger.mirror.pull(self._space):",
        "and False:",
    ),
    Mutant(
        "the base says what was planned, not what is",
        "clients/python/syncline/sync/apply/ledger.py",
        "if (here.digest, here.executable) != (there.digest, there.executable):",
        "if False:",
    ),
    Mutant(
        "what a restored space lacks was deleted",
        "clients/python/syncline/sync/state/mirror.py",
        "        if agreed_elsewhere:\n",
        "        if False:\n",
    ),
    Mutant(
        "what a mount covers was deleted",
        "clients/python/syncline/sync/scan/other_filesystems.py",
        "if before.filesystem == entry.filesystem or entry.hidden:",
        "if True:",
    ),
    Mutant(
        "what was on a mount that is absent was deleted with its mount point",
        "clients/python/syncline/sync/scan/identify.py",
        "            if node.filesystem and not accounted:\n",
        "            if False:\n",
    ),
    Mutant(
        "what was done without the right is done later",
        "clients/python/syncline/sync/plan/disown.py",
        "return told.read_only or state.right not in {None, told} or state.refused",
        "return told.read_only",
    ),
    Mutant(
        "a viewer's changes are taken back by nobody",
        "clients/python/syncline/sync/plan/disown.py",
        "return told.read_only or state.right not in {None, told} or state.refused",
        "return state.right not in {None, told} or state.refused",
    ),
    Mutant(
        "what is done without the right is taken back once, and then done",
        "clients/python/syncline/sync/plan/disown.py",
        "            del agreed[node]\n",
        "            del agreed[node]\n        return Disowned(todo, frozenset(nodes), frozenset(forgotten))\n",
    ),
    Mutant(
        "a plan is carried out by whatever right there is",
        "clients/python/syncline/sync/apply/remote.py",
        "self._right = right\n",
        "self._right = None\n",
    ),
    Mutant(
        "a plan is made by a right that was remembered",
        "clients/python/syncline/sync/state/mirror.py",
        "fresh_right=True",
        "fresh_right=False",
    ),
    Mutant(
        "the right that is noted is not the one of the plan",
        "clients/python/syncline/sync/rounds.py",
        "self._note_right(found.right, ",
        "self._note_right(self._mirror.right, ",
    ),
    Mutant(
        "a commit in flight is sent by whatever right there is",
        "clients/python/syncline/sync/apply/remote.py",
        "commit.request, right=commit.right)",
        "commit.request, right=None)",
    ),
    Mutant(
        "an include that failed on the way is refused when it is asked for again",
        "clients/python/syncline/sync/rounds.py",
        "if not chosen and path not in state.included:",
        "if not chosen:",
    ),
    Mutant(
        "a scan during which something was mounted is believed",
        "clients/python/syncline/sync/scan/walk.py",
        "    raise MountsChanging\n",
        "    return found.found\n",
    ),
    Mutant(
        "what another client keeps goes up",
        "clients/python/syncline/sync/scan/filters.py",
        "        if entry.local_name == PRIVATE:\n            return True\n",
        "",
    ),
    Mutant(
        "own commits that a restored space lost are believed in",
        "clients/python/syncline/sync/state/mirror.py",
        "if self._ahead and not agreed_elsewhere:",
        "if False:",
    ),
)
