"""`syncline`: the command line. Scripts depend on its commands, exit codes and JSON.

Exit codes: 0 done, 1 failed, 2 usage, 3 not signed in or no permission, 4 some items could not be synced,
128 and the number of the signal that ended it (130 for Ctrl-C, 143 for SIGTERM; 0 for `sync --watch`, which ends so).
"""

from __future__ import annotations

import io
import os
import sys
from importlib import import_module
from typing import Final, NoReturn

import click

from syncline.cli import signals, terminal
from syncline.model.errors import Kind, SynclineError
from syncline.rpc import traces

FAILED: Final = 1
NOT_ALLOWED: Final = 3
INTERRUPTED: Final = 130
"""Exit status after Ctrl-C."""

NOTHING_CHANGED: Final = "nothing was changed"
MAY_BE_DONE: Final = "it may be done already, so look before you run the same command again"
LEFT_BY: Final = {
    "sync": "what was done so far is kept, run the same command again to continue",
    "get": "nothing is left of it, run the same command again to begin anew",
    "up": "it was not up yet",
    **dict.fromkeys(
        (
            "signup",
            "login",
            "logout",
            "account",
            "password",
            "reset",
            "devices",
            "keys",
            "spaces",
            "share",
            "unshare",
        ),
        MAY_BE_DONE,
    ),
    **dict.fromkeys(
        ("invitations", "notify", "admin"),
        MAY_BE_DONE,
    ),
    **dict.fromkeys(("put", "mkdir", "mv", "rm", "restore", "trash"), MAY_BE_DONE),
}
"""The text about the state that an interrupted command has left, by the name of the command. A command that is missing
here has changed nothing.
"""

DEBUG: Final = "SYNCLINE_DEBUG"
"""Environment variable that shows tracebacks of unexpected errors."""

UNTRACED: Final = frozenset({"up"})
"""The commands that are not traced, because they run for long. The services that `up` starts have traces of their own.
"""

# A family is imported only when one of its commands runs, so that `--help` and completion answer at once.
FAMILIES: Final = {
    "syncline.cli.accounts": ("signup", "login", "logout", "whoami", "account", "devices"),
    "syncline.cli.keys": ("keys",),
    "syncline.cli.passwords": ("password", "reset"),
    "syncline.cli.factors": ("factors",),
    "syncline.cli.spaces": ("spaces", "members", "share", "unshare", "notify", "credentials"),
    "syncline.cli.invitations": ("invitations",),
    "syncline.cli.sync_commands": ("sync", "check", "status"),
    "syncline.cli.files": ("ls", "get", "put", "mkdir", "mv", "rm"),
    "syncline.cli.history": ("log", "restore", "trash"),
    "syncline.cli.administration": ("admin",),
    "syncline.cli.system": ("up", "backup", "restore-backup"),
}
SUMMARIES: Final = {
    "signup": "Make an account and sign this device in.",
    "login": "Sign this device in.",
    "logout": "Sign this device out.",
    "whoami": "Show who is signed in on this device.",
    "account": "Show your account, or prove that its e-mail address is yours.",
    "devices": "List your devices, or revoke one.",
    "keys": "List your keys for programs, make one, or revoke one.",
    "password": "Change your password.",
    "factors": "Show your second factor, add an authenticator app, or remove it.",
    "reset": "Choose a new password by a mail, if you have lost yours.",
    "spaces": "List your spaces, create one, or change one as a whole.",
    "members": "List the members of a space.",
    "share": "Give somebody a role in a space, or invite them.",
    "unshare": "Take somebody's role in a space away.",
    "notify": "Show or choose how you are mailed about a space.",
    "invitations": "List, accept, decline or revoke invitations to spaces.",
    "credentials": "Print temporary S3 credentials of a space.",
    "sync": "Make a folder and its space the same.",
    "check": "Compare a folder with its space, and change nothing.",
    "status": "Show the synced folders of this device.",
    "ls": "List a directory of a space.",
    "get": "Download a file.",
    "put": "Upload a file.",
    "mkdir": "Make a directory in a space.",
    "mv": "Move or rename in a space.",
    "rm": "Put a file or directory of a space into the trash.",
    "log": "List the versions of a file.",
    "restore": "Bring an older version of a file back.",
    "trash": "List what was deleted, or bring it back.",
    "admin": "Administer users and spaces of the system.",
    "up": "Run the whole system on this machine.",
    "backup": "Copy all that a system on this machine keeps into one file.",
    "restore-backup": "Make a system's directory of such a file.",
}


class Interrupted(BaseException):
    """Error that ends the command after a signal, once resources are closed and temporary files removed.

    `status` is the exit status; `left` describes the state, as `LEFT_BY` does.
    """

    def __init__(self, *, status: int | None = None, left: str = NOTHING_CHANGED) -> None:
        super().__init__()
        self.status = signals.status() if status is None else status
        self.left = left


class Commands(click.Group):
    """Group of commands that imports the module of a command only when that command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return [name for names in FAMILIES.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        for module, names in FAMILIES.items():
            if cmd_name in names:
                commands: list[click.Command] = import_module(module).COMMANDS
                return next(command for command in commands if command.name == cmd_name)
        return None

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (Exception, KeyboardInterrupt) as error:
            if not is_interruption(error):
                raise
            left = LEFT_BY.get(ctx.invoked_subcommand or "", NOTHING_CHANGED)
            raise Interrupted(left=left) from None  # raised before click prints a line of its own

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, SUMMARIES[name]) for name in self.list_commands(ctx)])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="syncline", prog_name="syncline", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Keep folders the same on all your devices, and share them.

    \b
    Examples:
      syncline signup --endpoint http://127.0.0.1:8080 --email ann@example.com
      syncline sync ~/Documents
      syncline spaces create Project
      syncline share Project ben@example.com --role editor
      syncline sync ~/Project --space Project

    SYNCLINE_HOME is where this device keeps its state; each home is one device.
    """
    command = ctx.invoked_subcommand
    if command is None or command in UNTRACED:
        return
    if problem := traces.configure_traces("syncline", command=True):
        terminal.complain(problem)
    ctx.with_resource(traces.span(command, root=True))


def is_interruption(error: BaseException) -> bool:
    """Return True if an error is due to a signal that ends the command, whatever its class."""
    return isinstance(error, KeyboardInterrupt) or (
        signals.received() and isinstance(error, Exception) and not isinstance(error, click.exceptions.Exit)
    )


def exit_code(error: SynclineError) -> int:
    """Return the exit status of a command that an error has ended."""
    return NOT_ALLOWED if error.kind in {Kind.UNAUTHENTICATED, Kind.DENIED} else FAILED


def main() -> NoReturn:
    """Run the command line. Every error is one line on stderr and an exit code, never a traceback."""
    _read_names_as_bytes()
    status = _run()
    traces.stop()
    _end(status)


def _read_names_as_bytes() -> None:
    """Restart in Python's UTF-8 mode if the locale has another encoding.

    File names are bytes, which a space interprets as UTF-8. Python would decode them by the locale's encoding wherever
    they occur: on the command line, in a folder, in a variable, in output.
    """
    if sys.getfilesystemencoding() != "utf-8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - the same program
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")


def _run() -> int:
    try:
        status: int = cli.main(standalone_mode=False) or 0
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except Interrupted as ended:
        _leave(ended.status, ended.left)
    except (click.Abort, KeyboardInterrupt):
        _leave(signals.status(), NOTHING_CHANGED)
    except click.ClickException as error:
        terminal.show(error)
        return error.exit_code
    except SynclineError as error:
        terminal.complain(str(error))
        return exit_code(error)
    except BrokenPipeError:
        return FAILED
    except OSError as error:
        terminal.complain(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        return FAILED
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        what = f"{type(error).__name__}: {error}"
        terminal.complain(f"internal error ({what}); please report it, {DEBUG}=1 shows where it comes from")
        return FAILED
    return status


def _leave(status: int, left: str) -> NoReturn:
    """Exit the process at once with this status, without waiting for threads that may still wait for a slow connection;
    a crash at any point loses nothing either. Unless `status` is 0, print that the command was interrupted, and `left`,
    a text about the state that it has left.

    Called while the interruption is being handled, because leaving the `except` clause would wait for these threads.
    """
    if status:
        terminal.complain(f"interrupted; {left}")
    _end(status)


def _end(status: int) -> NoReturn:
    """Exit without the interpreter's finalisation, which would visit every object although nothing is left to do."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:  # the reader of our output has exited, which needs no message
        status = status or FAILED
    os._exit(status)


if __name__ == "__main__":
    main()
