"""The second factor of an account: an authenticator app."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from typing import Final

import click
import segno

from syncline.cli.output import json_option, moment, signed_in
from syncline.cli.signing_in import password_from, with_code
from syncline.cli.terminal import print_json, say
from syncline.sdk.account import Accounts, AppSecret

_HALVES: Final = {(False, False): "\u2588", (False, True): "\u2580", (True, False): "\u2584", (True, True): " "}
"""The character for a module of a QR code and the one below it, by whether they are dark."""
_password_option = click.option(
    "--password-stdin", is_flag=True, help="Read your password from standard input, not the terminal."
)


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def factors(context: click.Context, as_json: bool) -> None:
    """Show your second factor, add an authenticator app, or remove it.

    With a second factor, every sign-in needs a code of the app as well as your password.

    \b
    Examples:
      syncline factors
      syncline factors add
      syncline factors remove
    """
    if context.invoked_subcommand is None:
        _show(as_json)


@factors.command("list")
@json_option
def list_factors(as_json: bool) -> None:
    """Show your second factor.

    \b
    Examples:
      syncline factors list --json
    """
    _show(as_json)


def _show(as_json: bool) -> None:
    with signed_in() as session:
        factor = Accounts(session).second_factor()
    if as_json:
        print_json([] if factor is None else [{"kind": "totp", **dataclasses.asdict(factor)}])
    elif factor is None:
        say("your password alone signs in; `syncline factors add` adds an authenticator app")
    else:
        left = factor.recovery_codes_left
        codes = "1 recovery code" if left == 1 else f"{left} recovery codes"
        say(f"an authenticator app, since {moment(factor.added_at_ms)}; {codes} left")


@factors.command()
@_password_option
@json_option
def add(password_stdin: bool, as_json: bool) -> None:
    """Add an authenticator app.

    Scan the QR code by the app, or enter the secret, and then state the code that the app shows, within an hour.
    Without a terminal, and with --json, state it by `syncline factors confirm CODE`, on this device.

    \b
    Examples:
      syncline factors add
      echo "$PASSWORD" | syncline factors add --password-stdin --json
    """
    with signed_in() as session:
        accounts = Accounts(session)
        made = accounts.add_totp(password=password_from("Your password", stdin=password_stdin))
        if as_json:
            print_json({"secret": made.secret, "uri": made.uri})
            return
        _show_app(made)
        if password_stdin or not sys.stdin.isatty():
            say("it has no effect yet: `syncline factors confirm CODE` with the code that the app shows")
            return
        _tell_recovery_codes(with_code(accounts.confirm_totp))


@factors.command()
@click.argument("code", metavar="CODE")
@json_option
def confirm(code: str, as_json: bool) -> None:
    """Confirm the app that you have added by the CODE that it shows. It prints your recovery codes.

    \b
    Examples:
      syncline factors confirm 123456
    """
    with signed_in() as session:
        codes = Accounts(session).confirm_totp(code)
    if as_json:
        print_json({"recovery_codes": codes})
    else:
        _tell_recovery_codes(codes)


@factors.command()
@_password_option
@click.option("--code", metavar="CODE", default="", help="A code of the app, or a recovery code.")
def remove(password_stdin: bool, code: str) -> None:
    """Remove your second factor, so that your password alone signs in.

    \b
    Examples:
      syncline factors remove
      echo "$PASSWORD" | syncline factors remove --password-stdin --code 123456
    """
    with signed_in() as session:
        password = password_from("Your password", stdin=password_stdin)
        accounts = Accounts(session)

        def remove_by(stated: str) -> None:
            accounts.remove_factor(password=password, code=stated)

        if code:
            remove_by(code)
        else:
            with_code(remove_by)
    say("your second factor is removed")


def _show_app(made: AppSecret) -> None:
    if sys.stdout.isatty():
        for line in _drawn(made.uri):
            say(line)
    say(f"secret: {made.secret}")
    say(f"or as a link: {made.uri}")


def _drawn(text: str) -> Iterator[str]:
    """Yield the lines of a QR code of half blocks, for the light text of a dark terminal."""
    rows = [list(row) for row in segno.make(text, error="l", micro=False).matrix_iter(border=2)]
    rows.append([0] * len(rows[0]))  # light, for a code of an odd number of rows
    for upper, lower in zip(rows[::2], rows[1::2], strict=False):
        yield "".join(_HALVES[bool(dark), bool(below)] for dark, below in zip(upper, lower, strict=True))


def _tell_recovery_codes(codes: list[str]) -> None:
    say("your second factor is added: from now on a sign-in needs a code of the app")
    say("keep these recovery codes where you find them without the app; each works once in place of a code:")
    for code in codes:
        say(f"  {code}")


COMMANDS = [factors]
