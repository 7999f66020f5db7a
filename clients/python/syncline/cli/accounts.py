"""Accounts and devices."""

from __future__ import annotations

import dataclasses
import platform
from contextlib import suppress
from functools import partial
from typing import Any, Final

import click

from syncline.cli.output import device_as_json, json_option, kind_of, moment, signed_in, size, taken_of
from syncline.cli.signing_in import endpoint_options, password_from, trust_of, with_code
from syncline.cli.terminal import print_json, print_table, say
from syncline.model.errors import SecondFactorNeeded, SynclineError
from syncline.model.identifiers import DeviceId
from syncline.sdk import account
from syncline.sdk.account import Accounts
from syncline.sdk.home import default_home
from syncline.sdk.session import Session
from syncline.sdk.space import Space

_UNPROVEN: Final = (
    "a mail was sent to {email}: prove that the address is yours by the code in it, `syncline account prove CODE`. "
    "Until then you can use your personal space, and nobody can share with you"
)
_GUEST: Final = (
    "you are a guest here: you work in the spaces of others, as `syncline spaces` lists them, and cannot make spaces, "
    "links or keys, or change your personal space"
)
_SIGN_IN_OPTIONS = [
    click.option("--email", required=True, metavar="E", help="Your e-mail address."),
    click.option("--password-stdin", is_flag=True, help="Read the password from standard input, not the terminal."),
    click.option("--device", metavar="NAME", default=platform.node() or "device", help="The name of this device."),
]


def _sign_in_options(command: Any) -> Any:
    for option in reversed(_SIGN_IN_OPTIONS):
        command = option(command)
    return endpoint_options(command)


@click.command()
@_sign_in_options
@click.option("--invitation", metavar="TOKEN", default="", help="The code or link of an invitation for your address.")
def signup(
    *,
    endpoint: str,
    email: str,
    password_stdin: bool,
    device: str,
    allow_http: bool,
    allow_hosts: tuple[str, ...],
    invitation: str,
) -> None:
    """Make an account and sign this device in.

    Whoever runs the system decides who may make an account: everybody, people with an e-mail address of certain
    domains, or nobody without an invitation.

    \b
    Examples:
      syncline signup --endpoint http://127.0.0.1:8080 --email ann@example.com
      echo "$PASSWORD" | syncline signup --endpoint https://sync.example.com --email ann@example.com --password-stdin
      syncline signup --endpoint https://sync.example.com --email ann@example.com --invitation TOKEN
    """
    home, trust = default_home(), trust_of(allow_http, allow_hosts)
    offer = None if invitation else account.sign_up_offer(home, endpoint=endpoint, trust=trust)
    if offer is not None and offer.domains:
        say(f"accounts here are for people with an e-mail address of {', '.join(offer.domains)}", err=True)
    password = password_from("Password", stdin=password_stdin, confirm=True)
    with account.sign_up(
        home,
        endpoint=endpoint,
        email=email,
        password=password,
        device_name=device,
        trust=trust,
        invitation=invitation.rpartition("#")[2].strip(),
    ) as session:
        _welcome(session)
        with suppress(SynclineError):  # the account is made, whatever else can be told about it
            me = Accounts(session).who_am_i()
            if not me.proven:
                say(_UNPROVEN.format(email=session.account.email))
            if me.guest:
                say(_GUEST)


@click.command()
@_sign_in_options
@click.option("--code", metavar="CODE", default="", help="A code of your authenticator app, or a recovery code.")
def login(
    *,
    endpoint: str,
    email: str,
    password_stdin: bool,
    device: str,
    allow_http: bool,
    allow_hosts: tuple[str, ...],
    code: str,
) -> None:
    """Sign this device in.

    If your account has a second factor, you are asked for a code of your authenticator app; without a terminal, state
    it by --code.

    \b
    Examples:
      syncline login --endpoint https://sync.example.com --email ann@example.com --device desktop
      echo "$PASSWORD" | syncline login --endpoint URL --email ann@example.com --password-stdin --code 123456
    """
    password = password_from("Password", stdin=password_stdin)
    enter = partial(
        account.sign_in,
        default_home(),
        endpoint=endpoint,
        email=email,
        password=password,
        device_name=device,
        trust=trust_of(allow_http, allow_hosts),
    )
    try:
        session = enter(code=code)
    except SecondFactorNeeded:
        session = with_code(lambda typed: enter(code=typed))
    with session:
        _welcome(session)


def _welcome(session: Session) -> None:
    say(f"signed in as {session.account.email} on {session.account.device_name}")


@click.command()
def logout() -> None:
    """Sign this device out. Synced folders stay as they are.

    \b
    Examples:
      syncline logout
    """
    with signed_in() as session:
        Accounts(session).sign_out()
    say("signed out")


@click.command()
@json_option
def whoami(as_json: bool) -> None:
    """Show who is signed in on this device, and how full the personal space is.

    Uploads that belong to no file yet count, too: repeat the interrupted syncs and uploads, or wait until they are
    removed after a week.

    \b
    Examples:
      syncline whoami --json
    """
    with signed_in() as session:
        me = Accounts(session).who_am_i()
        endpoint = session.account.endpoint
        state = Space(session, me.personal_space).get_space()
    usage = {name: value for name, value in state._asdict().items() if name != "head"}
    if as_json:
        print_json({**dataclasses.asdict(me), "endpoint": endpoint, "usage": usage})
        return
    say(f"{me.email} on {me.device_name} at {endpoint}")
    say(f"{size(state.used_bytes)} of {size(state.quota_bytes)} used in your personal space")
    if state.unsealed_objects:
        say(
            f"{size(state.unsealed_bytes)} more were uploaded and belong to no file yet: repeat the "
            "interrupted syncs and uploads, or wait until they are removed after a week"
        )


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def devices(context: click.Context, as_json: bool) -> None:
    """List your devices, or revoke one.

    \b
    Examples:
      syncline devices
      syncline devices revoke ID
    """
    if context.invoked_subcommand is None:
        _list_devices(as_json)


@devices.command("list")
@json_option
def list_devices(as_json: bool) -> None:
    """List your devices, newest first."""
    _list_devices(as_json)


def _list_devices(as_json: bool) -> None:
    with signed_in() as session:
        found = Accounts(session).devices()
    if as_json:
        print_json({"devices": [device_as_json(device) for device in found]})
        return
    print_table(
        (
            device.id,
            device.name,
            kind_of(device),
            "this device" if device.current else "revoked" if device.revoked_at_ms else "",
            f"last seen {moment(device.last_seen_at_ms)}",
        )
        for device in found
    )


@devices.command()
@click.argument("device", metavar="ID")
@click.option("--end-links", is_flag=True, help="End the public links that the device has made, too.")
@json_option
def revoke(device: str, end_links: bool, as_json: bool) -> None:
    """Sign a device out for good, with the keys that it has made for programs. Its synced files stay on it.

    \b
    Examples:
      syncline devices revoke ID
      syncline devices revoke ID --end-links    if somebody else may have it
    """
    with signed_in() as session:
        done = Accounts(session).revoke(DeviceId(device), end_links=end_links)
    if as_json:
        keys = [device_as_json(key) for key in done.ended_keys]
        print_json({"device": device, **dataclasses.asdict(done), "ended_keys": keys})
        return
    say(f"revoked {device}")
    for key in done.ended_keys:
        say(f"revoked the key {key.name} that it had made ({key.id})")
    if done.ended_key_count > len(done.ended_keys):
        say(f"revoked {done.ended_key_count} keys in all")
    if done.ended_link_count:
        say(f"ended {_links(done.ended_link_count)}")
    if done.remaining_link_count:
        still = _links(done.remaining_link_count)
        say(f"{still} can still be opened; end them by `syncline devices revoke {device} --end-links`")


def _links(count: int) -> str:
    return f"{count} public link{'' if count == 1 else 's'} that it had made"


@click.group("account", invoke_without_command=True)
@json_option
@click.pass_context
def own_account(context: click.Context, as_json: bool) -> None:
    """Show your account, or prove that its e-mail address is yours.

    \b
    Examples:
      syncline account
      syncline account prove CODE
      syncline account prove --resend
    """
    if context.invoked_subcommand is None:
        _show_account(as_json)


@own_account.command("show")
@json_option
def show_account(as_json: bool) -> None:
    """Show your account, whether its e-mail address is proven, and how much your spaces hold together."""
    _show_account(as_json)


def _show_account(as_json: bool) -> None:
    with signed_in() as session:
        me = Accounts(session).who_am_i()
    if as_json:
        shown = {"user": me.user, "email": me.email, "personal_space": me.personal_space}
        print_json(
            {
                **shown,
                "proven": me.proven,
                "admin": me.admin,
                "guest": me.guest,
                "usage": dataclasses.asdict(me.usage),
            }
        )
        return
    say(f"{me.email}, who runs this system" if me.admin else me.email)
    say(f"{taken_of(me.usage.reserved_bytes, me.usage.quota_bytes)} used in the spaces that count for you")
    if me.proven:
        say("the address is proven")
    else:
        say("the address is not proven: `syncline account prove CODE` with the code in the mail that was sent to it")
    if me.guest:
        say(_GUEST)


@own_account.command()
@click.argument("code", metavar="CODE", default="")
@click.option("--resend", is_flag=True, help="Have another mail with a code sent to your address.")
def prove(code: str, resend: bool) -> None:
    """Prove that your e-mail address is yours, by the code in the mail that was sent to it.

    CODE is the code, or the whole link.

    \b
    Examples:
      syncline account prove CODE
      syncline account prove --resend
    """
    if bool(code) is resend:
        raise click.UsageError("state the CODE in the mail, or --resend for another mail")
    with signed_in() as session:
        accounts = Accounts(session)
        if code:
            accounts.prove_address(code.rpartition("#")[2].strip())
            say(f"{session.account.email} is proven")
        elif accounts.request_proof():
            say(f"another mail was sent to {session.account.email}")
        else:
            say(f"{session.account.email} is proven already")


COMMANDS = [signup, login, logout, whoami, own_account, devices]
