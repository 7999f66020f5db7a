"""Synced folders nested in a synced folder that would sync their own files into it one directory deeper, without end.

Such a directory is another folder that is linked to the same space, or is the folder itself once more: a copy of it,
from a backup or an archive, or a mount of it. A sync leaves such a directory alone on both sides.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from syncline.model.names import normalize
from syncline.sync.folder.files import PRIVATE, Files
from syncline.sync.folder.link import MARKER, MAX_MARKER_BYTES, Folder, Relation, relation
from syncline.sync.scan.walk import Scan
from syncline.sync.trees import Problem, printable

_LINKED = (
    "is linked to the same space by itself, and therefore left alone here; sync one of the two, or remove "
    f"{PRIVATE} in it if it is not synced any more"
)
_MOUNTED = "is this synced folder itself, mounted in it, and therefore left alone; unmount it, or exclude it"
_COPIED = (
    f"is a copy of this synced folder with its {PRIVATE}, and therefore left alone; remove {PRIVATE} in the copy to "
    "have its files synced, or exclude it"
)


def nested(folder: Folder, files: Files, scanned: Scan, excluded: Iterable[str] = ()) -> dict[int, Problem]:
    """Return a problem for each directory of the scan that is the root of another folder linked to the same space, or
    of the folder itself once more (a copy or a mount), by the number of the directory. Such a directory is not synced.
    Directories at or below `excluded` paths are not included.
    """
    left = tuple(excluded)
    found = {}
    for entry in scanned.entries:
        if entry.local_name != PRIVATE:
            continue
        path = scanned.path(entry.parent)
        place = normalize(path)
        if any(place == one or place.startswith(f"{one}/") for one in left):
            continue
        if (problem := _problem(folder, files, path)) is not None:
            found[entry.parent] = Problem(printable(path), problem)
    return found


def _problem(folder: Folder, files: Files, path: str) -> str | None:
    try:
        with os.fdopen(files.open_file(f"{path}/{MARKER}"), "rb") as marker:
            related = relation(marker.read(MAX_MARKER_BYTES), folder)
        if related is Relation.SAME_FOLDER:
            return _MOUNTED if os.path.samestat(files.stat(path), files.stat("")) else _COPIED
    except OSError:
        return None
    return _LINKED if related is Relation.SAME_SPACE else None
