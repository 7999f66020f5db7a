"""Commands on spaces, their members, mail and credentials."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from syncline.cli import space_changes
from syncline.cli.invitations import offer_json
from syncline.cli.output import json_option, moment, signed_in
from syncline.cli.space_changes import space_json
from syncline.cli.terminal import print_json, print_table, say
from syncline.model.accounts import Access, MailMode, Role
from syncline.sdk.account import Accounts, Member
from syncline.sdk.credentials import issue


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def spaces(context: click.Context, as_json: bool) -> None:
    """List your spaces, create one, or change one as a whole.

    \b
    Examples:
      syncline spaces
      syncline spaces create Project
      syncline spaces delete Project
    """
    if context.invoked_subcommand is None:
        _list_spaces(as_json)


@spaces.command("list")
@json_option
def list_spaces(as_json: bool) -> None:
    """List the spaces that you have a role in, each under your own name for it.

    Your name for a space never changes. If the owners use another name, it is shown beside yours.
    """
    _list_spaces(as_json)


def _list_spaces(as_json: bool) -> None:
    with signed_in() as session:
        found = Accounts(session).spaces()
    if as_json:
        print_json({"spaces": [space_json(grant) for grant in found]})
    else:
        print_table(
            (grant.alias, grant.role.name.lower(), grant.space, f"called {grant.name}" * (grant.alias != grant.name))
            for grant in found
        )


@spaces.command()
@click.argument("name")
@json_option
def create(name: str, as_json: bool) -> None:
    """Create a shared space that you own.

    \b
    Examples:
      syncline spaces create Project
    """
    with signed_in() as session:
        grant = Accounts(session).create_space(name)
    if as_json:
        print_json(space_json(grant))
    else:
        say(f"created {grant.alias} ({grant.space})")


@click.command()
@click.argument("space")
@json_option
def members(space: str, as_json: bool) -> None:
    """List the members of SPACE, a name or an id.

    \b
    Examples:
      syncline members Project
    """
    with signed_in() as session:
        accounts = Accounts(session)
        found = accounts.members(accounts.resolve(space))
    if as_json:
        print_json({"members": [{"email": one.email, "role": one.role.name.lower()} for one in found]})
    else:
        print_table((one.email, one.role.name.lower()) for one in found)


@click.command()
@click.argument("space")
@click.argument("email")
@click.option("--role", type=click.Choice(["viewer", "editor", "owner"]), required=True, help="The role of the member.")
@json_option
def share(space: str, email: str, role: str, as_json: bool) -> None:
    """Give the person EMAIL a role in SPACE, or change it.

    If nobody has an account with that address, a mail invites it: the invitation becomes the role as soon as the person
    has an account and has proven the address. `syncline invitations list SPACE` shows the invitations of a space.

    \b
    Examples:
      syncline share Project ben@example.com --role editor
    """
    with signed_in() as session:
        accounts = Accounts(session)
        given = accounts.set_member(accounts.resolve(space), email, Role[role.upper()])
    if isinstance(given, Member):
        told = {"email": given.email, "role": given.role.name.lower()}
        if as_json:
            print_json({"member": told, "invitation": None})
        else:
            say(f"{given.email} is {given.role.name.lower()} of {space}")
    elif as_json:
        print_json({"member": None, "invitation": offer_json(given)})
    else:
        say(
            f"{given.email} is invited to {space}: a mail was sent, and the invitation ends "
            f"{moment(given.expires_at_ms)}"
        )


@click.command()
@click.argument("space")
@click.argument("email")
def unshare(space: str, email: str) -> None:
    """Remove the member EMAIL from SPACE. To leave a space, use `syncline spaces leave`.

    A removed member can change nothing from that moment on. Reading metadata ends within ten seconds, reading storage
    when the member's credentials expire, after 15 minutes unless the operator has set up to an hour.

    \b
    Examples:
      syncline unshare Project ben@example.com
    """
    with signed_in() as session:
        accounts = Accounts(session)
        accounts.remove_member(accounts.resolve(space), email)
    say(f"{email} is no longer a member of {space}")


@click.command()
@click.argument("space")
@click.argument("mode", type=click.Choice(["instant", "off"]), required=False)
def notify(space: str, mode: str | None) -> None:
    """Show or choose how you are mailed about changes that others make in SPACE.

    \b
    Examples:
      syncline notify Project off
    """
    with signed_in() as session:
        accounts = Accounts(session)
        where = accounts.resolve(space)
        now = accounts.set_mail_mode(where, MailMode[mode.upper()]) if mode else accounts.mail_mode(where)
    say(f"mail about {space}: {now.name.lower()}")


@click.command()
@click.argument("space")
@click.option("--access", type=click.Choice(["read", "write"]), default="read", show_default=True, help="What for.")
def credentials(space: str, access: str) -> None:
    """Print temporary S3 credentials that open SPACE and nothing else, in the form of AWS's credential_process.

    `Bucket`, `Prefix` and `Endpoint` say where; keys are the prefix plus the SHA-256 of the object in hex.

    \b
    Examples:
      syncline credentials Project --access read
    """
    with signed_in() as session:
        issued = issue(session, Accounts(session).resolve(space), Access[access.upper()])
        endpoint = session.deployment.s3.endpoint
    print_json(
        {
            "Version": 1,
            "AccessKeyId": issued.access_key_id,
            "SecretAccessKey": issued.secret_access_key,
            "SessionToken": issued.session_token,
            "Expiration": datetime.fromtimestamp(issued.expires_at_ms // 1000, UTC).isoformat(),
            "Bucket": issued.bucket,
            "Prefix": issued.key_prefix,
            "Endpoint": endpoint,
        }
    )


for _command in space_changes.COMMANDS:
    spaces.add_command(_command)

COMMANDS = [spaces, members, share, unshare, notify, credentials]
