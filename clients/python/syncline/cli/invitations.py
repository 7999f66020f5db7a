"""Commands on invitations to spaces: those that others have sent to you, and those to your spaces."""

from __future__ import annotations

import click

from syncline.cli.output import json_option, moment, signed_in
from syncline.cli.terminal import print_json, print_table, say
from syncline.model.errors import SynclineError
from syncline.model.identifiers import SpaceId, parse_text_id
from syncline.sdk.account import Accounts, Offer
from syncline.sdk.errors import AmbiguousSpace


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def invitations(context: click.Context, as_json: bool) -> None:
    """List the invitations that you have got, accept or decline one, or revoke one to a space that you own.

    \b
    Examples:
      syncline invitations
      syncline invitations list Project
      syncline invitations accept Project
      syncline invitations revoke Project ben@example.com
    """
    if context.invoked_subcommand is None:
        _list(None, as_json)


@invitations.command("list")
@click.argument("space", required=False)
@json_option
def list_invitations(space: str | None, as_json: bool) -> None:
    """List the invitations to SPACE that nobody has taken up, or without SPACE those that you have got.

    What you were invited to before you proved your address is in `syncline spaces`; this list has what could not be
    taken up then.

    \b
    Examples:
      syncline invitations list
      syncline invitations list Project --json
    """
    _list(space, as_json)


def _list(space: str | None, as_json: bool) -> None:
    with signed_in() as session:
        accounts = Accounts(session)
        found = accounts.invitations(accounts.resolve(space) if space is not None else None)
    if as_json:
        print_json({"invitations": [offer_json(one) for one in found]})
        return
    print_table(
        (
            one.email if space is not None else one.space_name,
            one.role.name.lower(),
            one.space,
            f"invited by {one.invited_by}",
            f"until {moment(one.expires_at_ms)}",
        )
        for one in found
    )


def offer_json(offer: Offer) -> dict[str, object]:
    """Return an invitation to a space in the form of `--json`."""
    return {
        "space": offer.space,
        "name": offer.space_name,
        "email": offer.email,
        "role": offer.role.name.lower(),
        "invited_by": offer.invited_by,
        "created_at_ms": offer.created_at_ms,
        "expires_at_ms": offer.expires_at_ms,
    }


@invitations.command()
@click.argument("space")
@click.argument("email")
@json_option
def revoke(space: str, email: str, as_json: bool) -> None:
    """Revoke the invitation of EMAIL to SPACE, which you own.

    \b
    Examples:
      syncline invitations revoke Project ben@example.com
    """
    with signed_in() as session:
        accounts = Accounts(session)
        where = accounts.resolve(space)
        accounts.revoke_invitation(where, email)
    if as_json:
        print_json({"space": where, "email": email})
    else:
        say(f"{email} is no longer invited to {space}")


@invitations.command()
@click.argument("space")
@json_option
def accept(space: str, as_json: bool) -> None:
    """Become a member of SPACE, the name or the id of a space to which you are invited.

    \b
    Examples:
      syncline invitations accept Project
    """
    with signed_in() as session:
        accounts = Accounts(session)
        grant = accounts.accept_invitation(_offered(accounts, space))
    if as_json:
        print_json({"space": grant.space, "alias": grant.alias, "role": grant.role.name.lower()})
    else:
        say(f"you are {grant.role.name.lower()} of {grant.alias} ({grant.space})")


@invitations.command()
@click.argument("space")
@json_option
def decline(space: str, as_json: bool) -> None:
    """Decline the invitation to SPACE, a name or an id.

    \b
    Examples:
      syncline invitations decline Project
    """
    with signed_in() as session:
        accounts = Accounts(session)
        where = _offered(accounts, space)
        accounts.decline_invitation(where)
    if as_json:
        print_json({"space": where})
    else:
        say(f"declined {space}")


def _offered(accounts: Accounts, space: str) -> SpaceId:
    """Return the id of the space that a person means by the text `space`: an id, or the name of one space to which the
    person is invited. Raise AmbiguousSpace if several have the name. A text that is neither is an error of usage.
    """
    try:
        return SpaceId(parse_text_id(space, what="space"))
    except SynclineError:
        pass
    found = [one for one in accounts.invitations() if one.space_name == space]
    if len(found) == 1:
        return found[0].space
    if not found:
        raise click.UsageError(f"you are not invited to a space {space!r}; see `syncline invitations`")
    meant = ", ".join(f"{one.space} by {one.invited_by}" for one in found)
    raise AmbiguousSpace(f"you are invited to {len(found)} spaces called {space!r}: {meant}; use the id of one")


COMMANDS = [invitations]
