"""The data directory of a stack: one directory, for one stack at a time, readable by its owner only.

lock       the lock that a running stack holds
secrets/   secrets generated at the first start: the services' secret, the gateway's, auth's signing key, the root
           credentials of the embedded AWS (an AWS shared credentials file, so that any AWS tool can use it)
aws/       the state of the embedded AWS
logs/      the output of each process, with that of the previous run
"""

from __future__ import annotations

import base64
import configparser
import contextlib
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from stack.embedded_aws import AwsCredentials
from stack.emulator.storage import sync, sync_directory
from stack.errors import DataDirectoryInUse, StackError

RESTORING: Final = "restoring"
"""Name of a file that exists while a backup is being restored into the directory."""

PRIVATE_DIRECTORY: Final = 0o700
PRIVATE_FILE: Final = 0o600
MIN_FREE_BYTES: Final = 1 << 20
"""Number of free bytes on the disk that a system needs even if it only serves reads: for the index of the database's
log, and for its own logs.
"""


_SIGNING_KEY: Final = "signing-key.pem"
_SERVICE_SECRET: Final = "service-secret"  # noqa: S105 - the name of a file
_GATEWAY_SECRET: Final = "gateway-secret"  # noqa: S105 - the name of a file
_CREDENTIALS: Final = "aws-credentials"
SECRETS: Final = (_SIGNING_KEY, _SERVICE_SECRET, _CREDENTIALS)
"""The files in `secrets/` that a system needs to continue with its data; all of them exist after the first start.

The gateway's secret is not among them: it can be replaced, and is generated if it is missing.
"""
_SECRET_BYTES: Final = 64 * 1024
_SECRET_CHARACTERS: Final = 32


class DataDirectory:
    """An opened and locked data directory, with access to its secrets; `data_directory` opens it."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self.lock = lock
        """Descriptor of the lock. A process that inherits it holds the lock, too."""
        self.logs = path / "logs"
        self.aws = path / "aws"
        self.signing_key_file = path / "secrets" / _SIGNING_KEY
        self._service_secret_file = path / "secrets" / _SERVICE_SECRET
        self._gateway_secret_file = path / "secrets" / _GATEWAY_SECRET
        self.credentials_file = path / "secrets" / _CREDENTIALS
        self.credentials_file.parent.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        self.aws.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        sync_directory(path)
        _generate(self.signing_key_file, _new_signing_key)
        for file in (self._service_secret_file, self._gateway_secret_file):
            _generate(file, lambda: secrets.token_urlsafe(_SECRET_CHARACTERS))
        _generate(self.credentials_file, _new_root_credentials)
        check_secrets(path)

    def service_secret(self) -> str:
        """Return the secret by which the services authenticate to each other."""
        return self._service_secret_file.read_text().strip()

    def gateway_secret(self) -> str:
        """Return the secret by which the gateway proves to services for which network it calls. Raise StackError if the
        secret is damaged.
        """
        secret = self._gateway_secret_file.read_text().strip()
        if len(secret) < _SECRET_CHARACTERS:
            raise StackError(f"secrets/{_GATEWAY_SECRET} is damaged; remove it, and the next start makes another one")
        return secret

    def root_credentials(self) -> AwsCredentials:
        """Return the embedded AWS's root credentials."""
        return parsed_credentials(self.credentials_file.read_text())


@contextmanager
def data_directory(path: Path, *, volume: bool = False) -> Iterator[DataDirectory]:
    """Provide the data directory `path`, locked until the end of the context. Create the directory if it does not
    exist, and generate the secrets that are missing.

    The directory has to belong to this user or to root, because any other owner could replace the secrets in it. With
    `volume` it is a volume of containers, whose owner is not checked.

    Raise DataDirectoryInUse if the directory is already locked, and StackError if it cannot be used or its disk is
    full.
    """
    try:
        check_restored(path)
        path.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        found = path.stat()
        if found.st_mode & stat.S_ISVTX or not (volume or found.st_uid in {os.geteuid(), 0}):
            whose = "is shared with" if found.st_mode & stat.S_ISVTX else "belongs to"
            raise StackError(f"{path} {whose} other users of this machine; name a directory of your own")
        if (free := shutil.disk_usage(path).free) < MIN_FREE_BYTES:
            raise StackError(
                f"{path} is on a disk that is full: {free:,} bytes are free, and {MIN_FREE_BYTES:,} are needed to "
                "start, if only for reading; make room there"
            )
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, PRIVATE_FILE)
    except OSError as error:
        raise StackError(f"{path} cannot be used as the data directory: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 20).decode().strip() or "unknown"
            raise DataDirectoryInUse(f"{path} is in use by another `syncline up` (process {holder})") from None
        # root may own the directory, or another user a container volume
        with contextlib.suppress(PermissionError):
            path.chmod(PRIVATE_DIRECTORY)
        os.truncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        yield DataDirectory(path, lock)
    finally:
        os.close(lock)


def check_restored(path: Path) -> None:
    """Raise StackError if a backup is being restored into the data directory `path`, or if such a restore was broken
    off.
    """
    if (path / RESTORING).exists():
        raise StackError(f"{path} holds half of a restored backup; empty it and restore that again")


def check_secrets(path: Path) -> None:
    """Raise StackError if a secret of a data directory is missing or malformed."""
    for name, parse in ((_SIGNING_KEY, _signing_key), (_SERVICE_SECRET, _secret), (_CREDENTIALS, parsed_credentials)):
        try:
            with (path / "secrets" / name).open() as file:
                parse(file.read(_SECRET_BYTES))
        except FileNotFoundError:
            raise StackError(f"secrets/{name} is missing") from None
        except (ValueError, KeyError, configparser.Error):
            raise StackError(f"secrets/{name} is damaged") from None


def is_in_use(path: Path) -> bool:
    """Return True if a stack is using the data directory, without changing anything in it."""
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


def _generate(path: Path, generate: Callable[[], str]) -> None:
    """Write the secret file at `path` atomically, with the text that `generate` returns, if the file does not exist."""
    if path.exists():
        return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    with os.fdopen(descriptor, "w") as file:
        file.write(generate())
        file.flush()
        sync(file.fileno())
    draft.replace(path)
    sync_directory(path.parent)


def _new_signing_key() -> str:
    return (
        Ed25519PrivateKey.generate()
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


def _signing_key(text: str) -> None:
    """Raise ValueError if the text is no PEM key. Only damage is detected here; auth parses the key."""
    try:
        key = serialization.load_pem_private_key(text.encode(), password=None)
    except (TypeError, UnsupportedAlgorithm):
        raise ValueError("no private key") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("another kind of key")  # noqa: TRY004 - it is about the text


def _secret(text: str) -> None:
    if len(text.strip()) < _SECRET_CHARACTERS:
        raise ValueError("too short")


def parsed_credentials(text: str) -> AwsCredentials:
    """Return the credentials in `text`, the text of an AWS shared credentials file. Raise KeyError or
    configparser.Error if the text is malformed.
    """
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    section = parser["default"]
    return AwsCredentials(section["aws_access_key_id"], section["aws_secret_access_key"])


def _new_root_credentials() -> str:
    root = new_root()
    return f"[default]\naws_access_key_id = {root.access_key_id}\naws_secret_access_key = {root.secret_access_key}\n"


def new_root() -> AwsCredentials:
    """Return random root credentials, in AWS's form."""
    return AwsCredentials("AKIA" + base64.b32encode(secrets.token_bytes(10)).decode(), secrets.token_urlsafe(30))
