"""Locks of a space, shared by all processes: one record holds all of them, and is replaced by compare-and-set.

Two processes therefore never grant conflicting locks, and a request that changes something reads one record to find out
whether a lock prevents the change. Locks bind only WebDAV clients: other clients do not know them, and a change of
theirs is a newer version.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, unquote

from wsgidav.dav_error import DAVErrorCondition, PRECONDITION_CODE_MissingLockToken
from wsgidav.lock_man.lock_manager import LockManager

from gateway.dav.refusals import DavRefused
from gateway.dav.session import DavSession, DavSpace
from gateway.records.ports import MAX_RECORD_BYTES, RecordMoved
from syncline.model.identifiers import DeviceId

RECORD: Final = "locks"
MAX_LOCK_SECONDS: Final = 24 * 3600
"""Maximum lifetime of a lock in seconds without a refresh, whatever the client asked for."""
_DEFAULT_LOCK_SECONDS: Final = 3600
_MAX_ATTEMPTS: Final = 8
_MAX_OWNER_BYTES: Final = 2048

Lock = dict[str, Any]
"""A lock in the form of WsgiDAV, with the keys token, root, type, scope, depth, owner, timeout, expire and principal;
and with `device`, the id of the device that took the lock.
"""


class Locks(LockManager):  # type: ignore[misc]  # WsgiDAV has no types
    """WsgiDAV's lock manager for one request: decides by WsgiDAV's rules which locks are granted and which changes the
    granted locks prevent.
    """

    def __init__(self, session: DavSession, *, home: str) -> None:
        """`home` is the path of the request below the mount point; its first name is that of the space."""
        self._session = session
        self._stored = StoredLocks(session, home)
        super().__init__(self._stored)

    def acquire(self, **wanted: Any) -> Lock:
        """Grant the lock that a client asks for, and return it. `wanted` are the arguments that WsgiDAV passes. The
        decision is made again if the locks of the space have changed since they were read.

        Raise WsgiDAV's DAVError if another lock prevents this one, and DavRefused if the locks change too often.
        """
        for _ in range(_MAX_ATTEMPTS):
            try:
                lock: Lock = super().acquire(**wanted)
            except RecordMoved:
                continue
            return lock
        raise _contended()

    def _get_write_conflicts(
        self, url: str, depth: str, token_list: Sequence[str], principal: str
    ) -> DAVErrorCondition:
        """Return an error condition with the locks that prevent `principal` from writing to `url`, and, if `depth` is
        "infinity", to anything below. `token_list` has the tokens in the request; a lock of `principal` with one of
        these tokens prevents nothing. WsgiDAV's own method refuses all changes of a directory that contains a lock,
        even with the token.
        """
        condition = DAVErrorCondition(PRECONDITION_CODE_MissingLockToken)
        locks = self.get_indirect_url_lock_list(url)
        if depth == "infinity":
            below = self.storage.get_lock_list(url, include_root=False, include_children=True, token_only=False)
            locks = [*locks, *below]
        for lock in locks:
            if lock["principal"] != principal or lock["token"] not in token_list:
                condition.add_href(self._session.mount + lock["root"])
        return condition

    def is_token_locked_by_user(self, token: str, principal: str) -> bool:
        """Return True if `principal` may end the lock: the person who took it, or an owner of the space, so that no
        editor can keep everybody from writing.
        """
        lock = self._stored.get(token)
        return lock is not None and (lock["principal"] == principal or self._stored.is_owned(lock))

    def look_again(self) -> None:
        """Read the locks again at the next access."""
        self._stored.forget()


class StoredLocks:
    """WsgiDAV's storage of locks, on the records of spaces. WsgiDAV knows the root of a lock as a path below the mount
    point; the record has its path within the space.
    """

    def __init__(self, session: DavSession, home: str) -> None:
        self._session = session
        self._home = home
        self._read: dict[str, list[Lock]] = {}
        self._anew = False

    def open(self) -> None: ...

    def close(self) -> None: ...

    def forget(self) -> None:
        """Drop the cached locks of the request's spaces, so that the next access reads the records again."""
        self._read.clear()
        self._anew = True

    def get(self, token: str) -> Lock | None:
        """Return the lock with this token in the spaces of this request; None if there is none."""
        self.get_lock_list(self._home, include_root=True, include_children=False, token_only=True)
        for locks in self._read.values():
            for lock in locks:
                if lock["token"] == token:
                    return lock
        return None

    def is_owned(self, lock: Lock) -> bool:
        """Return True if the caller is an owner of the space that the lock is in."""
        space = self._space(lock["root"])
        return space is not None and space.owned

    def get_lock_list(self, path: str, *, include_root: bool, include_children: bool, token_only: bool) -> list[Any]:
        space = self._space(path)
        if space is None:
            return []
        root = path.rstrip("/")
        below = f"{root}/"
        return [
            lock["token"] if token_only else lock
            for lock in self._locks(space)
            if (include_root and lock["root"] == root) or (include_children and lock["root"].startswith(below))
        ]

    def create(self, path: str, lock: Lock) -> Lock:
        """Store a new lock and return it. Raise DavRefused in these cases:

        - the path is in no space;
        - the owner's text is too long;
        - the caller's locks in the space would leave too little memory for others.

        Raise RecordMoved if the locks of the space have changed since they were read.
        """
        space = self._space(path)
        if space is None:
            raise DavRefused(HTTPStatus.FORBIDDEN, "only what is in a space can be locked")
        if len(lock["owner"]) > _MAX_OWNER_BYTES:
            raise DavRefused(HTTPStatus.BAD_REQUEST, f"the owner of a lock has at most {_MAX_OWNER_BYTES} bytes")
        lock["root"] = path.rstrip("/")
        lock["device"] = self._session.person.device
        lock["token"] = f"urn:uuid:{_uuid()}"
        lock["timeout"] = _seconds(lock["timeout"])
        lock["expire"] = time.time() + lock["timeout"]
        locks = [*self._locks(space), lock]
        stored = _stored(locks)
        record = _record(stored)
        own = _record([text for one, text in zip(locks, stored, strict=True) if one["principal"] == lock["principal"]])
        if len(own) > MAX_RECORD_BYTES - len(record):
            text = (
                "you have as many locks in this space as you leave free for others; unlock some, or wait for their end"
            )
            raise DavRefused(HTTPStatus.INSUFFICIENT_STORAGE, text)
        self._write(space, record, locks)
        return lock

    def refresh(self, token: str, *, timeout: float) -> Lock:
        for space, locks in self._again(token):
            lock = next(lock for lock in locks if lock["token"] == token)
            lock["timeout"] = _seconds(timeout)
            lock["expire"] = time.time() + lock["timeout"]
            try:
                self._save(space, locks)
            except RecordMoved:
                continue
            return lock
        raise DavRefused(
            HTTPStatus.PRECONDITION_FAILED,
            "the lock does not exist any more; lock the resource again",
            condition="{DAV:}lock-token-matches-request-uri",
        )

    def delete(self, token: str) -> bool:
        for space, locks in self._again(token):
            try:
                self._save(space, [lock for lock in locks if lock["token"] != token])
            except RecordMoved:
                continue
            return True
        return False

    def _again(self, token: str) -> Iterator[tuple[DavSpace, list[Lock]]]:
        """Yield the space of the lock with this token, and all locks of the space, so that the caller can change them.
        The pair is yielded once more after each write that failed because of a concurrent change. Raise DavRefused
        after too many of these changes.
        """
        lock = self.get(token)
        space = self._space(lock["root"]) if lock is not None else None
        for _ in range(_MAX_ATTEMPTS):
            if space is None:
                return
            locks = self._locks(space)
            if all(lock["token"] != token for lock in locks):
                return
            yield space, locks
        raise _contended()

    def _space(self, path: str) -> DavSpace | None:
        """Return the space of an address; None if the caller has no space of that name."""
        name = unquote(path.strip("/").partition("/")[0])
        return self._session.person.spaces.get(name)

    def _locks(self, space: DavSpace) -> list[Lock]:
        if space.name not in self._read:
            record = self._session.record(space, RECORD, anew=self._anew)
            self._anew = False
            now = time.time()
            stored = [lock for lock in json.loads(record.data or b"[]") if lock["expire"] > now]
            # locks of the preceding release name no device, and last for a day at most
            holders = {DeviceId(lock["device"]) for lock in stored if "device" in lock}
            if holders - {self._session.person.device}:
                # A lock ends with the right of its holder, so that nobody waits for a member who has left or for a
                # revoked key.
                writers = self._session.writers(space, holders)
                stored = [lock for lock in stored if lock.get("device") in {None, *writers}]
            self._read[space.name] = [
                {**lock, "root": f"/{quote(space.name)}{lock['root']}", "owner": lock["owner"].encode()}
                for lock in stored
            ]
        return self._read[space.name]

    def _save(self, space: DavSpace, locks: list[Lock]) -> None:
        self._write(space, _record(_stored(locks)), locks)

    def _write(self, space: DavSpace, record: bytes, locks: list[Lock]) -> None:
        self._read.pop(space.name, None)
        expires_at = max((lock["expire"] for lock in locks), default=None)
        self._session.write(space, RECORD, record, expires_at=expires_at)


def _stored(locks: Sequence[Lock]) -> list[bytes]:
    """Return the text of each lock, in order: JSON in which the root of the lock is a path in its space."""
    return [
        json.dumps({**one, "root": _below_space(one["root"]), "owner": one["owner"].decode()}).encode() for one in locks
    ]


def _record(stored: Sequence[bytes]) -> bytes:
    """Return the bytes of the record of the locks of one space: a JSON list of `stored`, or no bytes if there are no
    locks.
    """
    return b"[" + b", ".join(stored) + b"]" if stored else b""


def _below_space(root: str) -> str:
    """Return the path of a lock's root in its space; empty for the space itself."""
    _, slash, path = root.removeprefix("/").partition("/")
    return slash + path


def _seconds(asked: float | None) -> float:
    if asked is None:
        return _DEFAULT_LOCK_SECONDS
    return MAX_LOCK_SECONDS if asked < 0 else min(asked, MAX_LOCK_SECONDS)


def _uuid() -> str:
    text = secrets.token_hex(16)
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _contended() -> DavRefused:
    return DavRefused(
        HTTPStatus.SERVICE_UNAVAILABLE, "too many requests change the locks of this space at once; try again"
    )
