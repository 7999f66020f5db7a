"""Versions and the trash."""

from __future__ import annotations

import click

from clients.cli.files import node_json
from clients.cli.output import json_option, moment, print_json, print_table, signed_in, size
from clients.cli.places import accepted, file_at, place_or_file
from clients.sdk.account import PERSONAL, Accounts
from clients.sdk.space import Space
from core.errors import InvalidArgument
from core.identifiers import ID_BYTES, NodeId, new_request_id


@click.command()
@click.argument("path", metavar="PATH")
@json_option
def log(path: str, as_json: bool) -> None:
    """List the versions of a file, newest first. PATH is in a synced folder, or SPACE:PATH.

    \b
    Examples:
      syncline log ~/Documents/notes.txt
      syncline log Project:reports/2026.pdf
    """
    with place_or_file(path) as found:
        node = file_at(found)
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

    Nothing is lost: the restored content becomes a new version. A synced folder gets it with the next sync.

    \b
    Examples:
      syncline restore ~/Documents/notes.txt --version 3
    """
    with place_or_file(path) as found:
        node = file_at(found)
        restored = found.space.restore_version(node.id, number, node.version, new_request_id())
        now = accepted(restored.result, path)
    click.echo(f"version {number} of {path} is back, as version {now.version}")


_space_option = click.option("--space", default=PERSONAL, show_default=True, help="A space, by name or id.")


@click.group(invoke_without_command=True)
@_space_option
@json_option
@click.pass_context
def trash(context: click.Context, space: str, as_json: bool) -> None:
    """List what was deleted in a space, or bring it back.

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
    """List what was deleted, newest first; what was in a deleted directory comes back with it.

    \b
    Examples:
      syncline trash list --json
    """
    _list_trash(space, as_json)


def _list_trash(space: str, as_json: bool) -> None:
    with signed_in() as session:
        nodes = list(Space(session, Accounts(session).resolve(space)).trash())
    nodes.sort(key=lambda node: node.deleted_at_ms, reverse=True)
    if as_json:
        print_json({"nodes": [{**node_json(node), "deleted_at_ms": node.deleted_at_ms} for node in nodes]})
        return
    print_table(
        (
            node.id.hex(),
            moment(node.deleted_at_ms),
            node.kind.name.lower(),
            size(node.content.size) if node.content else "",
            node.name,
        )
        for node in nodes
    )


@trash.command("restore")
@click.argument("node", metavar="ID")
@_space_option
@click.option("--name", default="", help="What to call it, if its name is taken.")
def restore_from_trash(node: str, space: str, name: str) -> None:
    """Bring back what has this ID in `syncline trash`, to where it was.

    \b
    Examples:
      syncline trash restore ID --name "notes (restored).txt"
    """
    try:
        raw = bytes.fromhex(node)
    except ValueError:
        raw = b""
    if len(raw) != ID_BYTES:
        raise InvalidArgument(f"{node!r} is not an id; see `syncline trash`")
    with signed_in() as session:
        where = Space(session, Accounts(session).resolve(space))
        restored = where.restore_node(NodeId(raw), new_request_id(), name=name)
        now = accepted(restored.result, node)
    click.echo(f"{now.name} is back")


COMMANDS = [log, restore, trash]
