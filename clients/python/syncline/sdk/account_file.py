"""`account.json`: the account that this device is signed in to, and its tokens.

The file is replaced atomically, so that a crash leaves the old or the new one. A refresh token is invalid after its
use: a process that is about to use it holds `locked()` until the next refresh token is in the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syncline.sdk.discovery import Deployment, deployment_from_json, deployment_to_json
from syncline.sdk.errors import AccountUnreadable, NotSyncline
from syncline.sdk.file_lock import hold_lock
from syncline.sdk.home import check_private
from syncline.sdk.trust import NO_FURTHER, Trust

FILE_VERSION = 1
LOCK_TIMEOUT_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class StoredAccount:
    """A signed-in device. Times are milliseconds since 1970, by the clock of this device."""

    endpoint: str
    deployment: Deployment
    user: str
    email: str
    personal_space: str
    device: str
    device_name: str
    refresh_token: str = field(repr=False)
    access_token: str = field(repr=False)
    access_expires_at_ms: int
    trust: Trust = NO_FURTHER


class AccountFile:
    """Reads, replaces, locks and removes the account file of one home."""

    def __init__(self, home: Path) -> None:
        self.path = home / "account.json"

    def load(self) -> StoredAccount | None:
        """Return the account, or None if the file does not exist, which means that the device is not signed in. Raise
        HomeNotPrivate as `check_private` does. Raise AccountUnreadable, leaving the file as it is, if the file cannot
        be read or is damaged.
        """
        check_private(self.path.parent)
        try:
            text = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise AccountUnreadable(f"{self.path} cannot be read ({error.strerror}); fix that and try again") from None
        try:
            return _account(json.loads(text))
        except (ValueError, KeyError, TypeError, NotSyncline):
            raise AccountUnreadable(
                f"{self.path} is damaged and was left as it is; move it away and sign in again"
            ) from None

    def save(self, account: StoredAccount) -> None:
        """Replace the content of the file by `account`, durably; only the user can read the file. The caller must hold
        `locked()`. Raise HomeNotPrivate as `check_private` does, and OSError if the file cannot be written.
        """
        self._make_home()
        temporary = self.path.with_name("account.json.tmp")
        temporary.unlink(missing_ok=True)  # left by a killed process, or put there by another user
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(json.dumps(_document(account), indent=2).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._sync_directory()

    def remove(self) -> None:
        """Remove the account file if there is one."""
        self.path.unlink(missing_ok=True)
        if self.path.parent.is_dir():
            self._sync_directory()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Context that holds the file's lock against other processes. Raise AccountUnreadable if another process does
        not release the lock within LOCK_TIMEOUT_SECONDS, HomeNotPrivate as `check_private` does, and OSError if the
        directory or the lock file cannot be created.
        """
        self._make_home()
        path = self.path.with_name("account.lock")
        with ExitStack() as held:
            try:
                held.enter_context(hold_lock(path, timeout_seconds=LOCK_TIMEOUT_SECONDS))
            except TimeoutError:
                raise AccountUnreadable(f"another process holds {path}; end it and try again") from None
            yield

    def _make_home(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_private(self.path.parent)

    def _sync_directory(self) -> None:
        directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _document(account: StoredAccount) -> dict[str, Any]:
    return {
        "version": FILE_VERSION,
        "endpoint": account.endpoint,
        "deployment": deployment_to_json(account.deployment),
        "trust": {"http": account.trust.http, "hosts": sorted(account.trust.hosts)},
        "user": account.user,
        "email": account.email,
        "personal_space": account.personal_space,
        "device": account.device,
        "device_name": account.device_name,
        "refresh_token": account.refresh_token,
        "access_token": account.access_token,
        "access_expires_at_ms": account.access_expires_at_ms,
    }


def _account(document: Any) -> StoredAccount:
    if document["version"] != FILE_VERSION:
        raise ValueError(f"version {document['version']} of the file is not known")
    texts = {
        name: document[name]
        for name in (
            "endpoint",
            "user",
            "email",
            "personal_space",
            "device",
            "device_name",
            "refresh_token",
            "access_token",
        )
    }
    if not all(isinstance(text, str) for text in texts.values()):
        raise TypeError("not text")
    return StoredAccount(
        deployment=deployment_from_json(document["deployment"], texts["endpoint"]),
        access_expires_at_ms=int(document["access_expires_at_ms"]),
        trust=_trust(document.get("trust"), texts["endpoint"]),
        **texts,
    )


def _trust(document: Any, endpoint: str) -> Trust:
    if document is None:  # written by a version without this question: a user who typed http:// agreed to it then
        return Trust(http=endpoint.startswith("http:"))
    return Trust(http=document["http"] is True, hosts=frozenset(map(str, document["hosts"])))
