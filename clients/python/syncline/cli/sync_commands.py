"""Commands on synced folders: sync, check, status."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from syncline.cli.main import Interrupted, is_interruption
from syncline.cli.output import json_option, signed_in
from syncline.cli.progress import CommandProgress, progress
from syncline.cli.space_paths import LOCAL
from syncline.cli.terminal import complain, print_json, print_table, say
from syncline.model.accounts import Access
from syncline.model.errors import InvalidArgument, SynclineError
from syncline.model.names import normalized_path
from syncline.rpc import traces
from syncline.sdk.account import PERSONAL, Accounts
from syncline.sdk.discovery import StorageAddress
from syncline.sdk.home import default_home
from syncline.sdk.session import Session
from syncline.sdk.space import Space
from syncline.sync.engine import Engine
from syncline.sync.errors import FolderMissing, FolderUnreadable
from syncline.sync.folder.files import PRIVATE, Files
from syncline.sync.folder.link import Folder, find_folder, folders, link_folder, open_folder
from syncline.sync.ports import (
    AS_BEFORE,
    DownloaderPort,
    KnownBlocks,
    MassDelete,
    NoSyncProgress,
    Transfers,
    UploaderPort,
    Wanted,
)
from syncline.sync.report import Report
from syncline.sync.state.database import State, state_errors
from syncline.sync.trees import live_nodes
from syncline.transfer.rate_limit import LIMITED_WORKERS, MAX_BYTES_PER_SECOND, MIN_BYTES_PER_SECOND, Limit

if TYPE_CHECKING:
    from syncline.transfer.objects import ObjectStore

SOME_NOT_SYNCED = 4
MAX_SHOWN_PROBLEMS = 100


class _Rate(click.ParamType[int]):
    """A number of bytes per second, with K, M or G for powers of 1,024."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)", str(value), re.IGNORECASE)
        rate = int(float(match[1]) * 1024 ** " KMG".index(match[2].upper() or " ")) if match else 0
        if not MIN_BYTES_PER_SECOND <= rate <= MAX_BYTES_PER_SECOND:
            self.fail(f"{value!r} is not a rate; give bytes per second, such as 500K or 2M, at least 1K", param, ctx)
        return rate


RATE = _Rate()

directory = click.argument("directory", metavar="DIR", type=LOCAL)


def _open(session: Session, path: Path, space: str | None) -> Folder:
    """Return the synced folder in a directory, after linking the directory to its space if it is not linked. Raise
    InvalidArgument if the directory is linked to another space than `space`.
    """
    folder = open_folder(default_home(), path)
    accounts = Accounts(session)
    if folder is None:
        name = PERSONAL if space is None else space
        return link_folder(default_home(), path, accounts.resolve(name), name)
    if (
        space is not None
        and space not in {folder.space_name, folder.space}
        and (accounts.resolve(space) != folder.space)
    ):
        raise InvalidArgument(f"{path} is linked to {folder.space_name!r}, not to {space!r}; use another directory")
    return folder


def _path_in(directory: Path, text: str) -> str:
    """Return the path from the root of the folder `directory` for `text`, an absolute path on this machine or a path
    from that root. Raise InvalidArgument if the path is not below the folder, or is in its directory `.syncline`.
    """
    path = Path(text)
    if path.is_absolute():
        try:
            path = path.relative_to(directory.absolute())
        except ValueError:
            raise InvalidArgument(f"{text} is not below {directory}") from None
    names = normalized_path(path.as_posix())
    if not names or names[0] == PRIVATE:
        raise InvalidArgument(f"{text!r} names no path below {directory}")
    return "/".join(names)


def _engine(
    session: Session,
    folder: Folder,
    display: CommandProgress,
    *,
    limit_up: int | None = None,
    limit_down: int | None = None,
) -> Engine:
    space = Space(session, folder.space)
    limits = {
        Access.WRITE: Limit(limit_up) if limit_up else None,
        Access.READ: Limit(limit_down) if limit_down else None,
    }

    # Most syncs transfer nothing, and need not import the transfer modules.
    @cache
    def store_at(storage: StorageAddress, access: Access) -> ObjectStore:  # noqa: ARG001 - what it is kept for
        from syncline.transfer.objects import open_objects  # noqa: PLC0415 - see above

        return open_objects(space, access, limit=limits[access])

    def store(access: Access) -> ObjectStore:
        """Return the object store that reads or writes, as `access` says. There is one store for each of the two, as
        long as the address of storage stays the same, so that the syncs of a watch share its connections.
        """
        return store_at(session.deployment.s3, access)

    def uploader(known: KnownBlocks) -> UploaderPort:
        from syncline.transfer import upload  # noqa: PLC0415 - see above

        workers = LIMITED_WORKERS if limit_up else upload.WORKERS
        return upload.Uploader(space, store(Access.WRITE), known, workers, progress=display)

    def downloader() -> DownloaderPort:
        from syncline.transfer import download  # noqa: PLC0415 - see above

        workers = LIMITED_WORKERS if limit_down else download.WORKERS
        return download.Downloader(store(Access.READ), workers, progress=display)

    return Engine(
        folder=folder,
        space=space,
        transfers=Transfers(uploader, downloader, counts=session.requests.counts),
        device=session.account.device_name,
        progress=display,
    )


@click.command()
@directory
@click.option("--space", metavar="NAME", help="The space to link DIR to on first use; `personal` by default.")
@click.option("--watch", is_flag=True, help="Keep syncing whenever something changes, until Ctrl-C.")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and change nothing.")
@click.option("--allow-mass-delete", is_flag=True, help="Sync even if most files would be deleted.")
@click.option("--verify", is_flag=True, help="Read every file again, even if its size and times are unchanged.")
@click.option(
    "--exclude", metavar="PATH", multiple=True, help="Leave this path of DIR alone from now on, on this device."
)
@click.option("--include", metavar="PATH", multiple=True, help="Sync a path again that was excluded.")
@click.option(
    "--outside-links",
    type=click.Choice(["keep", "leave"]),
    help="From now on keep symlinks that lead out of DIR as they are (as before), or leave those of the space there.",
)
@click.option("--limit-up", type=RATE, metavar="RATE", help="Upload at most so many bytes a second: 500K, 2M.")
@click.option("--limit-down", type=RATE, metavar="RATE", help="Download at most so many bytes a second.")
@json_option
def sync(  # noqa: PLR0917 - click passes them by name
    directory: Path,
    space: str | None,
    watch: bool,
    dry_run: bool,
    allow_mass_delete: bool,
    verify: bool,
    exclude: tuple[str, ...],
    include: tuple[str, ...],
    outside_links: str | None,
    limit_up: int | None,
    limit_down: int | None,
    as_json: bool,
) -> int:
    """Make DIR and its space the same: changes go both ways, and two edits of one file are both kept.

    Files that match a `.synclineignore` in DIR or below, in the syntax of `.gitignore`, are not uploaded, nor are
    files that systems leave behind, such as `.DS_Store`. Files that the space has already are still synced. --exclude
    is remembered, on this device only: PATH stays as it is on both sides, and neither side follows the other.

    The exit status is 4 if some items could not be synced; each is listed with its reason.

    \b
    Examples:
      syncline sync ~/Documents
      syncline sync ~/Project --space Project
      syncline sync ~/Project --watch
      syncline sync ~/Project --dry-run
      syncline sync ~/Project --exclude videos/raw
      syncline sync ~/Project --include videos/raw
      syncline sync ~/Project --outside-links leave
      syncline sync ~/Project --limit-up 500K --limit-down 2M
      syncline sync ~/Project --verify
    """
    mass_delete = MassDelete.DO if allow_mass_delete else MassDelete.HOLD if watch else MassDelete.REFUSE
    with signed_in() as session, progress() as display:
        paths = [_path_in(directory, path) for path in (*exclude, *include)]
        links = None if outside_links is None else outside_links == "keep"
        wanted = Wanted(tuple(paths[: len(exclude)]), tuple(paths[len(exclude) :]), verify, links)

        def opened() -> tuple[Folder, Engine]:
            folder = _open(session, directory, space)
            return folder, _engine(session, folder, display, limit_up=limit_up, limit_down=limit_down)

        if watch:
            _sync_for_ever(session, opened, mass_delete, wanted, as_json=as_json)
        _, engine = opened()
        if dry_run:
            report = engine.dry_run(wanted=wanted)
            _print_plan(report, as_json)
        else:
            report = engine.sync(mass_delete=mass_delete, wanted=wanted)
            _print(report, as_json)
    return SOME_NOT_SYNCED if report.problems else 0


def _print(report: Report, as_json: bool) -> None:
    for notice in filter(None, (*report.notices, report.waiting)):
        complain(notice)
    if as_json:
        print_json(report.document())
        return
    _print_problems(report)
    say(report.summary())


def _print_problems(report: Report) -> None:
    """Print the first problems only: a member can give thousands of files names that are invalid here, which every sync
    reports.
    """
    for problem in report.problems[:MAX_SHOWN_PROBLEMS]:
        say(f"{problem.path}: {problem.reason}", err=True)
    if (more := len(report.problems) - MAX_SHOWN_PROBLEMS) > 0:
        complain(f"{more:,} more are not synced; --json lists all")


def _print_plan(report: Report, as_json: bool) -> None:
    if as_json:
        planned = [{"step": step, "path": path} for step, path in report.planned]
        print_json({**report.document(), "planned": planned, "excluded": report.excluded})
        return
    _print_problems(report)
    print_table(report.planned)
    if not report.planned:
        say("up to date")


def _sync_for_ever(
    session: Session,
    opened: Callable[[], tuple[Folder, Engine]],
    mass_delete: MassDelete,
    wanted: Wanted,
    *,
    as_json: bool,
) -> NoReturn:
    """Sync at each doorbell and each change in the folder, until a signal interrupts the command, which is the usual
    end. `opened` links or opens the folder and makes its engine; it is called until it succeeds, even while disk or
    network are missing. `mass_delete` applies to each sync; `wanted` has the options of the first one, which stores
    them.

    Raise Interrupted after a signal, and any error that ends the watch.
    """
    from syncline.sync.watch import keep_syncing, patiently  # noqa: PLC0415 - `sync` does without otherwise

    class Terminal:
        def tell(self, report: Report) -> None:
            _print(report, as_json)
            sys.stdout.flush()

        def remark(self, text: str) -> None:
            complain(text)

    def may_pass(error: Exception) -> bool:
        """Return True if opening the folder may succeed later, as when a machine starts before its network and
        disks.
        """
        if is_interruption(error):
            return False
        passing = (FolderMissing, FolderUnreadable, OSError)
        return isinstance(error, passing) or (isinstance(error, SynclineError) and error.passing)

    terminal = Terminal()
    try:
        folder, engine = patiently(opened, terminal, passing=may_pass)

        def sync() -> Report:
            nonlocal wanted
            try:
                with traces.span("sync", root=True):
                    report = engine.sync(mass_delete=mass_delete, wanted=wanted)
            except Exception as error:
                if is_interruption(error):
                    raise KeyboardInterrupt from None  # an interruption must not be retried
                raise
            wanted = AS_BEFORE  # the options have been stored
            return report

        with Space(session, folder.space).watch() as doorbells:
            keep_syncing(folder.root, sync, doorbells, terminal)
    except (Exception, KeyboardInterrupt) as error:
        if not is_interruption(error):
            raise
        raise Interrupted(status=0) from None
    raise AssertionError("a watch ends by an error or an interruption")


@click.command()
@directory
@click.option("--verify", is_flag=True, help="Read every file, even if its size and times are unchanged.")
@json_option
def check(directory: Path, verify: bool, as_json: bool) -> int:
    """Compare the files of DIR with its space by their checksums, and change nothing.

    The checksum of a file whose size and times are unchanged is the recorded one; --verify reads every file again.
    Differences are no error: the exit code is 0 unless files could not be compared.

    `stale`: newer in the space; `modified`: changed here; `unknown`: not in the space; `deleted`: deleted there.

    \b
    Examples:
      syncline check ~/Project
      syncline check ~/Project --verify
      syncline check ~/Project --json
    """
    from syncline.sync.check import check as compare  # noqa: PLC0415 - `sync` does without
    from syncline.sync.scan.filters import Excluded  # noqa: PLC0415 - as above

    with signed_in() as session:
        folder = find_folder(default_home(), directory)
        folder.check_root()
        database = folder.database
        with Files(folder.root) as files, state_errors(database), State.in_memory(database) as state:
            exclusions = state.excluded()
            excluded = Excluded.of(exclusions, live_nodes(state.load_remote()).nodes if exclusions else {})
            result = compare(
                folder, files, state.load_base(), Space(session, folder.space), excluded=excluded.paths, verify=verify
            )
    if as_json:
        print_json(result.document())
    else:
        for name in ("stale", "modified", "unknown", "deleted"):
            for path in sorted(getattr(result, name)):
                say(f"{name:8}  {path}")
        say(f"{result.current} current")
    for problem in result.problems:
        say(f"{problem.path}: {problem.reason}", err=True)
    return SOME_NOT_SYNCED if result.problems else 0


@click.command()
@click.argument("directory", metavar="[DIR]", type=LOCAL, required=False)
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
        report = _engine(session, folder, NoSyncProgress()).dry_run()
    if not as_json:
        say(f"{folder.root} is linked to {folder.space_name}")
        for path in report.excluded:
            say(f"{path} is excluded on this device; `--include` syncs it again")
    _print_plan(report, as_json)


COMMANDS = [sync, check, status]
