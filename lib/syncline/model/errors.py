"""Errors that carry their wire identity.

`reason` is the stable name that travels in google.rpc.ErrorInfo; callers branch on it, never on text.
`kind` says what sort of failure it is; `syncline.rpc.errors` has the one table that maps a kind to a gRPC
status and an HTTP status.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import ClassVar, Final


class Kind(Enum):
    """The class of a failure, which decides what the caller can do about it."""

    INVALID = "the request is wrong and must be changed"
    UNAUTHENTICATED = "who is asking is not known; sign in again"
    DENIED = "who is asking may not do this"
    NOT_FOUND = "there is no such thing, or not for this caller"
    ALREADY_EXISTS = "the thing to be made is there already"
    CONFLICT = "the state moved on; look again and decide anew"
    PRECONDITION = "the system's state must be changed first"
    EXHAUSTED = "a limit is reached; wait or free something"
    UNAVAILABLE = "a passing fault; the same call may be repeated"
    DEADLINE = "it took longer than the service allows a call"
    INTERNAL = "a defect on our side"


RETRY_AFTER: Final = "retry_after_seconds"
"""Key in the details of an error; its value is the number of seconds to wait before the same call is repeated."""


_LEAST_PAUSES: Final = (0.02, 0.04, 0.08, 0.16, 0.25)
"""Minimum pauses before repeated attempts, in seconds, by the number of the attempt; the last value is used for all
further attempts.
"""
_SPREAD: Final = 0.2


def jittered_pause_seconds(told: float, number: int) -> float:
    """Return the seconds to wait before a call that a limit refused is repeated for the `number`th time (from 1).

    `told` is the number of seconds that the service has asked for. It names the same moment to all refused callers, and
    at that moment it admits only one of them. A random delay is therefore added, so that the callers do not all return
    at once. The pause also has a minimum, which grows with `number`.
    """
    least = _LEAST_PAUSES[min(number, len(_LEAST_PAUSES)) - 1]
    return max(told, least) * (1 + _SPREAD * random.random())  # noqa: S311 - spreads load, no secret


class SynclineError(Exception):
    """Base of all errors that a caller can receive.

    The text is for people: what happened and what to do. `details` are short machine-readable strings in
    ErrorInfo.metadata; they must never contain a secret.
    """

    reason: ClassVar[str] = "INTERNAL"
    kind: ClassVar[Kind] = Kind.INTERNAL

    pause_seconds: ClassVar[float | None] = None
    """The seconds to wait before the same call is repeated, for errors of this class that ask for a pause; otherwise
    None.
    """

    is_of_repetition: bool = False
    """True if the call was repeated automatically after an attempt whose answer is unknown, and a later attempt got
    this error. Even if the error is a refusal, the earlier attempt may have taken effect.
    """

    def __init__(self, message: str = "", **details: str) -> None:
        super().__init__(message or (type(self).__doc__ or self.reason).split("\n", 1)[0])
        self.details: Mapping[str, str] = details

    @property
    def retry_after_seconds(self) -> float | None:
        """The seconds to wait before the same call is repeated; None if waiting alone does not help.

        A detail that is no finite number of seconds is ignored, because a hostile service could send a value with which
        waits never add up to a bound.
        """
        try:
            told = float(self.details[RETRY_AFTER])
        except (KeyError, ValueError):
            return self.pause_seconds
        return told if math.isfinite(told) and told >= 0 else self.pause_seconds

    @property
    def slow_down_seconds(self) -> float | None:
        """The seconds to wait that a rate or resource limit of the service asks for; None if the error has another
        reason, or if waiting does not help.
        """
        return self.retry_after_seconds if self.kind is Kind.EXHAUSTED else None

    @property
    def passing(self) -> bool:
        """True if the same call may succeed later, after a transient fault or the pause that a limit asks for.

        Such a call may have been carried out nevertheless.
        """
        return self.kind is Kind.UNAVAILABLE or self.slow_down_seconds is not None


class InvalidArgument(SynclineError):
    """A field of the request is missing or malformed; correct it."""

    reason = "INVALID_ARGUMENT"
    kind = Kind.INVALID


class InvalidCursor(SynclineError):
    """The cursor was not issued for this space; start again without one."""

    reason = "INVALID_CURSOR"
    kind = Kind.INVALID


class InvalidPageToken(SynclineError):
    """The page token was not issued for this listing; start again without one."""

    reason = "INVALID_PAGE_TOKEN"
    kind = Kind.INVALID


class RequestTooLarge(SynclineError):
    """The request is larger than one journal entry or one message; split it."""

    reason = "REQUEST_TOO_LARGE"
    kind = Kind.INVALID


class RequestIdReused(SynclineError):
    """The request id was used for a different request, or longer ago than answers are kept; use a new one."""

    reason = "REQUEST_ID_REUSED"
    kind = Kind.INVALID


class Unauthenticated(SynclineError):
    """Nobody is signed in here: a token is needed; sign in."""

    reason = "UNAUTHENTICATED"
    kind = Kind.UNAUTHENTICATED


class TokenExpired(Unauthenticated):
    """The token has expired; get another one."""

    reason = "TOKEN_EXPIRED"


class TokenMalformed(Unauthenticated):
    """The text that was sent is not a token; send a token as it was issued."""

    reason = "TOKEN_MALFORMED"


class TokenInvalid(Unauthenticated):
    """The token was not issued here, or is not valid any more; sign in again."""

    reason = "TOKEN_INVALID"


class WrongPassword(SynclineError):
    """The e-mail address or the password is wrong; correct it and try again."""

    reason = "WRONG_PASSWORD"
    kind = Kind.UNAUTHENTICATED


class WrongCurrentPassword(SynclineError):
    """The current password is wrong, so nothing was changed; correct it and try again."""

    reason = "WRONG_CURRENT_PASSWORD"
    kind = Kind.DENIED


class SecondFactorNeeded(SynclineError):
    """The password is right, and this account has a second factor; state its code, or a recovery code."""

    reason = "SECOND_FACTOR_NEEDED"
    kind = Kind.UNAUTHENTICATED


class WrongCode(SynclineError):
    """This code is wrong, was used before, or is too old; state the code that the app shows now, or a recovery code."""

    reason = "WRONG_CODE"
    kind = Kind.DENIED


class FactorExists(SynclineError):
    """The account has a second factor; remove it before you add another one."""

    reason = "FACTOR_EXISTS"
    kind = Kind.ALREADY_EXISTS


class NoSuchFactor(SynclineError):
    """The account has no second factor; add one if you want that sign-ins need a code."""

    reason = "NO_SUCH_FACTOR"
    kind = Kind.NOT_FOUND


class WeakPassword(SynclineError):
    """This password is easily guessed; choose another one, such as four words that do not belong together."""

    reason = "WEAK_PASSWORD"
    kind = Kind.INVALID


class ResetInvalid(SynclineError):
    """This reset was used, has expired, or the password was changed since; have another one sent to the address."""

    reason = "RESET_INVALID"
    kind = Kind.INVALID


class LinkPasswordNeeded(SynclineError):
    """This link has a password; ask the person who gave you the link for it."""

    reason = "LINK_PASSWORD_NEEDED"
    kind = Kind.UNAUTHENTICATED


class RefreshTokenReused(SynclineError):
    """An already used refresh token was presented, so this device was signed out; sign in again."""

    reason = "REFRESH_TOKEN_REUSED"
    kind = Kind.UNAUTHENTICATED


class DeviceRevoked(SynclineError):
    """This device was revoked; sign in again."""

    reason = "DEVICE_REVOKED"
    kind = Kind.UNAUTHENTICATED


class AccountSuspended(SynclineError):
    """This account is suspended; ask an administrator of this system to resume it."""

    reason = "ACCOUNT_SUSPENDED"
    kind = Kind.UNAUTHENTICATED


class PermissionDenied(SynclineError):
    """Your role in this space does not allow that; ask an owner for another role."""

    reason = "PERMISSION_DENIED"
    kind = Kind.DENIED


class SignUpClosed(SynclineError):
    """Nobody can make an account here without being invited; ask whoever runs this system to let you in."""

    reason = "SIGN_UP_CLOSED"
    kind = Kind.DENIED


class AddressUnproven(SynclineError):
    """Your e-mail address is not proven yet; use the link in the mail that was sent to it, or have it sent again."""

    reason = "ADDRESS_UNPROVEN"
    kind = Kind.DENIED


class ProofInvalid(SynclineError):
    """This proof was used, has expired, or belongs to another account; have another one sent to the address."""

    reason = "PROOF_INVALID"
    kind = Kind.INVALID


class InvitationInvalid(SynclineError):
    """This invitation was used, has expired, or is for another address; ask for another one."""

    reason = "INVITATION_INVALID"
    kind = Kind.INVALID


class GuestRefused(SynclineError):
    """Guests are members of the spaces of others, and make no spaces, links or keys; ask whoever runs this system."""

    reason = "GUEST"
    kind = Kind.DENIED


class RightChanged(SynclineError):
    """Your right to change this space has changed since you made these changes; reload the space and try again."""

    reason = "RIGHT_CHANGED"
    kind = Kind.CONFLICT


class NoSuchSpace(SynclineError):
    """There is no such space, or you are not a member of it; list your spaces."""

    reason = "NO_SUCH_SPACE"
    kind = Kind.NOT_FOUND


class SpaceDeleted(NoSuchSpace):
    """This space was deleted; an owner of it can undelete it for a while, with everything in it."""

    reason = "SPACE_DELETED"

    @classmethod
    def since(cls, space: str, *, at_ms: int, until_ms: int) -> SpaceDeleted:
        """Return the error for a call of a member about the space with the id `space`. The space was deleted at
        `at_ms`, and can be undeleted until `until_ms`, both in milliseconds since 1970.
        """
        return cls(
            f"this space was deleted on {_day(at_ms)}; until {_day(until_ms)} an owner of it can undelete it, with "
            "everything that was in it",
            space_id=space,
            deleted_at_ms=str(at_ms),
            restorable_until_ms=str(until_ms),
        )


def _day(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d")


class NoSuchAccount(SynclineError):
    """There is no account with that e-mail address; check the address."""

    reason = "NO_SUCH_ACCOUNT"
    kind = Kind.NOT_FOUND


class NoSuchDevice(SynclineError):
    """There is no such device in your account; list your devices."""

    reason = "NO_SUCH_DEVICE"
    kind = Kind.NOT_FOUND


class NoSuchNode(SynclineError):
    """There is no such file or directory; check the path or id."""

    reason = "NO_SUCH_NODE"
    kind = Kind.NOT_FOUND


class NoSuchVersion(SynclineError):
    """The file has no such version; list its versions."""

    reason = "NO_SUCH_VERSION"
    kind = Kind.NOT_FOUND


class NoSuchLink(SynclineError):
    """There is no such link, or it is not valid any more; ask the person who gave it to you for another one."""

    reason = "NO_SUCH_LINK"
    kind = Kind.NOT_FOUND


class NoSuchInvitation(SynclineError):
    """There is no such invitation: it was taken up, declined or revoked, or has expired; ask for another one."""

    reason = "NO_SUCH_INVITATION"
    kind = Kind.NOT_FOUND


class NoSuchRequest(SynclineError):
    """No answer to that request is kept: nothing of it was accepted, or it is too long ago; look at the space."""

    reason = "NO_SUCH_REQUEST"
    kind = Kind.NOT_FOUND


class AccountExists(SynclineError):
    """There is an account with that e-mail address already; sign in instead."""

    reason = "ACCOUNT_EXISTS"
    kind = Kind.ALREADY_EXISTS


class AddressTaken(SynclineError):
    """This e-mail address was proven for another account; sign in with that account instead."""

    reason = "ADDRESS_TAKEN"
    kind = Kind.ALREADY_EXISTS


class LastOwner(SynclineError):
    """A space needs at least one owner; make somebody else owner first, transfer the space, or delete it."""

    reason = "LAST_OWNER"
    kind = Kind.PRECONDITION


class LastAdministrator(SynclineError):
    """A system needs at least one administrator who is not suspended; make somebody else an administrator first."""

    reason = "LAST_ADMINISTRATOR"
    kind = Kind.PRECONDITION


class UserNotReady(SynclineError):
    """Only a user who is proven, no guest and not suspended becomes that; prove the address, or resume the user."""

    reason = "USER_NOT_READY"
    kind = Kind.PRECONDITION


class TooManyAttempts(SynclineError):
    """Too many attempts with a password; wait a while and try again."""

    reason = "TOO_MANY_ATTEMPTS"
    kind = Kind.EXHAUSTED


class RateExceeded(SynclineError):
    """You make these requests faster than one person may; slow down."""

    reason = "RATE_EXCEEDED"
    kind = Kind.EXHAUSTED


class LimitReached(SynclineError):
    """You have the maximum number of these; remove some first."""

    reason = "LIMIT_REACHED"
    kind = Kind.EXHAUSTED


class QuotaExceeded(SynclineError):
    """The space is full; remove files from it, or ask the operator for a larger quota."""

    reason = "QUOTA_EXCEEDED"
    kind = Kind.EXHAUSTED


class LinkExhausted(SynclineError):
    """This link allows no more downloads; ask the person who gave you the link for another one."""

    reason = "LINK_EXHAUSTED"
    kind = Kind.EXHAUSTED


class Contended(SynclineError):
    """Too many clients write to this space at once; repeat the same request."""

    reason = "CONTENDED"
    kind = Kind.UNAVAILABLE
    pause_seconds = 0.2


class Draining(SynclineError):
    """This server is about to stop; open the stream again, and continue where it ended."""

    reason = "DRAINING"
    kind = Kind.UNAVAILABLE


class DeadlineExceeded(SynclineError):
    """The call took longer than the service allows; ask for less at once, or repeat it."""

    reason = "DEADLINE_EXCEEDED"
    kind = Kind.DEADLINE


class Unavailable(SynclineError):
    """The service or something behind it does not answer; the same call may be repeated."""

    reason = "UNAVAILABLE"
    kind = Kind.UNAVAILABLE
    pause_seconds = 1.0
