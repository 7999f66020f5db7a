"""Changing the password, and choosing a new one by a mail if it is lost."""

from __future__ import annotations

import dataclasses

import click

from syncline.cli.output import device_as_json, json_option, signed_in
from syncline.cli.signing_in import endpoint_options, password_from, trust_of
from syncline.cli.terminal import print_json, say
from syncline.sdk import account
from syncline.sdk.account import Accounts


@click.command()
@click.option(
    "--password-stdin",
    is_flag=True,
    help="Read the current password and the new one from standard input, a line each, not the terminal.",
)
@json_option
def password(password_stdin: bool, as_json: bool) -> None:
    """Change your password.

    All your other devices are signed out, and all keys of programs end that this device has not made. A mail tells you
    about the change.

    \b
    Examples:
      syncline password
      printf '%s\\n' "$CURRENT" "$NEW" | syncline password --password-stdin --json
    """
    with signed_in() as session:
        current = password_from("Current password", stdin=password_stdin)
        new = password_from("New password", stdin=password_stdin, confirm=True)
        done = Accounts(session).change_password(current=current, new=new)
    if as_json:
        lists = {
            "ended_devices": [device_as_json(one) for one in done.ended_devices],
            "ended_keys": [device_as_json(key) for key in done.ended_keys],
            "remaining_keys": [device_as_json(key) for key in done.remaining_keys],
        }
        print_json({**dataclasses.asdict(done), **lists})
        return
    say("the password is changed")
    for one in done.ended_devices:
        say(f"signed out {one.name} ({one.id})")
    if done.ended_device_count > len(done.ended_devices):
        say(f"signed out {done.ended_device_count} devices in all")
    for key in done.ended_keys:
        say(f"revoked the key {key.name} ({key.id})")
    if done.ended_key_count > len(done.ended_keys):
        say(f"revoked {done.ended_key_count} keys in all")
    for key in done.remaining_keys:
        say(f"the key {key.name} ({key.id}), which this device has made, still works")
    if done.unfinished:
        say("some devices or keys could not be ended yet; the service goes on, see `syncline devices`")


@click.command()
@click.argument("email", metavar="EMAIL", default="")
@endpoint_options
@click.option("--code", metavar="CODE", default="", help="The code in the mail, or the whole link.")
@click.option("--password-stdin", is_flag=True, help="Read the new password from standard input, not the terminal.")
@json_option
def reset(
    *,
    email: str,
    endpoint: str,
    allow_http: bool,
    allow_hosts: tuple[str, ...],
    code: str,
    password_stdin: bool,
    as_json: bool,
) -> None:
    """Choose a new password by a mail, if you have lost yours.

    With EMAIL, have a mail with a code sent to your address. With the code, choose the password: all your devices are
    signed out, and all keys of your programs end. Then sign in by `syncline login`.

    \b
    Examples:
      syncline reset ann@example.com --endpoint https://sync.example.com
      syncline reset --endpoint https://sync.example.com --code CODE
    """
    if bool(email) is bool(code):
        raise click.UsageError("state your EMAIL for a mail, or the --code that came by mail")
    trust = trust_of(allow_http, allow_hosts)
    if email:
        account.request_reset(endpoint=endpoint, email=email, trust=trust)
        if as_json:
            print_json({"email": email, "requested": True})
        else:
            say(f"if {email} has an account, a mail with a code was sent to it; it is valid for an hour")
        return
    new = password_from("New password", stdin=password_stdin, confirm=True)
    account.reset_password(endpoint=endpoint, token=code.rpartition("#")[2].strip(), new_password=new, trust=trust)
    if as_json:
        print_json({"reset": True})
    else:
        say("the password is changed, and all your devices are signed out; sign in by `syncline login`")


COMMANDS = [password, reset]
