"""The files that link a directory on this device to a space, which makes the directory a synced folder.

`SYNCLINE_HOME/folders/<id>/link.json` holds the folder's path and its space; `DIR/.syncline/folder`, the marker, holds
the folder's id. Both files are needed: an unmounted disk leaves a directory without a marker, and a moved or copied
folder has its marker at another path.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

from syncline.model.errors import InvalidArgument
from syncline.model.identifiers import SpaceId, new_text_id, parse_text_id
from syncline.sdk.file_lock import hold_lock
from syncline.sync.errors import (
    FolderBusy,
    FolderMissing,
    FolderNotLinked,
    FolderUnreadable,
    FolderUnsuitable,
    LinkedElsewhere,
)
from syncline.sync.folder.files import PRIVATE, PRIVATE_MODE

MARKER = f"{PRIVATE}/folder"
MAX_MARKER_BYTES = 4096
"""Maximum number of bytes that are read of a marker; a valid one has a hundred."""
_FOLDERS = "folders"
_LINK = "link.json"
_UNFINISHED = ".new"
_PATIENCE_SECONDS = 5.0
_FORMAT = 1
_UNLINK = "if it is not to be synced any more, remove {} first (no other file is deleted then)"


class Relation(Enum):
    """The relation to a folder of another directory that has a marker: a directory that may be nested in the folder."""

    NONE = auto()
    SAME_SPACE = auto()
    """A different folder that is linked to the same space."""
    SAME_FOLDER = auto()
    """The folder itself, or a copy of it."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A directory that is linked to a space.

    - `id` is its random id, as in its marker.
    - `root` is its absolute path, without symlinks.
    - `space` and `space_name` are the id and the name of the space.
    - `state` is the directory below SYNCLINE_HOME in which the state of the folder is kept.
    """

    id: str
    root: Path
    space: SpaceId
    space_name: str
    state: Path

    @property
    def database(self) -> Path:
        return self.state / "state.db"

    def relative(self, path: Path) -> str:
        """Return the path from the space's root for `path`, a path on this machine. Raise InvalidArgument if it is not
        below the folder.
        """
        absolute = Path(os.path.realpath(path.parent)) / path.name if path.name else Path(os.path.realpath(path))
        try:
            relative = absolute.relative_to(self.root)
        except ValueError:
            raise InvalidArgument(f"{path} is not in the synced folder {self.root}") from None
        return "" if relative == Path() else relative.as_posix()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Context that holds the lock which prevents other syncs of this folder. Raise FolderBusy if another process
        still has the lock after a wait, in which `sync --watch` releases it between two syncs.
        """
        with ExitStack() as held:
            try:
                held.enter_context(hold_lock(self.root / PRIVATE / "lock", timeout_seconds=_PATIENCE_SECONDS))
            except TimeoutError:
                raise FolderBusy(f"another sync of {self.root} is running; wait for it or end it") from None
            for path in (self.root / MARKER, self.state / _LINK):  # Files that a killed process left.
                path.with_name(f"{path.name}{_UNFINISHED}").unlink(missing_ok=True)
            yield

    def check_root(self) -> None:
        """Check that the folder is still the one that was linked.

        - Raise FolderMissing if the folder does not exist or has another marker.
        - Raise FolderUnreadable if the folder cannot be read.
        - Raise FolderNotLinked if the link of the folder has been removed since it was loaded.
        """
        if not (self.state / _LINK).exists():
            raise FolderNotLinked(f"{self.root} is not linked any more; `syncline sync DIR` links it anew")
        if _marked(self.root) == self.id:
            return
        if not self.root.is_dir():
            raise FolderMissing(
                f"{self.root} is not there; mount or restore it, or, if it is to be forgotten, remove {self.state}"
            )
        raise FolderMissing(
            f"{self.root} has no {MARKER} of the folder that was synced here, as if another disk were mounted; "
            f"nothing was changed. Mount the right one; or, to link the directory anew (nothing is deleted then), "
            f"remove {self.state}"
        )


def folders(home: Path) -> list[Folder]:
    """Return all synced folders of the device whose state is in `home`, sorted by path. A folder whose link cannot be
    read is left out.
    """
    try:
        states = list((home / _FOLDERS).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(filter(None, map(_linked, states)), key=lambda folder: folder.root)


def find_folder(home: Path, path: Path) -> Folder:
    """Return the synced folder that contains `path`, the innermost if several do. `home` is the directory with the
    state of this device (SYNCLINE_HOME).

    - A folder that was moved is found by its marker, and is returned with its new path.
    - A folder that does not exist any more, or has lost its marker, is found by the path that it had; its method
      `check_root` raises the reason.

    Raise FolderNotLinked if no synced folder contains `path`, and FolderUnreadable if a marker on the way up cannot be
    read.
    """
    real = Path(os.path.realpath(path))
    known = folders(home)
    above = (real, *real.parents)
    for root in above:
        marked = _marked(root)
        for folder in known:
            if marked == folder.id and (folder.root == root or _marked(folder.root) != marked):
                return dataclasses.replace(folder, root=root)
    for folder in reversed(known):
        if folder.root in above:
            return folder
    raise FolderNotLinked(f"{path} is not in a synced folder; `syncline sync DIR` links one")


def open_folder(home: Path, directory: Path) -> Folder | None:
    """Return the synced folder whose root is `directory`; None if the directory is not linked to a space. `home` is the
    directory with the state of this device (SYNCLINE_HOME). A folder that was moved is recognised, and its new path is
    recorded.

    - Raise FolderMissing if the directory was linked and has lost its marker, and FolderUnreadable if it cannot be
      read.
    - Raise LinkedElsewhere if another SYNCLINE_HOME has linked the directory, or if it is a copy or a second mount of a
      synced folder.
    """
    root = Path(os.path.realpath(directory))
    known = folders(home)
    marked = _marked(root)
    if marked is None:
        for other in known:
            if other.root == root:
                other.check_root()
        return None
    folder = next((other for other in known if other.id == marked), None)
    if folder is None:
        raise LinkedElsewhere(
            f"{root} is linked by another SYNCLINE_HOME or device; if that is no longer so, remove {root / MARKER} "
            "to link it here (nothing is deleted then)"
        )
    if folder.root == root:
        return folder
    if _marked(folder.root) == marked:
        if _is_same_directory(folder.root, root):
            raise LinkedElsewhere(f"{root} is {folder.root}, mounted at another place; sync that one")
        raise LinkedElsewhere(
            f"{root} is a copy of {folder.root}, which is linked already; remove {root / MARKER} to link it by itself"
        )
    moved = dataclasses.replace(folder, root=root)
    _save(moved)
    return moved


def link_folder(home: Path, directory: Path, space: SpaceId, space_name: str) -> Folder:
    """Link a directory to a space; return the new synced folder. The directory is created if only its parent exists.
    `home` is the directory with the state of this device. Raise the errors of `check_suitable`; nothing remains of a
    link that cannot be completed.
    """
    root = Path(os.path.realpath(directory))
    check_suitable(home, directory)
    identifier = new_text_id()
    folder = Folder(identifier, root, space, space_name, home / _FOLDERS / identifier)
    private = root / PRIVATE
    missing = [place for place in (private, root) if not place.exists()]
    try:
        root.mkdir(exist_ok=True)
        private.mkdir(mode=PRIVATE_MODE, exist_ok=True)
        # The marker is written last: a link without a marker is refused with a text that says what to do, a marker
        # without a link is not.
        folder.state.mkdir(mode=0o700, parents=True)
        _save(folder)
        _write(root / MARKER, json.dumps({"folder": identifier, "space": space}) + "\n")
    except (OSError, KeyboardInterrupt) as error:
        if not (root / MARKER).exists():
            shutil.rmtree(folder.state, ignore_errors=True)
            for place in missing:
                with suppress(OSError):
                    place.rmdir()
        if isinstance(error, KeyboardInterrupt):
            raise
        raise FolderUnsuitable(f"{directory} cannot be linked: {error.strerror} ({error.filename})") from None
    return folder


def check_suitable(home: Path, directory: Path) -> None:
    """Raise FolderUnsuitable if this directory cannot be a synced folder, and LinkedElsewhere if a synced folder is
    around the directory or in it. `home` is the directory with the state of this device.
    """
    root = Path(os.path.realpath(directory))
    real_home = Path(os.path.realpath(home))
    if root == real_home or root in real_home.parents:
        raise FolderUnsuitable(f"{root} holds this device's own state ({real_home}); choose another directory")
    if root.exists() and not root.is_dir():
        raise FolderUnsuitable(f"{root} is not a directory; choose a directory")
    if not root.parent.is_dir():
        raise FolderUnsuitable(f"{root.parent} is not there; make it first")
    private = root / PRIVATE
    if private.is_symlink() or (private.exists() and not private.is_dir()):
        raise FolderUnsuitable(f"{private} is in the way; rename it")
    _check_neighbours(root, folders(home))


def _check_neighbours(root: Path, others: list[Folder]) -> None:
    """Raise LinkedElsewhere if a directory is inside a synced folder, or contains one of `others`. Folders that do not
    exist do not count.

    A folder on a disk that is not mounted counts as absent: when the disk is mounted again, its folder is nested in the
    new one, which does no harm.
    """
    for above in root.parents:
        if _is_marked(above):
            way_out = _UNLINK.format(above / PRIVATE)
            raise LinkedElsewhere(f"{root} is inside {above}, which is synced already; {way_out}")
    for other in others:
        if root in other.root.parents and _is_marked(other.root, other.id):
            way_out = _UNLINK.format(other.root / PRIVATE)
            raise LinkedElsewhere(f"{root} contains {other.root}, which is synced already; {way_out}")


def relation(marker: bytes, folder: Folder) -> Relation:
    """Return the relation to `folder` of a directory whose marker has the bytes `marker`; NONE if the marker is
    malformed.
    """
    try:
        document = json.loads(marker)
        if document["folder"] == folder.id:
            return Relation.SAME_FOLDER
        return Relation.SAME_SPACE if document["space"] == folder.space else Relation.NONE
    except (ValueError, KeyError, TypeError):
        return Relation.NONE


def _marked(root: Path) -> str | None:
    """Return the folder id in the marker of the directory `root`; None if it has no valid marker. Raise
    FolderUnreadable if the marker exists but cannot be read.
    """
    try:
        document = json.loads(_read_marker(root / MARKER))
        return parse_text_id(document["folder"], what="folder")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise FolderUnreadable(f"{root} cannot be read ({error.strerror}: {error.filename})") from None
    except (ValueError, KeyError, TypeError, InvalidArgument):
        return None


def _read_marker(path: Path) -> bytes:
    """Return the bytes of a marker, which is untrusted: any user who may write to a directory above a folder may have
    made it. Raise OSError if the marker cannot be read, and ValueError for a symlink, a pipe, a device or anything else
    that is no file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO, errno.ENODEV}:
            raise ValueError(f"{path} is no file") from None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{path} is no file")
        return os.read(descriptor, MAX_MARKER_BYTES)
    finally:
        os.close(descriptor)


def _is_marked(root: Path, identifier: str | None = None) -> bool:
    """Return True if a directory has the marker of a synced folder, or of the folder with `identifier` if that is
    given. Return True, too, if the marker cannot be read.
    """
    try:
        return (root / MARKER).is_file() if identifier is None else _marked(root) == identifier
    except (OSError, FolderUnreadable):
        return True


def _is_same_directory(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _linked(state: Path) -> Folder | None:
    try:
        document: Any = json.loads((state / _LINK).read_bytes())
        if document["format"] != _FORMAT:
            return None
        return Folder(
            id=parse_text_id(state.name, what="folder"),
            root=Path(document["root"]),
            space=SpaceId(parse_text_id(document["space"], what="space")),
            space_name=str(document["space_name"]),
            state=state,
        )
    except (OSError, ValueError, KeyError, TypeError, InvalidArgument):
        return None


def _save(folder: Folder) -> None:
    document = {
        "format": _FORMAT,
        "root": str(folder.root),
        "space": folder.space,
        "space_name": folder.space_name,
    }
    _write(folder.state / _LINK, json.dumps(document, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    """Write a file durably and atomically: after a crash, it has either its old or its new content. Raise OSError if
    the file cannot be written.
    """
    temporary = path.with_name(f"{path.name}{_UNFINISHED}")
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None  # The error of a write does not name the file.
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
