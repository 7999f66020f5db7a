"""Commands on keys, with which programs act on behalf of their user."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from syncline.cli.output import json_option, moment, signed_in
from syncline.cli.terminal import print_json, print_table, say
from syncline.model.accounts import DeviceKind, KeyScope
from syncline.model.identifiers import DeviceId
from syncline.model.limits import MAX_KEY_SPACES, PROGRAM_KEY_DAYS
from syncline.sdk.account import Accounts, Device

_SCOPE_NAMES = [scope.value for scope in KeyScope]


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def keys(context: click.Context, as_json: bool) -> None:
    """List your keys for programs, make one, or revoke one.

    A key is also the password of a network drive (WebDAV).

    \b
    Examples:
      syncline keys
      syncline keys create backup --scope read --days 90
    """
    if context.invoked_subcommand is None:
        _list_keys(as_json)


@keys.command("list")
@json_option
def list_keys(as_json: bool) -> None:
    """List your keys that are not revoked, newest first."""
    _list_keys(as_json)


def _list_keys(as_json: bool) -> None:
    with signed_in() as session:
        accounts = Accounts(session)
        found = [one for one in accounts.devices() if one.kind is DeviceKind.PROGRAM and not one.revoked_at_ms]
        limited = any(key.spaces for key in found)
        names = {grant.space: grant.alias for grant in accounts.spaces()} if limited and not as_json else {}
    if as_json:
        print_json({"keys": [_key_json(key) for key in found]})
        return
    print_table(
        (
            key.id,
            key.name,
            " ".join(key.scopes),
            ", ".join(names.get(space, space) for space in key.spaces) or "all spaces",
            f"last used {moment(key.last_seen_at_ms)}",
        )
        for key in found
    )


@keys.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(_SCOPE_NAMES),
    multiple=True,
    help="What the key is for; may be repeated. write and share also read. Default: read and write.",
)
@click.option(
    "--space",
    "spaces",
    metavar="SPACE",
    multiple=True,
    help=f"Open this space only, a name or an id; may be repeated, up to {MAX_KEY_SPACES} times. Default: all spaces.",
)
@click.option(
    "--days", type=click.IntRange(1, PROGRAM_KEY_DAYS), required=True, help="The days after which the key ends."
)
@json_option
def create(name: str, scopes: tuple[str, ...], spaces: tuple[str, ...], days: int, as_json: bool) -> None:
    """Make a key called NAME, and print it. It is not shown again.

    \b
    Examples:
      syncline keys create backup --scope read --days 90
      syncline keys create ci --scope write --space Project --days 30
      KEY=$(syncline keys create drive --days 365 --json | jq -r .key)
    """
    with signed_in() as session:
        accounts = Accounts(session)
        key, secret = accounts.create_key(
            name,
            days=days,
            scopes=[KeyScope(scope) for scope in scopes] or [KeyScope.READ, KeyScope.WRITE],
            spaces=[accounts.resolve(space) for space in spaces],
        )
    if as_json:
        print_json(_key_json(key) | {"key": secret})
        return
    say(secret)
    say(f"this is the key {key.name} ({key.id}); keep it now, it is not shown again", err=True)


@keys.command()
@click.argument("key", metavar="ID")
@json_option
def revoke(key: str, as_json: bool) -> None:
    """Revoke the key with this ID, as `syncline keys` shows it. Programs that use it stop working at once.

    \b
    Examples:
      syncline keys revoke ID
    """
    with signed_in() as session:
        Accounts(session).revoke(DeviceId(key))
    if as_json:
        print_json({"device": key})
    else:
        say(f"revoked {key}")


def _key_json(key: Device) -> dict[str, Any]:
    shown = {name: value for name, value in dataclasses.asdict(key).items() if name not in {"current", "revoked_at_ms"}}
    return shown | {"kind": "program"}


COMMANDS = [keys]
