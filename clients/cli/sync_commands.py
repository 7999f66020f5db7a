"""Synced folders: sync, check, status."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

import click

from clients.cli.output import json_option, print_json, print_table, signed_in
from clients.cli.progress import Progress, progress
from clients.sdk.account import PERSONAL, Accounts
from clients.sdk.credentials import Access
from clients.sdk.home import default_home
from clients.sdk.session import Session
from clients.sdk.space import Space
from clients.sync.check import check as compare
from clients.sync.engine import Engine, Transfers
from clients.sync.files import Files
from clients.sync.folder import Folder, find_folder, folders, link, open_folder
from clients.sync.ports import NoProgress
from clients.sync.report import Report
from clients.sync.state import State, translated
from clients.sync.watch import watch as watch_folder
from clients.transfer.download import Downloader
from clients.transfer.objects import open_objects
from clients.transfer.upload import Uploader
from core.errors import InvalidArgument, Kind, SynclineError
from runtime import traces

SOME_NOT_SYNCED = 4

directory = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))


def _open(session: Session, path: Path, space: str | None) -> Folder:
    """The folder, which is linked if it is not yet."""
    folder = open_folder(default_home(), path)
    accounts = Accounts(session)
    if folder is None:
        name = space or PERSONAL
        return link(default_home(), path, accounts.resolve(name), name)
    if (
        space is not None
        and space not in {folder.space_name, folder.space}
        and (accounts.resolve(space) != folder.space)
    ):
        raise InvalidArgument(f"{path} is linked to {folder.space_name!r}, not to {space!r}; use another directory")
    return folder


def _engine(session: Session, folder: Folder, display: Progress) -> Engine:
    space = Space(session, folder.space)
    upload, download = open_objects(space, Access.WRITE), open_objects(space, Access.READ)
    return Engine(
        folder=folder,
        space=space,
        transfers=Transfers(
            uploader=lambda known: Uploader(space, upload, known, progress=display),
            downloader=Downloader(download, progress=display),
            counts=session.requests.counts,
        ),
        device=session.account.device_name,
        progress=display,
    )


@click.command()
@directory
@click.option("--space", metavar="NAME", help="The space to link DIR to on first use; `personal` by default.")
@click.option("--watch", is_flag=True, help="Go on syncing whenever something changes, until Ctrl-C.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@click.option("--allow-mass-delete", is_flag=True, help="Go on even if most files would be deleted.")
@json_option
def sync(  # noqa: PLR0917 - click passes them by name
    directory: Path, space: str | None, watch: bool, dry_run: bool, allow_mass_delete: bool, as_json: bool
) -> int:
    """Make DIR and its space the same: changes go both ways, and two edits of one file are both kept.

    Ends with 4 if some items could not be synced; each is listed with its reason.

    \b
    Examples:
      syncline sync ~/Documents
      syncline sync ~/Project --space Project
      syncline sync ~/Project --watch
      syncline sync ~/Project --dry-run
    """
    with signed_in() as session, progress() as display:
        folder = _open(session, directory, space)
        engine = _engine(session, folder, display)
        if dry_run:
            report = engine.dry_run()
            _print_plan(report, as_json)
        elif watch:
            return _sync_for_ever(engine, session, folder, as_json=as_json, allow_mass_delete=allow_mass_delete)
        else:
            report = engine.sync(allow_mass_delete=allow_mass_delete)
            _print(report, as_json)
    return SOME_NOT_SYNCED if report.problems else 0


def _print(report: Report, as_json: bool) -> None:
    for notice in report.notices:
        click.echo(f"syncline: {notice}", err=True)
    if as_json:
        print_json(report.document())
        return
    for problem in report.problems:
        click.echo(f"{problem.path}: {problem.reason}", err=True)
    click.echo(report.summary())


def _print_plan(report: Report, as_json: bool) -> None:
    if as_json:
        planned = [{"step": step, "path": path} for step, path in report.planned]
        print_json({**report.document(), "planned": planned})
        return
    for problem in report.problems:
        click.echo(f"{problem.path}: {problem.reason}", err=True)
    print_table(report.planned)
    if not report.planned:
        click.echo("up to date")


def _sync_for_ever(engine: Engine, session: Session, folder: Folder, *, as_json: bool, allow_mass_delete: bool) -> int:
    """Sync at each sign of a change until interrupted, which is the usual end; a passing fault is said once."""
    signal.signal(signal.SIGTERM, _interrupt)
    said: str | None = None
    space = Space(session, folder.space)
    try:
        with space.watch() as doorbells:
            for _ in watch_folder(folder.root, lambda: doorbells):
                try:
                    with traces.span("sync", root=True):
                        report = engine.sync(allow_mass_delete=allow_mass_delete)
                except SynclineError as error:
                    if error.kind is not Kind.UNAVAILABLE:
                        raise
                    if str(error) != said:
                        said = str(error)
                        click.echo(f"syncline: {said}; trying again", err=True)
                    continue
                said = None
                _print(report, as_json)
                sys.stdout.flush()
    except KeyboardInterrupt:
        return 0
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler's signature
    raise KeyboardInterrupt


@click.command()
@directory
@json_option
def check(directory: Path, as_json: bool) -> int:
    """Compare the files of DIR with its space by their checksums, and change nothing.

    `stale`: newer in the space; `modified`: changed here; `unknown`: not in the space; `deleted`: deleted there.

    \b
    Examples:
      syncline check ~/Project
      syncline check ~/Project --json
    """
    with signed_in() as session:
        folder = find_folder(default_home(), directory)
        folder.check_root()
        database = folder.database
        with Files(folder.root) as files, translated(database), State.in_memory(database) as state:
            verdicts = compare(files, state.load_base(), Space(session, folder.space))
    if as_json:
        print_json(verdicts.document())
    else:
        for name in ("stale", "modified", "unknown", "deleted"):
            for path in sorted(getattr(verdicts, name)):
                click.echo(f"{name:8}  {path}")
        click.echo(f"{verdicts.current} current")
    for problem in verdicts.problems:
        click.echo(f"{problem.path}: {problem.reason}", err=True)
    return SOME_NOT_SYNCED if verdicts.problems else 0


@click.command()
@click.argument("directory", metavar="[DIR]", type=click.Path(path_type=Path), required=False)
@json_option
def status(directory: Path | None, as_json: bool) -> None:
    """Show the synced folders of this device, or one, and what a sync of it would do.

    \b
    Examples:
      syncline status
      syncline status ~/Project
    """
    if directory is None:
        found = folders(default_home())
        if as_json:
            print_json({"folders": [{"directory": os.fspath(one.root), "space": one.space_name} for one in found]})
        else:
            print_table((os.fspath(one.root), one.space_name) for one in found)
        return
    with signed_in() as session:
        folder = find_folder(default_home(), directory)
        report = _engine(session, folder, NoProgress()).dry_run()
    if not as_json:
        click.echo(f"{folder.root} is linked to {folder.space_name}")
    _print_plan(report, as_json)


COMMANDS = [sync, check, status]
