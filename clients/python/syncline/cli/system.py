"""Commands that run the system itself."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING

import click
from typing_extensions import override

from syncline.cli.main import Interrupted, is_interruption
from syncline.cli.output import json_option, size
from syncline.cli.progress import progress
from syncline.cli.space_paths import LOCAL
from syncline.cli.terminal import print_json, say
from syncline.model.accounts import SignUpPolicy
from syncline.model.trusted_networks import trusted_network

if TYPE_CHECKING:
    from stack.archive import Summary

SOME_DAMAGED = 4
NOTHING_LEFT = "nothing is left of it"


class NetworkParameter(click.ParamType["IPv4Network | IPv6Network"]):
    """A CIDR range, or a single address; a range of /0 is refused, because every client would be trusted."""

    name = "CIDR"

    @override
    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> IPv4Network | IPv6Network:
        if isinstance(value, IPv4Network | IPv6Network):
            return value
        try:
            return trusted_network(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.option("--port", type=click.IntRange(0, 65531), default=8080, show_default=True, help="The first of five ports.")
@click.option(
    "--data",
    type=LOCAL,
    help="Directory of all data; without it, everything is lost afterwards.",
)
@click.option(
    "--trust-proxy",
    "proxies",
    type=NetworkParameter(),
    multiple=True,
    metavar="CIDR",
    help="Where a reverse proxy of yours is, and nobody else, whose X-Forwarded-* and Forwarded headers the gateway "
    "believes; may be given several times.",
)
@click.option(
    "--policy",
    type=click.Choice([policy.value for policy in SignUpPolicy]),
    help="Who may make an account: nobody uninvited (invited), people with an address of a --domain, or everybody "
    "(open). Without it, SYNCLINE_SIGN_UP_POLICY, else everybody.",
)
@click.option(
    "--domain",
    "domains",
    metavar="D",
    multiple=True,
    help="A domain of e-mail addresses, for --policy domains; may be given several times.",
)
@click.option(
    "--prove-addresses",
    is_flag=True,
    help="People have to prove by mail that an address is theirs. Without it, each address counts as proven.",
)
def up(
    *,
    port: int,
    data: Path | None,
    proxies: tuple[IPv4Network | IPv6Network, ...],
    policy: str | None,
    domains: tuple[str, ...],
    prove_addresses: bool,
) -> None:
    """Run the whole system on this machine, in the foreground, over an embedded AWS.

    Prints `syncline is up: URL` when it serves; Ctrl-C or SIGTERM stops it.

    Behind a reverse proxy, all clients count as one visitor and share the limits of one, unless --trust-proxy names
    the address of the proxy. Name no other address: any client with a trusted address can choose the address that is
    counted. Only the gateway trusts the proxy. The ports of the services count gRPC clients by the address of the
    connection; if your proxy forwards gRPC to them, set SYNCLINE_TRUSTED_NETWORKS instead, which applies to the
    gateway and the services.

    Everybody who reaches the ports may make an account, unless --policy says who may. Choose a policy if a proxy lets
    others in. With --policy invited, a link is printed by which the first account is made, that of the administrator,
    until there is one.

    \b
    Examples:
      syncline up
      syncline up --port 9000 --data ~/syncline-data
      syncline up --data ~/syncline-data --trust-proxy 127.0.0.1
      syncline up --data ~/syncline-data --policy domains --domain example.com
    """
    if bool(domains) is not (policy == SignUpPolicy.DOMAINS.value):
        raise click.UsageError("--policy domains and --domain go together: state both, or none of them")
    with _server_side():
        from stack.up import main  # noqa: PLC0415 - a client install has no stack
    raise SystemExit(
        main(
            port=port,
            data=data,
            proxies=proxies,
            policy=SignUpPolicy(policy) if policy else None,
            domains=domains,
            prove_addresses=prove_addresses,
        )
    )


@click.command()
@click.argument("directory", type=LOCAL)
@click.argument("file", type=LOCAL)
@json_option
def backup(directory: Path, file: Path, as_json: bool) -> None:
    """Copy the data of `syncline up --data DIRECTORY` to FILE, while it runs or not.

    FILE is a tar archive with a manifest and checksums, and must not exist yet; `-` is stdout. It contains keys and
    digests of passwords: only you can read it, keep it so. The exit status is 4 if some data were damaged before the
    backup; their files are listed.

    \b
    Examples:
      syncline backup ~/syncline-data /mnt/backups/syncline-2026-11-28.tar
      syncline backup ~/syncline-data - | ssh nas 'cat > syncline.tar'
    """
    with _server_side():
        from stack.backup import back_up  # noqa: PLC0415 - a client install has no stack
    began = time.monotonic()
    to_stdout = str(file) == "-"
    left = "what was written is no whole backup" if to_stdout else NOTHING_LEFT
    with _errors_in_one_line(interrupted=left), progress() as watched:
        made = back_up(directory, sys.stdout.buffer if to_stdout else file, watched)
    if not to_stdout:
        _print(made, f"backed up to {file}", began, as_json)
    _warn(made)


@click.command("restore-backup")
@click.argument("file", type=LOCAL)
@click.argument("directory", type=LOCAL)
@json_option
def restore_backup(file: Path, directory: Path, as_json: bool) -> None:
    """Restore the backup FILE to DIRECTORY, which must be empty or missing; `-` is stdin.

    Everything is compared with the checksums of the backup. Devices that have newer changes than the backup keep them,
    and upload them again with their next sync.

    \b
    Examples:
      syncline restore-backup /mnt/backups/syncline-2026-11-28.tar ~/syncline-restored
      syncline up --data ~/syncline-restored
    """
    with _server_side():
        from stack.restore import restore  # noqa: PLC0415 - a client install has no stack
    began = time.monotonic()
    with _errors_in_one_line(interrupted=NOTHING_LEFT), progress() as watched:
        found = restore(sys.stdin.buffer if str(file) == "-" else file, directory, watched)
    _print(found, f"restored to {directory}", began, as_json)
    _warn(found)


def _print(summary: Summary, what: str, began: float, as_json: bool) -> None:
    seconds = round(time.monotonic() - began, 2)
    if as_json:
        print_json(
            {
                "made": summary.made,
                "rows": summary.rows,
                "objects": summary.objects,
                "bytes": summary.size,
                "damaged": summary.damaged,
                "seconds": seconds,
            }
        )
    else:
        say(
            f"{what}: {summary.objects:,} objects and {summary.rows:,} rows, {size(summary.size)}, "
            f"as of {summary.made}, in {seconds:.1f} s"
        )


def _warn(summary: Summary) -> None:
    for path in summary.damaged:
        say(f"damaged before the backup was made: {path}; files that contain it cannot be downloaded", err=True)
    if summary.damaged:
        raise click.exceptions.Exit(SOME_DAMAGED)


@contextmanager
def _server_side() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as missing:
        raise click.ClickException(
            f"the server side is not installed ({missing.name} is missing); pip install 'syncline-server[stack]'"
        ) from None


@contextmanager
def _errors_in_one_line(*, interrupted: str) -> Iterator[None]:
    """Context that converts errors of the stack in its body to errors of click, which are printed in one line. If the
    command is interrupted, raise Interrupted with `interrupted`, a text about the state that is left.
    """
    from stack.errors import StackError  # noqa: PLC0415 - a client install has no stack

    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if is_interruption(error):
            raise Interrupted(left=interrupted) from None
        if isinstance(error, StackError):
            raise click.ClickException(str(error)) from None
        raise


COMMANDS = [up, backup, restore_backup]
