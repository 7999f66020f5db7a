"""Commands that change a space as a whole: its name, its end, and who owns it."""

from __future__ import annotations

import sys

import click

from syncline.cli.output import json_option, moment, signed_in
from syncline.cli.terminal import print_json, print_table, say
from syncline.model.accounts import Role
from syncline.model.errors import NoSuchSpace, SynclineError
from syncline.model.identifiers import SpaceId, parse_text_id
from syncline.model.names import normalize
from syncline.sdk.account import Accounts, Grant
from syncline.sdk.errors import AmbiguousSpace


def space_json(grant: Grant) -> dict[str, object]:
    """Return a space as `--json` prints it. A deleted space has the times of its deletion as well."""
    shown: dict[str, object] = {
        "space": grant.space,
        "name": grant.name,
        "alias": grant.alias,
        "role": grant.role.name.lower(),
        "personal": grant.personal,
    }
    if grant.deleted_at_ms:
        shown |= {"deleted_at_ms": grant.deleted_at_ms, "restorable_until_ms": grant.restorable_until_ms}
    return shown


@click.command()
@click.argument("space")
@click.argument("name")
@json_option
def rename(space: str, name: str, as_json: bool) -> None:
    """Call SPACE by another NAME, for all of its members. Only its owners can.

    Everybody's own name for the space, by which commands and WebDAV address it, stays as it is.

    \b
    Examples:
      syncline spaces rename Project "Project 2027"
    """
    with signed_in() as session:
        accounts = Accounts(session)
        grant = accounts.rename_space(accounts.resolve(space), name)
    if as_json:
        print_json(space_json(grant))
        return
    stays = f"; your own name for it is still {grant.alias}" if grant.alias != grant.name else ""
    say(f"{space} is called {grant.name} now{stays}")


@click.command()
@click.argument("space")
@click.option("--yes", is_flag=True, help="Delete without asking, as in a script.")
@json_option
def delete(space: str, yes: bool, as_json: bool) -> None:
    """Delete SPACE for all of its members. Only its owners can, and only for a shared space.

    Within ten seconds nobody reads or writes it any more. An owner can undelete it, with everything in it, until the
    time that is printed; after that it is gone for good. Synced folders keep their files.

    On a terminal, the command asks for the name of the space first.

    \b
    Examples:
      syncline spaces delete Project
      syncline spaces delete Project --yes
    """
    with signed_in() as session:
        accounts = Accounts(session)
        found = accounts.resolve(space)
        if not yes:
            _confirm(space)
        grant = accounts.delete_space(found)
    if as_json:
        print_json(space_json(grant))
        return
    say(f"deleted {grant.alias} ({grant.space})")
    say(f"`syncline spaces undelete {grant.space}` brings it back, until {moment(grant.restorable_until_ms)}")


def _confirm(space: str) -> None:
    """Ask the person for the name of the space to delete. Raise UsageError if nobody can be asked, and end the
    command with status 1 if the answer is another text.
    """
    if not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask for the name of the space; give --yes to delete it")
    answer: str = click.prompt(f"Write the name of the space ({space}) to delete it", err=True)
    if normalize(answer.strip()) != normalize(space):
        say("syncline: that is another name; nothing was deleted", err=True)
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("space")
@json_option
def undelete(space: str, as_json: bool) -> None:
    """Bring the deleted SPACE, a name or an id, back as it was: files, members, public links. Only its owners can.

    \b
    Examples:
      syncline spaces undelete Project
    """
    with signed_in() as session:
        accounts = Accounts(session)
        grant = accounts.undelete_space(_resolve_deleted(accounts, space))
    if as_json:
        print_json(space_json(grant))
    else:
        say(f"{grant.alias} ({grant.space}) is back")


def _resolve_deleted(accounts: Accounts, space: str) -> SpaceId:
    """Return the id of the deleted space that a person means by the text `space`: an id, or the caller's own name for
    the space. Raise NoSuchSpace if no deleted space of the caller has this name, and AmbiguousSpace if several have it.
    """
    try:
        return SpaceId(parse_text_id(space, what="space"))
    except SynclineError:
        pass
    deleted = accounts.deleted_spaces()
    found = [grant for grant in deleted if grant.alias == normalize(space)]
    if len(found) == 1:
        return found[0].space
    if not found:
        raise NoSuchSpace(f"you own no deleted space {space!r} that can be undeleted; see `syncline spaces deleted`")
    raise AmbiguousSpace(f"{len(found)} of your deleted spaces are called {space!r}; use the id of one")


@click.command()
@json_option
def deleted(as_json: bool) -> None:
    """List the deleted spaces that you own and can undelete.

    \b
    Examples:
      syncline spaces deleted
    """
    with signed_in() as session:
        found = Accounts(session).deleted_spaces()
    if as_json:
        print_json({"spaces": [space_json(grant) for grant in found]})
        return
    print_table(
        (
            grant.alias,
            grant.space,
            f"deleted {moment(grant.deleted_at_ms)}",
            f"until {moment(grant.restorable_until_ms)}",
        )
        for grant in found
    )


@click.command()
@click.argument("space")
def leave(space: str) -> None:
    """Leave SPACE: it is not yours any more until an owner adds you again. Synced folders keep their files.

    The last owner cannot leave: make somebody else owner first, transfer the space, or delete it.

    \b
    Examples:
      syncline spaces leave Project
    """
    with signed_in() as session:
        accounts = Accounts(session)
        accounts.leave_space(accounts.resolve(space))
    say(f"you have left {space}")


@click.command()
@click.argument("space")
@click.argument("email")
@click.option("--keep", type=click.Choice(["viewer", "editor", "owner"]), help="The role that you keep.")
@click.option("--leave", "leaves", is_flag=True, help="Leave the space at the same time.")
@json_option
def transfer(space: str, email: str, keep: str | None, leaves: bool, as_json: bool) -> None:
    """Make the account EMAIL owner of SPACE, and keep another role yourself or leave, both at once.

    \b
    Examples:
      syncline spaces transfer Project ben@example.com --keep editor
      syncline spaces transfer Project ben@example.com --leave
    """
    if leaves is (keep is not None):
        raise click.UsageError("state the role that you --keep, or --leave")
    with signed_in() as session:
        accounts = Accounts(session)
        role = Role[keep.upper()] if keep is not None else None
        owner = accounts.transfer_space(accounts.resolve(space), email, keep=role)
    if as_json:
        print_json({"owner": owner.email, "role": keep})
    else:
        say(f"{owner.email} is owner of {space}; you {f'are {keep}' if keep else 'have left it'}")


COMMANDS = [rename, delete, undelete, deleted, leave, transfer]
