"""The state that an earlier version of Syncline saved, which this version takes over once."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Final

from runtime.logs import structlog
from stack.emulator.storage import Storage
from stack.emulator.writethrough import TAKEN_OVER

log = structlog.get_logger()

_COMPLETE: Final = ("CREATE_COMPLETE", "UPDATE_COMPLETE")


def earlier_state(storage: Storage) -> Path | None:
    """Return the directory in which an earlier version of Syncline saved the emulator's state; None if there is none,
    or if `storage` has taken it over already.

    The emulator itself reads this directory, when its modules are imported. The earlier version saved only at a clean
    stop: if it was killed before the first stop, or while saving, it left parts that do not fit together. This function
    moves such parts aside.

    The storage records whether the state was taken over, completely or not at all: a process that dies between creating
    the storage and filling it leaves the storage empty. Raise StorageDamaged if the database cannot be read.
    """
    state, objects = storage.directory / "state", storage.directory / "s3"
    if storage.has_rows(TAKEN_OVER):
        if state.is_dir():
            shutil.rmtree(state)
        return None
    if storage.has_rows():
        if state.is_dir():  # `s3` stays: these rows may refer to bytes in it
            aside = _put_aside(storage.directory, state)
            text = (
                "an earlier version of Syncline saved its state here, but the system in this directory does not come "
                f"from it; that state is put aside in {aside}"
            )
            log.info(text)  # a whole sentence, for whoever reads the terminal of `syncline up`
        return None
    # Without a state, `s3` may be this version's: it creates directories there, and no files.
    if not state.is_dir() and not any(path.is_file() for path in objects.rglob("*")):
        return None
    if not _is_whole(state):
        aside = _put_aside(storage.directory, state, objects)
        text = (
            "an earlier version of Syncline was killed before it had saved its tables; "
            f"what it left is put aside in {aside}, and everything begins anew"
        )
        log.info(text)
        return None
    os.environ |= {"PERSIST_STATE": "1", "STATE_DIR": str(state), "S3_PERSIST": "1", "S3_DATA_DIR": str(objects)}
    return state


def _put_aside(directory: Path, *left: Path) -> Path:
    """Move directories into a new directory that nothing reads; return that directory."""
    aside = directory / "incomplete"
    aside.mkdir(mode=0o700, exist_ok=True)
    for path in left:
        if path.is_dir():
            path.rename(aside / f"{path.name}-{time.time_ns()}")
    return aside


def _is_whole(state: Path) -> bool:
    """Return True if the complete state of a deployed system was saved."""
    try:
        deployment = (state / "cloudformation.json").read_text()
        saved = [json.loads((state / f"{name}.json").read_text()) for name in ("dynamodb", "iam", "s3", "sns", "sqs")]
    except (OSError, ValueError):
        return False
    return all(saved) and any(f'"StackStatus": "{status}"' in deployment for status in _COMPLETE)
