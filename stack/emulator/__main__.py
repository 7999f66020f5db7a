"""The process that emulates AWS: `python -m stack.emulator DESCRIPTOR`, serving on an inherited listening socket.

It is ministack, which enforces signatures, roles, session and resource policies, with additions without which our
guarantees would not hold here as they do on AWS:

- Every acknowledged change is on disk (`durability`, `storage`, `writethrough`). A change for which the disk has no
  room is refused.
- S3 supports the condition keys in the bucket's policy, which forbid to overwrite objects, to upload them in parts, and
  to store them in a form that other roles cannot read; and the condition key by which metadata's role may remove an
  object only if it has the given etag.
- S3 answers a request for a missing object with 403 if the role may not list the bucket, as S3 on AWS does. Devices and
  the gateway may not list it.
- All request bodies together have a memory limit. A large body without a valid signature is refused before it is read.
- Connections are counted, the headers of a request have to arrive within a time limit, and input is read in turns, as
  by the gateway.
- Only the configured root credentials are root, and their signature is checked like any other. (Without this addition,
  the access key ids `test` and every number of twelve digits are root with any secret.)
- The emulator's own HTTP interface answers only requests that read, and only those of programs: a page in a browser
  could otherwise reset the emulator by one request to this port. Mails and messages are returned only to the root
  credentials (basic authentication), because other users of this machine can connect to the port, too.
"""

from __future__ import annotations

import functools
import gc
import importlib
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any, Final

from runtime.imports import uncollected

with uncollected():
    import uvicorn

    from runtime import logs, process
    from runtime.logs import structlog
    from stack.emulator.bodies import bounded
    from stack.emulator.durability import durable
    from stack.emulator.earlier import earlier_state
    from stack.emulator.enforcement import enforce_as_aws
    from stack.emulator.interface import guard_interface
    from stack.emulator.partitions import answer_queries_in_order
    from stack.emulator.reception import MAX_CONNECTIONS, AwsReception
    from stack.emulator.storage import DAMAGED, STORAGE, Storage, StorageDamaged, StorageFailed
    from stack.emulator.writethrough import WriteThrough

log = structlog.get_logger()

_KEEP_ALIVE_SECONDS: Final = 75
_STOP_SECONDS: Final = 2


def main() -> int:
    """Serve until SIGTERM; return the exit status, which is not 0 if the storage is damaged or failed."""
    directory = os.environ.get(STORAGE)
    os.umask(0o077)  # the emulator creates files and directories itself
    _configure_logs()
    try:
        storage = Storage(Path(directory)) if directory else None
        earlier = earlier_state(storage) if storage else None
        # The emulator is untyped, and parts of it are replaced, so its modules are Any.
        with uncollected():
            emulator: Any = importlib.import_module("ministack.app")
        _configure_logs()  # again, because importing ministack replaces the configuration
        answer_queries_in_order()
        enforce_as_aws(emulator, root_key_id=os.environ["AWS_ACCESS_KEY_ID"])
        app = guard_interface(emulator.app, os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
        if storage is not None:
            _read_back(storage, emulator, earlier)
            app = durable(app, storage)
        app = bounded(app)
    except (StorageDamaged, StorageFailed) as error:
        _complain(str(error))
        return DAMAGED if isinstance(error, StorageDamaged) else 1
    process.open_many()
    reception = AwsReception(process.most_connections(MAX_CONNECTIONS))
    config = uvicorn.Config(
        app,
        http=reception.protocol,  # type: ignore[arg-type]  # uvicorn calls it, whatever it is
        ws="none",
        lifespan="on",
        log_config=None,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_STOP_SECONDS,  # a pending long poll must not delay the shutdown
    )
    server = uvicorn.Server(config)
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises the signals again after its shutdown
        signal.signal(number, functools.partial(_end, storage))
    if storage is not None:
        storage.on_failure = functools.partial(setattr, server, "should_exit", True)
    server.run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
    return _closed(storage)


def _configure_logs() -> None:
    """Configure the logs of this process in the services' format."""
    logs.configure_logs(fmt=logs.configured_format(), service="aws")
    logs.take_uncaught()


def _say(text: str) -> None:
    """Log a complete sentence, because users of `syncline up` read it in the terminal."""
    log.info(text)


def _complain(text: str) -> None:
    """Log as an error a fault that prevents the process from storing anything, for readers who filter by level."""
    log.error(text)


def _closed(storage: Storage | None) -> int:
    try:
        if storage is not None:
            storage.close()
    except StorageFailed as error:
        _complain(f"{error}; nothing that was acknowledged is lost")
        return 1
    return 0


def _end(storage: Storage | None, _number: int, _frame: FrameType | None) -> None:
    sys.exit(_closed(storage))


def _read_back(storage: Storage, emulator: Any, earlier: Path | None) -> None:
    """Fill the emulator from the storage; or, if an earlier version of Syncline has left its state, fill emulator and
    storage from that state. Raise StorageDamaged if stored data are damaged, and StorageFailed if the disk does not
    accept a change.
    """
    began = time.monotonic()
    emulation = WriteThrough(storage)
    if earlier is not None:
        emulator._load_persisted_state()
        emulator.PERSIST_STATE = False
        emulation.take_over()
        storage.commit()
        shutil.rmtree(earlier)
        _say("took over the state that an earlier version of Syncline saved")
        return
    gc.disable()  # the collector would repeatedly visit everything that is read, and find no garbage
    found = emulation.read_back()
    gc.freeze()
    gc.enable()
    if found.rows:
        carried = storage.log_bytes
        others = found.rows - found.items - found.objects
        _say(
            f"read back {found.items:,} items, {found.objects:,} objects and {others:,} other records "
            f"in {time.monotonic() - began:.1f} s"
            + (
                f"; it had not been stopped cleanly, and {carried:,} bytes of its log were carried over"
                if carried
                else ""
            )
        )
    if found.unfinished:
        _say(f"removed {found.unfinished:,} objects that were being uploaded")


if __name__ == "__main__":
    raise SystemExit(main())
