"""Commands of administrators: users, spaces of all people, and the policy."""

from __future__ import annotations

import dataclasses
import itertools
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

import click

from syncline.cli.output import json_option, moment, signed_in, size, taken_of
from syncline.cli.terminal import print_json, print_table, say
from syncline.model.identifiers import SpaceId, parse_text_id
from syncline.model.limits import MAX_QUOTA_BYTES
from syncline.model.printable import harmless
from syncline.sdk.administration import AdminClient, LoggedAct, SpaceSummary, User, UserFilter
from syncline.sdk.session import Session

_DAY_SECONDS: Final = 86_400
_SIZE: Final = re.compile(r"(?P<number>[0-9]{1,15}(\.[0-9]{1,6})?) ?(?P<unit>[KMGTP]?)(i?B)?", re.IGNORECASE)
_MOMENT: Final = click.DateTime(formats=["%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"])
_POLICIES: Final = {
    "invited": "only people who are invited make accounts",
    "domains": "people with an e-mail address of these domains make accounts: {domains}",
    "open": "everybody who reaches this system makes an account",
}
_yes_option = click.option("--yes", is_flag=True, help="Do not ask for a confirmation.")


@contextmanager
def _administering() -> Iterator[tuple[AdminClient, Session]]:
    """Context manager that yields the calls of administrators, and the session in which they are made."""
    with signed_in() as session:
        yield AdminClient(session), session


def _confirm(question: str, *, yes: bool) -> None:
    """Ask on the terminal before something changes, unless `yes`; end the command if the answer is no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("there is no terminal on which you could confirm this; state --yes")
    if not click.confirm(harmless(question), err=True):
        raise click.ClickException("nothing was changed")


@click.group()
def admin() -> None:
    """Administer users and spaces of the system. Only administrators can do this.

    \b
    Examples:
      syncline admin users list
      syncline admin users invite ben@example.com --mail
      syncline admin users suspend ben@example.com --reason "left the company"
      syncline admin users set-quota ben@example.com 50G
      syncline admin spaces owner SPACE ann@example.com
    """


@admin.group("users")
def users() -> None:
    """List, show, invite, suspend and resume users, and set their quotas.

    \b
    Examples:
      syncline admin users list --state suspended
      syncline admin users show ben@example.com
    """


@users.command("list")
@click.argument("prefix", metavar="[BEGINNING]", default="")
@click.option(
    "--state",
    type=click.Choice([state.name.lower() for state in UserFilter]),
    help="List only users in this state.",
)
@json_option
def list_users(prefix: str, state: str | None, as_json: bool) -> None:
    """List the users whose addresses begin with BEGINNING, or all users, in the order of their addresses.

    \b
    Examples:
      syncline admin users list
      syncline admin users list ben
      syncline admin users list --state administrator --json
    """
    with _administering() as (admins, _):
        found = list(admins.users(prefix, state=UserFilter[state.upper()] if state else None))
    if as_json:
        print_json({"users": [_user_json(user) for user in found]})
    else:
        print_table((user.email, user.user, f"since {moment(user.created_at_ms)}", _states(user)) for user in found)


@users.command("show")
@click.argument("user", metavar="USER")
@json_option
def show_user(user: str, as_json: bool) -> None:
    """Show a user, with devices, keys of programs and spaces. USER is the address or the id.

    \b
    Examples:
      syncline admin users show ben@example.com
    """
    with _administering() as (admins, _):
        found = admins.user(user)
        devices = admins.devices(found.user)
        spaces = admins.spaces_of(found.user)
    if as_json:
        print_json(
            {
                **_user_json(found),
                "devices": [
                    {**dataclasses.asdict(one), "kind": one.kind.name.lower() if one.kind else ""} for one in devices
                ],
                "spaces": [{**dataclasses.asdict(one), "role": one.role.name.lower()} for one in spaces],
            }
        )
        return
    say(f"{found.email} ({found.user}), since {moment(found.created_at_ms)}")
    taken = _taken(found.usage.reserved_bytes, found.usage.quota_bytes, is_set=found.quota_set)
    say(f"{taken} in the spaces of this user")
    if states := _states(found):
        say(states)
    if found.suspension is not None:
        why = f": {found.suspension.reason}" if found.suspension.reason else ""
        say(f"suspended since {moment(found.suspension.since_ms)} by {found.suspension.by}{why}")
    say("devices:")
    print_table(
        (
            f"  {one.id}",
            one.name,
            one.kind.name.lower() if one.kind else "",
            "revoked" if one.revoked_at_ms else "",
            f"last seen {moment(one.last_seen_at_ms)}",
        )
        for one in devices
    )
    say("spaces:")
    print_table((f"  {one.space}", one.name, one.role.name.lower()) for one in spaces)


@users.command("invite")
@click.argument("email", metavar="EMAIL")
@click.option("--mail", is_flag=True, help="Have the invitation mailed to EMAIL, and print no link.")
@json_option
def invite_user(email: str, mail: bool, as_json: bool) -> None:
    """Invite EMAIL to make an account, once, within a week, whatever the policy of sign-up is.

    Whoever has the printed link makes the account, so give it to nobody else.

    \b
    Examples:
      syncline admin users invite ben@example.com
      syncline admin users invite ben@example.com --mail
    """
    with _administering() as (admins, session):
        token, until = admins.invite(email, mail=mail)
        link = f"{session.account.endpoint}/join#{token}" if token is not None else None
    if as_json:
        print_json({"email": email, "link": link, "token": token, "expires_at_ms": until})
    elif link is None:
        say(f"an invitation was mailed to {email}; it works until {moment(until)}")
    else:
        say(link)
        say(f"this link makes the account of {email}, once, until {moment(until)}", err=True)


@users.command("suspend")
@click.argument("user", metavar="USER")
@click.option("--reason", metavar="TEXT", default="", help="Why, for other administrators.")
@_yes_option
@json_option
def suspend_user(user: str, reason: str, yes: bool, as_json: bool) -> None:
    """Suspend USER, an address or an id: nobody signs in, and devices, keys and public links of the user are refused.

    Changes are refused at once, and reads within ten seconds. S3 credentials that a device already holds work until
    they expire. Nothing is removed: `syncline admin users resume` brings everything back.

    \b
    Examples:
      syncline admin users suspend ben@example.com --reason "left the company"
    """
    with _administering() as (admins, _):
        found = admins.user(user)
        _confirm(f"Suspend {found.email}?", yes=yes)
        _show_changed(admins.suspend(found.user, reason), "is suspended", as_json)


@users.command("resume")
@click.argument("user", metavar="USER")
@json_option
def resume_user(user: str, as_json: bool) -> None:
    """End the suspension of USER, an address or an id. Devices, keys, links and spaces are as they were before.

    \b
    Examples:
      syncline admin users resume ben@example.com
    """
    with _administering() as (admins, _):
        _show_changed(admins.resume(admins.user(user).user), "is not suspended", as_json)


@users.command("set-quota")
@click.argument("user", metavar="USER")
@click.argument("quota", metavar="SIZE")
@json_option
def set_user_quota(user: str, quota: str, as_json: bool) -> None:
    """Let the spaces of USER, an address or an id, hold SIZE together, such as 50G, or "usual" for the usual quota.

    A space counts for the owner who made it or has taken it over. What is stored stays, even if it is more.

    \b
    Examples:
      syncline admin users set-quota ben@example.com 50G
      syncline admin users set-quota ben@example.com usual
    """
    quota_bytes = _quota(quota)
    with _administering() as (admins, _):
        found = admins.set_user_quota(admins.user(user).user, quota_bytes)
    told = taken_of(found.usage.reserved_bytes, found.usage.quota_bytes)
    _show_changed(found, f"has {told}", as_json)


@users.command("sign-out")
@click.argument("user", metavar="USER")
@click.option("--end-keys", is_flag=True, help="End the keys of programs, too.")
@_yes_option
@json_option
def sign_out_user(user: str, end_keys: bool, yes: bool, as_json: bool) -> None:
    """Sign USER, an address or an id, out of all clients and browsers. Who knows the password can sign in again.

    \b
    Examples:
      syncline admin users sign-out ben@example.com --end-keys
    """
    with _administering() as (admins, _):
        found = admins.user(user)
        _confirm(f"Sign {found.email} out of all devices?", yes=yes)
        devices, keys = admins.sign_out(found.user, end_keys=end_keys)
    if as_json:
        print_json({"user": found.user, "email": found.email, "devices": devices, "keys": keys})
    else:
        say(f"signed {found.email} out of {_count(devices, 'device')}, and ended {_count(keys, 'key')}")


@users.command("remove-factor")
@click.argument("user", metavar="USER")
@_yes_option
@json_option
def remove_user_factor(user: str, yes: bool, as_json: bool) -> None:
    """Remove the second factor of USER, an address or an id, who has lost the app and the recovery codes.

    Be sure who asks for it: the password alone signs in then. A mail tells the user.

    \b
    Examples:
      syncline admin users remove-factor ben@example.com
    """
    with _administering() as (admins, _):
        found = admins.user(user)
        _confirm(f"Remove the second factor of {found.email}?", yes=yes)
        removed = admins.remove_factor(found.user)
    if as_json:
        print_json({"user": found.user, "email": found.email, "removed": removed})
    elif removed:
        say(f"the second factor of {found.email} is removed")
    else:
        say(f"{found.email} has no second factor")


@users.command("make-admin")
@click.argument("user", metavar="USER")
@_yes_option
@json_option
def make_admin(user: str, yes: bool, as_json: bool) -> None:
    """Make USER, an address or an id, an administrator, who can do everything that you can do here.

    \b
    Examples:
      syncline admin users make-admin ann@example.com
    """
    with _administering() as (admins, _):
        found = admins.user(user)
        _confirm(f"Make {found.email} an administrator?", yes=yes)
        _show_changed(admins.set_administrator(found.user, admin=True), "is an administrator", as_json)


@users.command("revoke-admin")
@click.argument("user", metavar="USER")
@_yes_option
@json_option
def revoke_admin(user: str, yes: bool, as_json: bool) -> None:
    """Make the administrator USER, an address or an id, an ordinary user. The last administrator stays one.

    \b
    Examples:
      syncline admin users revoke-admin ann@example.com
    """
    with _administering() as (admins, _):
        found = admins.user(user)
        _confirm(f"Make {found.email} an ordinary user?", yes=yes)
        _show_changed(admins.set_administrator(found.user, admin=False), "is an ordinary user", as_json)


@admin.group("spaces")
def spaces() -> None:
    """List and show all shared spaces, set a quota, and make somebody owner. Their contents stay out of sight.

    \b
    Examples:
      syncline admin spaces list
      syncline admin spaces owner SPACE ann@example.com
    """


@spaces.command("list")
@json_option
def list_all_spaces(as_json: bool) -> None:
    """List the shared spaces of the system, newest first.

    \b
    Examples:
      syncline admin spaces list --json
    """
    with _administering() as (admins, _):
        found = list(admins.spaces())
    if as_json:
        print_json({"spaces": [dataclasses.asdict(space) for space in found]})
    else:
        print_table(
            (
                one.space,
                one.name,
                _count(one.owners, "owner"),
                taken_of(one.reserved_bytes, one.quota_bytes),
                f"since {moment(one.created_at_ms)}{_kind(one)}",
            )
            for one in found
        )


@spaces.command("show")
@click.argument("space", metavar="SPACE")
@json_option
def show_any_space(space: str, as_json: bool) -> None:
    """Show the space with the id SPACE and its members. A deleted space has no members until an owner undeletes it.

    \b
    Examples:
      syncline admin spaces show SPACE
    """
    ident = SpaceId(parse_text_id(space, what="SPACE"))
    with _administering() as (admins, _):
        found = admins.space(ident)
        members = [] if found.deleted_at_ms else admins.members(ident)
    if as_json:
        told = [{"user": one.user, "email": one.email, "role": one.role.name.lower()} for one in members]
        print_json({**dataclasses.asdict(found), "members": told})
        return
    say(f"{found.name} ({found.space}), since {moment(found.created_at_ms)}{_kind(found)}")
    counts = f", which counts for {found.payer}" if found.payer is not None else ""
    say(f"{_taken(found.reserved_bytes, found.quota_bytes, is_set=found.quota_set)}{counts}")
    print_table((one.email, one.role.name.lower(), one.user) for one in members)


@spaces.command("owner")
@click.argument("space", metavar="SPACE")
@click.argument("user", metavar="USER")
@_yes_option
@json_option
def make_owner(space: str, user: str, yes: bool, as_json: bool) -> None:
    """Make USER, an address or an id, an owner of the shared space with the id SPACE. The other owners stay owners.

    An owner reads and changes everything in the space, and decides about its members, who see the new owner.

    \b
    Examples:
      syncline admin spaces owner SPACE ann@example.com
    """
    ident = SpaceId(parse_text_id(space, what="SPACE"))
    with _administering() as (admins, _):
        found, owner = admins.space(ident), admins.user(user)
        _confirm(f"Make {owner.email} an owner of {found.name}?", yes=yes)
        member = admins.make_owner(ident, owner.user)
    if as_json:
        print_json({"space": ident, "user": member.user, "email": member.email, "role": member.role.name.lower()})
    else:
        say(f"{member.email} is {member.role.name.lower()} of {found.name}")


@spaces.command("set-quota")
@click.argument("space", metavar="SPACE")
@click.argument("quota", metavar="SIZE")
@json_option
def set_space_quota(space: str, quota: str, as_json: bool) -> None:
    """Let the space with the id SPACE hold SIZE, such as 50G, or "usual" for the usual quota of a space.

    The quota of its owner holds as well. What is stored stays, even if it is more.

    \b
    Examples:
      syncline admin spaces set-quota SPACE 50G
      syncline admin spaces set-quota SPACE usual
    """
    ident, quota_bytes = SpaceId(parse_text_id(space, what="SPACE")), _quota(quota)
    with _administering() as (admins, _):
        found = admins.set_space_quota(ident, quota_bytes)
    if as_json:
        print_json(dataclasses.asdict(found))
    else:
        say(f"{found.name} has {taken_of(found.reserved_bytes, found.quota_bytes)}")


@admin.command("policy")
@json_option
def show_policy(as_json: bool) -> None:
    """Show the policy by which people come in. It is a setting of the system, which its operator changes.

    \b
    Examples:
      syncline admin policy
    """
    with _administering() as (admins, _):
        policy = admins.policy()
    if as_json:
        print_json(dataclasses.asdict(policy))
        return
    domains = ", ".join(policy.sign_up_domains)
    say(_POLICIES.get(policy.sign_up_policy, policy.sign_up_policy).format(domains=domains))
    say("addresses are proven by mail" if policy.prove_addresses else "each address counts as proven")
    say(f"an invitation works for {_count(policy.invitation_seconds // _DAY_SECONDS, 'day')}")
    say(f"a space holds up to {size(policy.space_quota_bytes)}, unless a quota was set for it")
    if policy.user_quota_bytes is not None:
        say(f"all spaces of a user hold up to {size(policy.user_quota_bytes)}, unless a quota was set for the user")
    say(f"S3 credentials work for up to {_count(policy.credential_seconds // 60, 'minute')} after a suspension")


@admin.command("audit")
@click.option("--since", type=_MOMENT, metavar="TIME", help="List only events from this time on, in your time zone.")
@click.option("--until", type=_MOMENT, metavar="TIME", help="List only events from before this time.")
@click.option("--kind", metavar="KIND", default="", help="List only events of this kind, such as member.added.")
@click.option(
    "--user",
    metavar="USER",
    default="",
    help="List only events in which USER has a part: an address, or the id of a user, device, space or link.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="List at most N events.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object in each line instead of text.")
def audit(
    *, since: datetime | None, until: datetime | None, kind: str, user: str, limit: int | None, as_json: bool
) -> None:
    """List who did what, newest first: accounts, sign-ins, keys, devices, members, spaces, links.

    TIME is such as 2026-11-30 or "2026-11-30 19:00".

    \b
    Examples:
      syncline admin audit --since 2026-11-30
      syncline admin audit --user ben@example.com --kind sign_in.failed
      syncline admin audit --since "2026-11-30 19:00" --until "2026-11-30 20:00" --json
    """
    with _administering() as (admins, _):
        acts = admins.audit(since_ms=_milliseconds(since), until_ms=_milliseconds(until), kind=kind, involving=user)
        for act in itertools.islice(acts, limit):
            if as_json:
                subjects = [{"kind": what, "id": ident} for what, ident in act.subjects]
                print_json({**dataclasses.asdict(act), "subjects": subjects})
            else:
                say(_act_line(act))


def _milliseconds(at: datetime | None) -> int:
    """Return a time in the time zone of this device, in milliseconds since 1970; 0 for None."""
    return int(at.astimezone().timestamp() * 1000) if at is not None else 0


def _act_line(act: LoggedAct) -> str:
    actor = " ".join(f"{name}={value}" for name, value in act.actor.items() if name != "kind")
    subjects = " ".join(f"{what}={ident}" for what, ident in act.subjects)
    details = " ".join(f"{name}={value!r}" for name, value in act.details.items())
    times = f" x{act.count}" if act.count != 1 else ""
    by = f"by {act.actor.get('kind', '')} {actor}".rstrip()
    return " ".join(
        part for part in (moment(act.at_ms), f"{act.kind}{times}", by, subjects, details, act.network) if part
    )


def _quota(text: str) -> int | None:
    """Return the quota in a text, in bytes: `50G`, `1.5 TiB`, `4096`, or `usual`, for which the result is None. Raise
    UsageError for another text.
    """
    if text == "usual":
        return None
    found = _SIZE.fullmatch(text)
    if found is None:
        raise click.UsageError(f"{harmless(text)} is no size such as 50G, 1.5T or 4096")
    quota_bytes = int(float(found["number"]) * 1024 ** " KMGTP".index(found["unit"].upper() or " "))
    if quota_bytes > MAX_QUOTA_BYTES:
        raise click.UsageError(f"{harmless(text)} is more than a quota may be: at most 1024P")
    return quota_bytes


def _taken(taken: int, quota: int | None, *, is_set: bool) -> str:
    """Return how much of a quota is taken, and whether the quota is the usual one, as text."""
    return f"{taken_of(taken, quota)}{'' if is_set else ', as usual'}"


def _show_changed(user: User, what: str, as_json: bool) -> None:
    if as_json:
        print_json(_user_json(user))
    else:
        say(f"{user.email} {what}")


def _user_json(user: User) -> dict[str, Any]:
    return dataclasses.asdict(user)


def _states(user: User) -> str:
    has = (
        ("administrator", user.admin),
        ("guest", user.guest),
        ("suspended", user.suspension is not None),
        ("address not proven", not user.proven),
    )
    return ", ".join(name for name, holds in has if holds)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _kind(space: SpaceSummary) -> str:
    if space.deleted_at_ms:
        return f", deleted {moment(space.deleted_at_ms)}"
    return ", the personal space of its owner" if space.personal else ""


COMMANDS = [admin]
