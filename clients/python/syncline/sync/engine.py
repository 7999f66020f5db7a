"""One sync of one folder: a quick check if nothing has changed, otherwise rounds until folder and space agree."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from syncline.model.identifiers import RequestId, new_request_id
from syncline.rpc import traces
from syncline.sdk.requests import Counts
from syncline.sync.errors import StateDamaged, reassuring
from syncline.sync.folder.files import Files
from syncline.sync.folder.link import Folder
from syncline.sync.plan.conflict_names import conflict_label
from syncline.sync.ports import AS_BEFORE, MassDelete, NoSyncProgress, SpacePort, SyncProgress, Transfers, Wanted
from syncline.sync.report import Report
from syncline.sync.settled import still_settled
from syncline.sync.state.database import State, set_aside, state_errors


class Engine:
    """Syncs one folder with its space. `transfers` makes the uploader and the downloader, and `device` is the name of
    this device in the names of conflict copies. The arguments after `progress` have defaults that only tests replace.
    """

    def __init__(
        self,
        *,
        folder: Folder,
        space: SpacePort,
        transfers: Transfers,
        device: str,
        progress: SyncProgress | None = None,
        files: Callable[[Folder], Files] | None = None,
        open_state: Callable[[Path], State] = State.open,
        new_request: Callable[[], RequestId] = new_request_id,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        self._folder = folder
        self._space = space
        self._transfers = transfers
        self._device = device
        self._progress = progress or NoSyncProgress()
        self._open_files = files or (lambda folder: Files(folder.root))
        self._open_state = open_state
        self._new_request = new_request
        self._now = now

    def sync(self, *, mass_delete: MassDelete = MassDelete.REFUSE, wanted: Wanted = AS_BEFORE) -> Report:
        """Sync until folder and space agree, and return the report.

        - Raise FolderBusy if another sync of the folder is running.
        - Raise FolderMissing if the folder is not the one that was synced.
        - Raise TooManyDeletions if a mass deletion is not confirmed.
        - Raise SpaceDeleted if the space is deleted; the folder keeps its files.
        - Raise StateUnusable if the state database cannot be used.
        - Errors of the services pass through.
        """
        report = Report()
        started, before = time.monotonic(), self._transfers.counts()
        self._folder.check_root()
        with reassuring(), self._folder.locked(), self._open_files(self._folder) as files:
            self._folder.check_root()  # checked again, now that the open folder cannot be unmounted
            files.prepare()
            try:
                self._run(files, report, wanted, mass_delete)
            except StateDamaged:
                aside = set_aside(self._folder.database, self._now())
                report.notices.append(
                    f"the state database was damaged; it was kept as {aside} and made anew from what is in the folder "
                    "and the space. Nothing was deleted; what had been deleted on one side only has come back, and "
                    "what was excluded on this device has to be excluded again"
                )
                self._include_all(wanted)
                self._run(files, report, wanted, mass_delete)
            incoming, _ = files.temporaries()
            for token in incoming:
                files.discard(files.incoming(token))
        _count(report, before, self._transfers.counts())
        report.seconds = time.monotonic() - started
        return report

    def dry_run(self, *, wanted: Wanted = AS_BEFORE) -> Report:
        """Return the report of what a sync with the options `wanted` would do now. Nothing is changed: not the folder,
        the space or the state.
        """
        from syncline.sync.rounds import preview  # noqa: PLC0415 - as above

        report = Report()
        started, before = time.monotonic(), self._transfers.counts()
        self._folder.check_root()
        database = self._folder.database
        with (
            reassuring(),
            self._open_files(self._folder) as files,
            state_errors(database),
            State.in_memory(database) as state,
        ):
            preview(self._folder, files, state, self._space, label=self._label(), report=report, wanted=wanted)
        _count(report, before, self._transfers.counts())
        report.seconds = time.monotonic() - started
        return report

    def _run(self, files: Files, report: Report, wanted: Wanted, mass_delete: MassDelete) -> None:
        database = self._folder.database
        with state_errors(database), self._open_state(database) as state:
            with traces.span("look"):
                settled = still_settled(files, state, self._space) if wanted == AS_BEFORE else None
            if settled is not None:
                report.skipped = settled.skipped
                return
            from syncline.sync.rounds import Rounds  # noqa: PLC0415 - not needed by a sync that has nothing to do

            rounds = Rounds(
                folder=self._folder,
                space=self._space,
                transfers=self._transfers,
                files=files,
                state=state,
                new_request=self._new_request,
                progress=self._progress,
                label=self._label(),
                report=report,
                wanted=wanted,
                now=int(self._now().timestamp()),
            )
            rounds.converge(mass_delete)

    def _include_all(self, wanted: Wanted) -> None:
        """Record in a new state, which has no exclusions, the paths to include as included."""
        database = self._folder.database
        if wanted.include:
            with state_errors(database), self._open_state(database) as state:
                state.included = wanted.include
                state.commit()

    def _label(self) -> str:
        return conflict_label(self._device, self._now())


def _count(report: Report, before: Counts, after: Counts) -> None:
    report.bytes_up = after.bytes_up - before.bytes_up
    report.bytes_down = after.bytes_down - before.bytes_down
    report.requests = {
        "s3_put": after.s3_put - before.s3_put,
        "s3_get": after.s3_get - before.s3_get,
        "grpc": after.grpc - before.grpc,
    }
    report.waited_seconds = after.waited_seconds - before.waited_seconds
