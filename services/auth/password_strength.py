"""Strength of new passwords: one that is easily guessed is refused, with the reason.

The library zxcvbn estimates how many guesses a person needs who knows common passwords, words, names, dates, patterns
of the keyboard, and the e-mail address of the account. Passwords that are stored already are not measured.
"""

from __future__ import annotations

import asyncio
import math
import re
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Final, Self

from zxcvbn import zxcvbn
from zxcvbn.matching import L33T_TABLE

from runtime.pool import Pool, Share
from services.auth import common_words
from syncline.model.errors import WeakPassword
from syncline.model.limits import MAX_PASSWORD_CHARACTERS

MIN_GUESSES: Final = 100_000_000
"""Minimum number of guesses that a new password withstands, as zxcvbn estimates it."""
MAX_MEASURED_CHARACTERS: Final = 32
"""Number of characters at the beginning of a password that are measured: the time grows faster than with their square.
A password whose beginning is strong enough is strong enough.
"""
MAX_READINGS: Final = 16
"""Maximum number of ways in which the measured characters may be read, where signs stand for letters, such as `4` and
`@` for `a`. Each of them is measured, so that fewer characters are measured where there would be more.
"""
PLACES: Final = 32
"""Maximum number of passwords that are measured or wait for it. They are shared as in every pool."""
common_words.condense()
_BETTER: Final = "Use four words that do not belong together."


class PasswordStrength:
    """Measures new passwords, one after the other in a thread of its own. The thread has the usual priority: it holds
    the interpreter's lock, and would delay the whole process if it were interrupted for long.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="password-strength")
        self._places = Pool("password_strength", PLACES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._thread.shutdown(cancel_futures=True)

    async def check(self, password: str, *, email: str, share: Share) -> None:
        """Return if a new password of the account with this address is strong enough. Raise WeakPassword if it is
        easily guessed, with the reason and advice, and TooMuchAtOnce if `share` has too many passwords being measured,
        or all together have.
        """
        if not self._places.try_take(1, share):
            raise self._places.refused("too many passwords are being checked, try again in a few seconds")
        measuring = asyncio.get_running_loop().run_in_executor(self._thread, weakness, password, email)
        measuring.add_done_callback(lambda _: self._places.give(1, share))
        # Shielded: the thread continues if its caller is cancelled, and the place is taken until it ends.
        found = await asyncio.shield(measuring)
        if found:
            raise WeakPassword(f"this password is easily guessed. {found}")


def weakness(password: str, email: str) -> str:
    """Return why a password is easily guessed by somebody who knows the e-mail address of its account, and how to
    choose a better one, in sentences; return an empty text if it is strong enough.
    """
    found = zxcvbn(_measured(password), user_inputs=_known(email), max_length=MAX_MEASURED_CHARACTERS)
    if found["guesses"] >= MIN_GUESSES:
        return ""
    feedback = found["feedback"]
    told = [feedback["warning"], *(feedback["suggestions"] or [_BETTER])]
    return " ".join(text if text.endswith((".", "?", "!")) else f"{text}." for text in told if text)


def _measured(password: str) -> str:
    """Return the beginning of a password that is measured."""
    text = unicodedata.normalize("NFC", password[: MAX_PASSWORD_CHARACTERS + 1])[:MAX_MEASURED_CHARACTERS]
    signs: dict[str, set[str]] = {}
    for length, character in enumerate(text.lower()):
        for letter, meanings in L33T_TABLE.items():
            if character in meanings:
                signs.setdefault(letter, set()).add(character)
        if math.prod(map(len, signs.values())) > MAX_READINGS:
            return text[:length]
    return text


def _known(email: str) -> list[str]:
    """Return the words that a guesser tries first, who knows the e-mail address: the address, its parts, and both
    without signs; and the name of the service.
    """
    local, _, domain = email.partition("@")
    parts = [email, local, domain, *re.split(r"\W+|_", email)]
    return [*dict.fromkeys(word for part in parts for word in (part, re.sub(r"\W|_", "", part)) if word), "syncline"]
