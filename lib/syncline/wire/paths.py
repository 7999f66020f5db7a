"""Conversion of paths on the wire: names joined by '/', from the root or from the node that a public link opens."""

from __future__ import annotations

from collections.abc import Sequence

from syncline.model.names import parse_path, path_problem


def path_from_wire(path: str) -> tuple[str, ...]:
    """Return the names of a path; no name for an empty path. Raise InvalidArgument if the path breaks a rule of
    `syncline.model.names`.
    """
    return parse_path(path)


def paths_from_wire(paths: Sequence[str], *, first: int = 0) -> Sequence[str]:
    """Return `paths` after checking each as `path_from_wire` does. Raise InvalidArgument with the position of the first
    invalid path; `first` is the position of the first of `paths` in the message.
    """
    for position, path in enumerate(paths, first):
        if path_problem(path):
            parse_path(path, what=f"paths[{position}]")
    return paths
