"""`[SPACE:]PATH` arguments of the command line, and the texts of refused changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from syncline.cli.output import signed_in
from syncline.model.errors import InvalidArgument, Kind, NoSuchNode, NoSuchSpace, SynclineError
from syncline.model.identifiers import ROOT, NodeId
from syncline.model.names import name_problem, normalize, normalized_path
from syncline.model.tree import Node, NodeKind, Result
from syncline.model.verdicts import Verdict
from syncline.sdk.account import PERSONAL, Accounts
from syncline.sdk.session import Session
from syncline.sdk.space import Space

LOCAL = click.Path(readable=False, path_type=Path)
"""A path on this machine. An invalid path is no usage error: the command that uses it reports the error, or waits until
the path can be used.
"""


class ChangeRefused(SynclineError):
    """The service refused the change; look at the space and try again."""

    reason = "REFUSED"
    kind = Kind.CONFLICT


@dataclass(frozen=True, slots=True)
class SpacePath:
    """A path in a space; `text` is the argument as it was typed."""

    space: Space
    path: str
    text: str

    def node(self) -> Node | None:
        """Return the node that is at this path now; None for the root. Raise NoSuchNode if there is no node."""
        if not self.path:
            return None
        try:
            return self.space.get_node(self.path).node
        except NoSuchNode:
            raise NoSuchNode(f"there is no {self.text}; see `syncline ls`") from None

    def directory(self) -> NodeId:
        """Return the directory at this path. Raise NoSuchNode if there is no node, and InvalidArgument if the node is
        no directory.
        """
        node = self.node()
        if node is None:
            return ROOT
        if node.kind is not NodeKind.DIRECTORY:
            raise InvalidArgument(f"{self.text} is not a directory; name a directory")
        return node.id

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def parent(self) -> SpacePath:
        """The path of the directory above."""
        return SpacePath(
            self.space, self.path.rpartition("/")[0], self.text.rstrip("/").rpartition("/")[0] or "the root"
        )

    def below(self, name: str) -> SpacePath:
        text = self.text.rstrip("/")
        return SpacePath(
            self.space, f"{self.path}/{name}".lstrip("/"), f"{text}{'/' if text and text[-1] != ':' else ''}{name}"
        )


@contextmanager
def place(text: str) -> Iterator[SpacePath]:
    """Context with the path in a space that the argument `text`, `[SPACE:]PATH`, names. The session of the path is
    closed at the end.
    """
    with signed_in() as session:
        yield place_in(session, text)


def place_in(session: Session, text: str) -> SpacePath:
    """Return the path in a space that the argument `text` names: `SPACE:PATH`, or a path in the personal space. The
    text before the first ':' is the space if it has no '/'. `session` makes the calls. Raise InvalidArgument for an
    invalid path, and the errors of `Accounts.resolve`.
    """
    space, path = split_place(text)
    return SpacePath(Space(session, Accounts(session).resolve(space or PERSONAL)), path, text)


def split_place(text: str) -> tuple[str | None, str]:
    """Return the two parts of an argument `[SPACE:]PATH`: the space, and the path without slashes around it and in
    normal form (NFC). The space is None if the argument names none. Raise InvalidArgument if the path is invalid, or if
    the text before ':' is empty.
    """
    space = _space_in(text)
    if space == "":
        raise InvalidArgument(f"{text}: the name of the space before ':' is empty; a file of that name is ./{text}")
    path = text if space is None else text.partition(":")[2]
    return space, "/".join(normalized_path(path))


def _space_in(text: str) -> str | None:
    """Return the part before the first ':'; None if there is no ':', or if the part contains a '/'."""
    head, colon, _ = text.partition(":")
    return head if colon and "/" not in head else None


@contextmanager
def place_or_file(text: str) -> Iterator[SpacePath]:
    """Context with the path in a space that `text` names: `SPACE:PATH`, or the path of a file in a synced folder.

    `a:b` is always a path in a space, whatever files exist here, as for scp and rsync; a file of that name is `./a:b`.
    Raise NoSuchSpace if there is no such space; the text hints at a local file of that name.
    """
    if _space_in(text):
        try:
            with place(text) as found:
                yield found
        except NoSuchSpace as error:
            if not Path(text).exists():
                raise
            raise NoSuchSpace(f"{error}; if you mean the file of that name here, write ./{text}") from None
        return
    from syncline.sdk.home import default_home  # noqa: PLC0415
    from syncline.sync.folder.link import find_folder  # noqa: PLC0415 - only where a folder is meant

    folder = find_folder(default_home(), Path(text))
    with signed_in() as session:
        yield SpacePath(Space(session, folder.space), normalize(folder.relative(Path(text))), text)


def file_at(where: SpacePath) -> Node:
    """Return the file or symlink at the path `where`. Raise NoSuchNode if there is no node, and InvalidArgument if the
    node is a directory.
    """
    node = where.node()
    if node is None or node.content is None:
        raise InvalidArgument(f"{where.text or 'the root'} is a directory; name a file")
    return node


def checked_name(name: str) -> str:
    """Return `name` in normal form. Raise InvalidArgument if it is no valid name."""
    name = normalize(name)
    if problem := name_problem(name):
        raise InvalidArgument(f"{name!r}: {problem}")
    return name


_HINTS: Final[Mapping[Verdict, str]] = {
    Verdict.PARENT_NOT_FOUND: "make it with `syncline mkdir`",
    Verdict.NAME_TAKEN: "choose another name or remove it first",
    Verdict.VERSION_NOT_FOUND: "see `syncline log`",
}
"""The hint, by verdict, that is appended to the text of the verdict and names the command to use."""


def accepted_node(result: Result, text: str) -> Node:
    """Return the node of `result`, the result of a mutation, if the mutation was accepted. Otherwise raise
    ChangeRefused, whose text begins with `text` and has the meaning of the verdict.
    """
    if result.verdict is Verdict.ACCEPTED and result.node is not None:
        return result.node
    hint = _HINTS.get(result.verdict)
    raise ChangeRefused(f"{text}: {result.verdict.text}{f'; {hint}' if hint else ''}")
