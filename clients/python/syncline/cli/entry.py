"""The entry point of `syncline`. Signals that end a command are handled before anything is imported that takes its
time.
"""

from __future__ import annotations

import os

from syncline.cli import signals


def main() -> None:
    """Run the command line. Ends the process."""
    signals.install_handlers()
    try:
        from syncline.cli.main import main as run  # noqa: PLC0415 - see above

        run()
    except BaseException:
        # An import that a KeyboardInterrupt breaks off may raise anything, also out of foreign code.
        if not signals.received():
            raise
        os.write(2, b"syncline: interrupted; nothing was changed\n")
        os._exit(signals.status())
