"""Commands on versions and the trash."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import click

from syncline.cli.files import node_json
from syncline.cli.output import json_option, moment, signed_in, size
from syncline.cli.space_paths import SpacePath, accepted_node, checked_name, file_at, place_or_file
from syncline.cli.terminal import print_json, print_table, say
from syncline.model.errors import InvalidArgument, NoSuchNode
from syncline.model.identifiers import ID_BYTES, NodeId, new_request_id
from syncline.model.names import normalized_path
from syncline.model.tree import Node
from syncline.sdk.account import PERSONAL, Accounts
from syncline.sdk.errors import MAX_CANDIDATES
from syncline.sdk.pages import gathered
from syncline.sdk.space import Space, Trashed


@click.command()
@click.argument("path", metavar="PATH")
@json_option
def log(path: str, as_json: bool) -> None:
    """List the versions of a file, newest first, also of one in the trash. PATH is in a synced folder, or SPACE:PATH.

    \b
    Examples:
      syncline log ~/Documents/notes.txt
      syncline log Project:reports/2026.pdf
    """
    with place_or_file(path) as found:
        node = _file_or_trashed(found).node
        versions = list(found.space.versions(node.id))
        emails: dict[str, str] = {
            member.user: member.email for member in Accounts(found.space.session).members(found.space.id)
        }
    if as_json:
        print_json(
            {
                "node": node.id.hex(),
                "versions": [
                    {
                        "version": one.number,
                        "size": one.content.size,
                        "sha256": one.content.digest.hex(),
                        "mtime_ns": one.content.mtime_ns,
                        "committed_at_ms": one.committed_at_ms,
                        "user": one.user,
                        "email": emails.get(one.user),
                        "device": one.device,
                    }
                    for one in versions
                ],
            }
        )
        return
    print_table(
        (
            str(one.number),
            moment(one.committed_at_ms),
            size(one.content.size),
            emails.get(one.user, "a former member"),
            "current" if one.number == node.version else "",
        )
        for one in versions
    )


@click.command()
@click.argument("path", metavar="PATH")
@click.option("--version", "number", type=click.IntRange(min=1), required=True, metavar="N", help="See `syncline log`.")
def restore(path: str, number: int) -> None:
    """Make version N of a file its newest again. PATH is in a synced folder, or SPACE:PATH.

    Nothing is lost: the restored content becomes a new version. A synced folder gets it with the next sync. A file that
    is in the trash is taken out of it first, as by `syncline trash restore`.

    \b
    Examples:
      syncline restore ~/Documents/notes.txt --version 3
    """
    with place_or_file(path) as found:
        node, deleted = _file_or_trashed(found)
        back = path
        if deleted:
            if number > node.version:
                raise InvalidArgument(f"{path}: there is no version {number}; see `syncline log`")
            brought = found.space.restore_node(node.id, new_request_id())
            accepted_node(brought.result, path)
            back = brought.path
        restored = found.space.restore_version(node.id, number, node.version, new_request_id())
        now = accepted_node(restored.result, path)
    told = f"version {number} of {path} is back, as version {now.version}"
    say(told + (f" of {back}, out of the trash" if deleted else ""))


class _File(NamedTuple):
    node: Node
    deleted: bool


def _file_or_trashed(where: SpacePath) -> _File:
    """Return the file at this path, or the file in the trash that was there. Raise NoSuchNode if there is none, and
    InvalidArgument if several files in the trash were at the path, or if a directory is at the path.
    """
    try:
        return _File(file_at(where), deleted=False)
    except NoSuchNode:
        trashed = [one for one in _was_at(where.space, where.path) if one.node.content is not None]
        if not trashed:
            raise
        return _File(_only(trashed, where.text).node, deleted=True)


def _was_at(space: Space, path: str) -> list[Trashed]:
    """Return the items in the trash that were at this path, deleted by themselves or with a directory above."""
    # A service of the preceding release lists all deleted nodes.
    return [one for one in space.trash(path) if one.path == path]


def _only(trashed: Sequence[Trashed], text: str) -> Trashed:
    """Return the only item of `trashed`. Raise InvalidArgument, whose text lists the ids, if there are several
    items.
    """
    if len(trashed) > 1:
        newest = sorted(trashed, key=lambda one: one.node.deleted_at_ms, reverse=True)[:MAX_CANDIDATES]
        ids = "; ".join(f"{one.node.id.hex()}, {_when(one.node)}" for one in newest)
        told = f"{len(trashed)} deleted items were at {text}; name one by its id: `syncline trash restore ID`: {ids}"
        raise InvalidArgument(told)
    return trashed[0]


def _when(node: Node) -> str:
    return f"deleted {moment(node.deleted_at_ms)}" if node.deleted_at_ms else "deleted with its directory"


_space_option = click.option("--space", default=PERSONAL, show_default=True, help="A space, by name or id.")


@click.group(invoke_without_command=True)
@_space_option
@json_option
@click.pass_context
def trash(context: click.Context, space: str, as_json: bool) -> None:
    """List the deleted items of a space, or restore one.

    \b
    Examples:
      syncline trash --space Project
      syncline trash restore ID --space Project
    """
    if context.invoked_subcommand is None:
        _list_trash(space, as_json)


@trash.command("list")
@_space_option
@json_option
def list_trash(space: str, as_json: bool) -> None:
    """List deleted items with their former paths, newest first. The contents of a directory are restored with it.

    \b
    Examples:
      syncline trash list --json
    """
    _list_trash(space, as_json)


def _list_trash(space: str, as_json: bool) -> None:
    with signed_in() as session:
        trashed = Space(session, Accounts(session).resolve(space)).trash()
        found = gathered(trashed, "the trash", "restore by path: `syncline trash restore PATH`")
    found.sort(key=lambda one: one.node.deleted_at_ms, reverse=True)
    if as_json:
        print_json(
            {"nodes": [{**node_json(node), "deleted_at_ms": node.deleted_at_ms, "path": path} for node, path in found]}
        )
        return
    print_table(
        (
            node.id.hex(),
            moment(node.deleted_at_ms),
            node.kind.name.lower(),
            size(node.content.size) if node.content else "",
            path,
        )
        for node, path in found
    )


@trash.command("restore")
@click.argument("what", metavar="ID|PATH")
@_space_option
@click.option("--to", "to", metavar="PATH", help="The new path in the space, or an existing directory.")
@click.option("--name", default="", help="A new name at the former place.")
def restore_from_trash(what: str, space: str, to: str | None, name: str) -> None:
    """Restore the item with this ID or PATH in `syncline trash`, or one from a deleted directory, to its former place.

    Deleted directories above it are made again, without their other contents. If its name is taken, the item gets a
    free one, which is printed.

    \b
    Examples:
      syncline trash restore reports/2026.pdf --space Project
      syncline trash restore ID --to "notes (restored).txt"
    """
    if to is not None and name:
        raise InvalidArgument("--to contains the new name already; give either --to or --name")
    with signed_in() as session:
        where = Space(session, Accounts(session).resolve(space))
        node, was = _in_trash(where, what)
        path = "/".join(normalized_path(to)) if to is not None else None
        name = checked_name(name) if name else ""
        brought = where.restore_node(node, new_request_id(), name=name, path=path)
        accepted_node(brought.result, what)
    say(f"{brought.path} is back" if was in {None, brought.path} else f"{was} is back as {brought.path}")


def _in_trash(space: Space, what: str) -> tuple[NodeId, str | None]:
    """Return the id of the node that `what` means, an id in hexadecimal or a former path, and the former path of the
    node. The path is None for an id that is not in the list of the trash, because a node that was deleted with a
    directory above it has an id, too. Raise InvalidArgument if several nodes match, or if no node in the trash had the
    path.
    """
    path = "/".join(normalized_path(what))
    is_id = re.fullmatch(f"[0-9a-f]{{{2 * ID_BYTES}}}", what) is not None
    trashed = _was_at(space, path) if path else []
    if is_id and not trashed:
        trashed = [one for one in space.trash() if one.node.id.hex() == what]
    if trashed:
        found = _only(trashed, what)
        return found.node.id, found.path
    if not is_id:
        raise InvalidArgument(f"nothing in the trash has the id or path {what!r}; `syncline trash` lists what is there")
    return NodeId(bytes.fromhex(what)), None  # a node that was deleted with a directory above has an id too


COMMANDS = [log, restore, trash]
