"""Where a stack keeps its data: one directory, for one stack at a time, readable by its owner only.

lock       held while the stack runs
secrets/   what was generated at the first start: the services' secret, auth's signing key, the root
           credentials of the embedded AWS (an AWS shared credentials file, so that any AWS tool can use it)
aws/       state of the embedded AWS
logs/      what each process said; the previous run's beside it
"""

from __future__ import annotations

import base64
import configparser
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stack.emulator import Credentials
from stack.errors import DataDirectoryInUse, StackError
from stack.storage import sync, sync_directory

RESTORING: Final = "restoring"
"""A file that is there while a backup is being restored into the directory."""

_PRIVATE_DIRECTORY: Final = 0o700
_PRIVATE_FILE: Final = 0o600


class DataDirectory:
    """An opened data directory; see `data_directory`."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.lock = lock
        """Descriptor of the lock. A process that inherits it holds the directory too."""
        self.logs = path / "logs"
        self.aws = path / "aws"
        self.signing_key_file = path / "secrets" / "signing-key.pem"
        self.credentials_file = path / "secrets" / "aws-credentials"
        self.credentials_file.parent.mkdir(mode=_PRIVATE_DIRECTORY, exist_ok=True)
        self.aws.mkdir(mode=_PRIVATE_DIRECTORY, exist_ok=True)
        sync_directory(path)
        _generated(self.signing_key_file, _new_signing_key)

    def service_secret(self) -> str:
        """The secret by which the services know each other."""
        return _generated(self.path / "secrets" / "service-secret", lambda: secrets.token_urlsafe(32)).strip()

    def root_credentials(self) -> Credentials:
        """The embedded AWS's root credentials."""
        parser = configparser.RawConfigParser()
        parser.read_string(_generated(self.credentials_file, _new_root_credentials))
        section = parser["default"]
        return Credentials(section["aws_access_key_id"], section["aws_secret_access_key"])


@contextmanager
def data_directory(path: Path) -> Iterator[DataDirectory]:
    """Make `path` if need be, lock it and fill in what is missing; DataDirectoryInUse if it is locked already."""
    check_restored(path)
    try:
        path.mkdir(mode=_PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, _PRIVATE_FILE)
    except OSError as error:
        raise StackError(f"{path} cannot be used as the data directory: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 20).decode().strip() or "unknown"
            raise DataDirectoryInUse(f"{path} is in use by another `syncline up` (process {holder})") from None
        os.truncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        yield DataDirectory(path, lock)
    finally:
        os.close(lock)


def check_restored(path: Path) -> None:
    """StackError if a backup was restored into `path` by half only."""
    if (path / RESTORING).exists():
        raise StackError(f"{path} holds half of a restored backup; empty it and restore that again")


def is_in_use(path: Path) -> bool:
    """Whether a stack runs on the data directory, in which this changes nothing."""
    try:
        lock = os.open(path / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _generated(path: Path, generate: Callable[[], str]) -> str:
    """The text in `path`, which is generated if the file is not there, and never half written."""
    try:
        return path.read_text()
    except FileNotFoundError:
        text = generate()
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        sync(file.fileno())
    draft.replace(path)
    sync_directory(path.parent)
    return text


def _new_signing_key() -> str:
    return (
        Ed25519PrivateKey.generate()
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


def _new_root_credentials() -> str:
    root = new_root()
    return f"[default]\naws_access_key_id = {root.access_key_id}\naws_secret_access_key = {root.secret_access_key}\n"


def new_root() -> Credentials:
    """Root credentials that nobody can guess, in the form that AWS gives them."""
    return Credentials("AKIA" + base64.b32encode(secrets.token_bytes(10)).decode(), secrets.token_urlsafe(30))
