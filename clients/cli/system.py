"""Running the system itself."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--port", type=click.IntRange(0, 65531), default=8080, show_default=True, help="The first of five ports.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where everything is kept; without it, all is gone afterwards.",
)
def up(port: int, data: Path | None) -> None:
    """Run the whole system on this machine, in the foreground, over an embedded AWS.

    Prints `syncline is up: URL` when it serves; Ctrl-C or SIGTERM stops it.

    \b
    Examples:
      syncline up
      syncline up --port 9000 --data ~/syncline-data
    """
    try:
        from stack.up import main  # noqa: PLC0415 - a client install has no stack
    except ModuleNotFoundError as missing:
        raise click.ClickException(
            f"the server side is not installed ({missing.name} is missing); pip install 'syncline[stack]'"
        ) from None
    raise SystemExit(main(port=port, data=data))


COMMANDS = [up]
