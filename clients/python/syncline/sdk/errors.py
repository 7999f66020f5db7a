"""Errors that only a client raises, about its endpoint and its account; `syncline.model.errors` has those of
services.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from syncline.model.errors import InvalidArgument, Kind, SynclineError

MAX_CANDIDATES: Final = 10
"""Maximum number of candidates that an error about an ambiguous name lists."""


class NotSignedIn(SynclineError):
    """This device is not signed in; run `syncline login`."""

    reason = "NOT_SIGNED_IN"
    kind = Kind.UNAUTHENTICATED


class AlreadySignedIn(SynclineError):
    """This device is signed in already; run `syncline logout` first, or use another SYNCLINE_HOME."""

    reason = "ALREADY_SIGNED_IN"
    kind = Kind.PRECONDITION


class AccountUnreadable(SynclineError):
    """The account file cannot be used; move it away and sign in again."""

    reason = "ACCOUNT_UNREADABLE"
    kind = Kind.PRECONDITION


class HomeNotPrivate(SynclineError):
    """Other users of this machine can change the state of this device; name another directory in SYNCLINE_HOME."""

    reason = "HOME_NOT_PRIVATE"
    kind = Kind.PRECONDITION


class EndpointUnreachable(SynclineError):
    """The endpoint does not answer; check its address and your connection."""

    reason = "ENDPOINT_UNREACHABLE"
    kind = Kind.UNAVAILABLE


class NotSyncline(SynclineError):
    """Something answers at the endpoint, but it is not Syncline; check the address."""

    reason = "NOT_SYNCLINE"
    kind = Kind.INVALID


class NewerSyncline(SynclineError):
    """The endpoint speaks a newer version than this client; update the client."""

    reason = "NEWER_SYNCLINE"
    kind = Kind.PRECONDITION


class AmbiguousSpace(SynclineError):
    """More than one of your spaces has that name; use the id."""

    reason = "AMBIGUOUS_SPACE"
    kind = Kind.INVALID


class UnexpectedAnswer(SynclineError):
    """The service answered in a way that this client does not understand; update the client."""

    reason = "UNEXPECTED_ANSWER"
    kind = Kind.INTERNAL


class ListingTooLarge(SynclineError):
    """The listing takes too much memory; list a part of it."""

    reason = "LISTING_TOO_LARGE"
    kind = Kind.EXHAUSTED


@contextmanager
def understood() -> Iterator[None]:
    """Context whose body reads an answer of the service. An error in the body is converted to UnexpectedAnswer if the
    answer breaks the contract of the protos.
    """
    try:
        yield
    except (ValueError, IndexError, InvalidArgument) as error:
        raise UnexpectedAnswer(
            f"the service answers what this client does not understand ({error}); update the client, or report this "
            "to who runs the service"
        ) from error
