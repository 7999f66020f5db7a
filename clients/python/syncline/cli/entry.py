"""The entry point of `syncline`. Signal handlers are installed before any slow import."""

from __future__ import annotations

import gc
import os

from syncline.cli import signals


def main() -> None:
    """Run the command line, and exit the process."""
    signals.install_handlers()
    # A command makes many objects and few cycles, and is short-lived: frequent collections take a tenth of its time.
    gc.set_threshold(100_000, 20, 100)
    try:
        from syncline.cli.main import main as run  # noqa: PLC0415 - see above

        run()
    except BaseException:
        # An import that is interrupted by a KeyboardInterrupt may raise any error, also from foreign code.
        if not signals.received():
            raise
        os.write(2, b"syncline: interrupted; nothing was changed\n")
        os._exit(signals.status())
