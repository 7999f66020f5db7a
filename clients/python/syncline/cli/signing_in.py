"""Options and prompts of the commands that reach a service before anybody is signed in, or ask for a password."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from syncline.cli.terminal import complain
from syncline.model.errors import WrongCode
from syncline.sdk.trust import Trust

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_CODES_ASKED: Final = 3
"""The number of times that a person is asked for a code."""

_OPTIONS: Final = [
    click.option("--endpoint", required=True, metavar="URL", help="Where Syncline serves."),
    click.option(
        "--allow-http",
        is_flag=True,
        help="Allow an http:// address of another machine: everybody on the network path can read along.",
    ),
    click.option(
        "--allow-host",
        "allow_hosts",
        metavar="HOST",
        multiple=True,
        help="Use services or storage at HOST, which is outside of the endpoint's domain. May be repeated.",
    ),
]


def endpoint_options(command: F) -> F:
    """Return `command` with the options that name an endpoint, and the user's exceptions for `trust_of`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def trust_of(allow_http: bool, allow_hosts: tuple[str, ...]) -> Trust:
    """Return the exceptions from the rule of where a device sends secrets, as the options state them."""
    return Trust(http=allow_http, hosts=frozenset(host.lower() for host in allow_hosts))


def password_from(prompt: str, *, stdin: bool, confirm: bool = False) -> str:
    """Return a password: the next line of standard input if `stdin` is True, otherwise what a person types after
    `prompt`; with `confirm` it has to be typed twice.
    """
    if stdin:
        return sys.stdin.readline().rstrip("\r\n")
    password: str = click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)
    return password


def with_code(call: Callable[[str], T]) -> T:
    """Return the result of `call` with the code of a second factor that a person types; a wrong one may be corrected
    twice. Raise UsageError if there is no terminal to ask at.
    """
    if not sys.stdin.isatty():
        raise click.UsageError("state a code of your authenticator app by --code: there is no terminal to ask for it")
    for _ in range(_CODES_ASKED - 1):
        try:
            return call(_typed_code())
        except WrongCode as error:
            complain(str(error))
    return call(_typed_code())


def _typed_code() -> str:
    code: str = click.prompt("Code of your authenticator app, or a recovery code", err=True)
    return code
