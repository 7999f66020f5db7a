"""Mails that a system has sent, and what people look for in them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from stack.up import Stack

T = TypeVar("T")

DEADLINE_SECONDS: Final = 90.0
"""Maximum time in which a mail has to come, also on a busy machine."""


def eventually(found: Callable[[], T | None]) -> T:
    """Return the value that `found` returns, as soon as the value is true."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (value := found()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)
    return value


def mails(stack: Stack, to: str, *, about: str = "", count: int = 1) -> list[dict[str, Any]]:
    """Return the mails to an address that contain `about`, oldest first, once there are `count`, and no more."""

    def enough() -> list[dict[str, Any]] | None:
        sent = [
            mail
            for mail in stack.aws.mails()
            if mail["To"] == [to] and about in f"{mail['Subject']}\n{mail['BodyText']}"
        ]
        return sent if len(sent) >= count else None

    found = eventually(enough)
    assert len(found) == count
    return found


def token_in(mail: dict[str, Any], page: str) -> str:
    """Return the token in the link to a page of the web app that a mail contains."""
    found = re.search(rf"/{page}#([A-Za-z0-9_-]{{43}})$", mail["BodyText"], re.MULTILINE)
    assert found, mail
    return found[1]


def mailed_token(stack: Stack, to: str, page: str) -> str:
    """Return the token in the last mail to an address with a link to a page of the web app."""

    def last() -> str | None:
        with_link = [mail for mail in stack.aws.mails() if mail["To"] == [to] and f"/{page}#" in mail["BodyText"]]
        return token_in(with_link[-1], page) if with_link else None

    return eventually(last)


def mailed_link(stack: Stack, to: str, page: str) -> str:
    """Return the path of the link in the last mail to an address with a link to a page of the web app."""
    return f"/{page}#{mailed_token(stack, to, page)}"
