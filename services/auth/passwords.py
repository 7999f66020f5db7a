"""Passwords: argon2id in threads, with bounded memory."""

from __future__ import annotations

import asyncio
import base64
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from types import TracebackType
from typing import Self, TypeVar

import argon2

from runtime.fair_queue import FairQueue
from runtime.pool import Pool, Share
from runtime.thread_priority import lower_priority
from syncline.model.errors import InvalidArgument
from syncline.model.limits import MAX_PASSWORD_CHARACTERS, MIN_PASSWORD_CHARACTERS

T = TypeVar("T")

MEMORY_KIB = 32 * 1024
"""Memory of one hash, in KiB. It must not be less: glibc serves requests below 32 MiB from its heaps once memory of
that size was freed, and keeps it. From 32 MiB on, each hash maps its memory and returns it, so that many sign-ins at
once leave no memory behind.
"""
ARGON2_PASSES = 2

PasswordCheck = Enum("PasswordCheck", "WRONG RIGHT RIGHT_BUT_OUTDATED")
"""The result of comparing a password with a hash. RIGHT_BUT_OUTDATED means that the password is right, and that the
hash was made with other parameters than new hashes.
"""


def check_password(text: str) -> str:
    """Return the text of a new password. Raise InvalidArgument unless it has MIN_PASSWORD_CHARACTERS to
    MAX_PASSWORD_CHARACTERS characters (code points of Unicode).
    """
    if not MIN_PASSWORD_CHARACTERS <= len(text) <= MAX_PASSWORD_CHARACTERS:
        raise InvalidArgument(f"a password has {MIN_PASSWORD_CHARACTERS} to {MAX_PASSWORD_CHARACTERS} characters")
    return text


class Passwords:
    """Hashes and verifies passwords in `workers` threads; each hash takes `memory_kib` KiB for its duration.

    At most `places` requests are in progress or wait at the same time: few, so that the wait is short. They are shared
    among accounts (or links) and networks: one network leaves a fifth of them to others. A request above the limit
    raises TooMuchAtOnce without waiting, with the time after which to try again.

    Requests that wait take turns, by network and within a network by account or link. The threads have a low priority:
    argon2 computes without the interpreter's lock, and would otherwise have as much of the processor as all other
    services of the same cgroup.
    """

    def __init__(
        self, *, workers: int = 2, places: int = 32, memory_kib: int = MEMORY_KIB, passes: int = ARGON2_PASSES
    ) -> None:
        self._hasher = argon2.PasswordHasher(time_cost=passes, memory_cost=memory_kib, parallelism=1)
        self._nobody = _unmatchable_hash(memory_kib, passes)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="password", initializer=lower_priority)
        self._places = Pool("passwords", places)
        self._waiting = FairQueue()
        self._idle = workers
        """Number of threads that no request has been granted."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)

    async def hash(self, password: str, share: Share) -> str:
        """Return the form in which a password is stored: its hash, salt and parameters. Raise TooMuchAtOnce if `share`
        has too many requests in progress, or all together have.
        """
        return await self._in_thread(lambda: self._hasher.hash(_normalized(password)), share)

    async def verify(self, password: str, stored: str | None, share: Share) -> PasswordCheck:
        """Compare a password with `stored`, the stored hash of the right password, and return the result. If `stored`
        is None, because the account does not exist, the comparison takes the same time and the result is WRONG. Raise
        TooMuchAtOnce if `share` has too many requests in progress, or all together have.
        """
        return await self._in_thread(lambda: self._verify(_normalized(password), stored or self._nobody), share)

    def _verify(self, password: str, stored: str) -> PasswordCheck:
        try:
            self._hasher.verify(stored, password)
        except argon2.exceptions.VerifyMismatchError:
            return PasswordCheck.WRONG
        return PasswordCheck.RIGHT_BUT_OUTDATED if self._hasher.check_needs_rehash(stored) else PasswordCheck.RIGHT

    async def _in_thread(self, work: Callable[[], T], share: Share) -> T:
        if not self._places.try_take(1, share):
            raise self._places.refused("too many passwords are being checked, try again in a few seconds")
        turn = self._waiting.add(share.network, share.caller)
        self._grant_idle_threads()
        try:
            await turn
        except asyncio.CancelledError:
            self._places.give(1, share)
            if not turn.cancelled():
                self._thread_is_idle()
            raise

        def ended(_: object) -> None:
            self._places.give(1, share)
            self._thread_is_idle()

        try:
            hashing = asyncio.get_running_loop().run_in_executor(self._threads, work)
        except BaseException:
            ended(None)
            raise
        hashing.add_done_callback(ended)
        # Shielded: a thread continues if its caller is cancelled, and the place and the thread are taken until it ends.
        return await asyncio.shield(hashing)

    def _thread_is_idle(self) -> None:
        self._idle += 1
        self._grant_idle_threads()

    def _grant_idle_threads(self) -> None:
        """Grant idle threads to waiting requests."""
        while self._idle and (following := self._waiting.take()) is not None:
            self._idle -= 1
            following[1].set_result(None)


def _normalized(password: str) -> str:
    # Keyboards differ in how they compose a letter with its accent. Truncation to the maximum length bounds the work.
    return unicodedata.normalize("NFC", password[: MAX_PASSWORD_CHARACTERS + 1])


def _unmatchable_hash(memory_kib: int, passes: int) -> str:
    """Return a well-formed hash with these parameters that no known password matches."""
    salt, digest = (base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (16, 32))
    return f"$argon2id$v=19$m={memory_kib},t={passes},p=1${salt}${digest}"
