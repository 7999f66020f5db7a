"""The meanings of S3's errors, by their codes and statuses: one table for clients, the gateway and the services.

A code says more than a status and goes first. An answer to HEAD has no body and so no code; the SDK gives its status as
the code. Some statuses tell the meaning of a code that is not in the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final


class S3Error(Enum):
    """The kinds of errors that somebody of ours tells apart."""

    MISSING = auto()
    """There is no such object."""
    DENIED = auto()
    """The credentials do not allow it. S3 says so of a missing key, too, to a role that may not list the bucket."""
    CREDENTIALS_STALE = auto()
    """The credentials have expired or are no longer known; new ones may do."""
    CLOCK_SKEWED = auto()
    """The request is signed more than a quarter of an hour off the time of S3."""
    DAMAGED = auto()
    """The bytes did not arrive as they were sent; the same request may be repeated."""
    THROTTLED = auto()
    """There are too many requests; the same one may be repeated later."""
    UNANSWERED = auto()
    """The connection broke, the request took too long, or S3 failed; the same request may be repeated."""
    CONFLICT = auto()
    """Somebody is just writing the same object, and may fail."""
    PRECONDITION_FAILED = auto()
    """The object is not as `If-Match` or `If-None-Match` asks."""
    BAD_RANGE = auto()
    """The range begins beyond the end of the object."""
    BAD_REQUEST = auto()
    """The request is wrong: so S3 says, too, if the customer's key is not given with which an object is encrypted."""
    KEY_REFUSED = auto()
    """The key of KMS with which the object is encrypted cannot be used."""
    ARCHIVED = auto()
    """The object cannot be read until somebody has it restored from an archive."""
    STORAGE_FULL = auto()
    """The disk of the embedded AWS is full, until somebody makes room. S3 itself never says so."""
    OTHER = auto()
    """An error that has none of the meanings above."""


PASSING: Final = frozenset(
    {S3Error.CONFLICT, S3Error.DAMAGED, S3Error.STORAGE_FULL, S3Error.THROTTLED, S3Error.UNANSWERED}
)
"""The same request may succeed when it is repeated."""

_OF_CODE: Final[Mapping[str, S3Error]] = {
    "AccessDenied": S3Error.DENIED,
    "BadDigest": S3Error.DAMAGED,
    "ConditionalRequestConflict": S3Error.CONFLICT,
    "ExpiredToken": S3Error.CREDENTIALS_STALE,
    "ExpiredTokenException": S3Error.CREDENTIALS_STALE,
    "IncompleteBody": S3Error.DAMAGED,
    "InsufficientStorage": S3Error.STORAGE_FULL,
    "InvalidAccessKeyId": S3Error.CREDENTIALS_STALE,
    "InvalidObjectState": S3Error.ARCHIVED,
    "InvalidRange": S3Error.BAD_RANGE,
    "InvalidRequest": S3Error.BAD_REQUEST,
    "InvalidToken": S3Error.CREDENTIALS_STALE,
    "NoSuchKey": S3Error.MISSING,
    "PreconditionFailed": S3Error.PRECONDITION_FAILED,
    "RequestExpired": S3Error.CLOCK_SKEWED,
    "RequestLimitExceeded": S3Error.THROTTLED,
    "RequestTimeTooSkewed": S3Error.CLOCK_SKEWED,
    "RequestTimeout": S3Error.UNANSWERED,
    "SlowDown": S3Error.THROTTLED,
    "Throttling": S3Error.THROTTLED,
    "TokenRefreshRequired": S3Error.CREDENTIALS_STALE,
    "XAmzContentChecksumMismatch": S3Error.DAMAGED,
    "XAmzContentSHA256Mismatch": S3Error.DAMAGED,
}
_OF_STATUS: Final[Mapping[int, S3Error]] = {
    0: S3Error.UNANSWERED,
    408: S3Error.UNANSWERED,
    409: S3Error.CONFLICT,
    412: S3Error.PRECONDITION_FAILED,
    416: S3Error.BAD_RANGE,
    429: S3Error.THROTTLED,
    507: S3Error.STORAGE_FULL,
}
_OF_STATUS_ALONE: Final[Mapping[int, S3Error]] = {
    400: S3Error.BAD_REQUEST,
    403: S3Error.DENIED,
    404: S3Error.MISSING,
}
"""Meanings of statuses that have many codes. The meaning holds only in an answer without a code."""
_SERVER_FAULT: Final = 500


def s3_error(code: str, status: int = -1) -> S3Error:
    """Return what an error of S3 means.

    `code` is S3's own, or the status as text as the SDK gives it, or empty. `status` is that of HTTP, 0 if there was no
    answer; it may be left out where the SDK gives a code.
    """
    if code in _OF_CODE:
        return _OF_CODE[code]
    if code.startswith("KMS."):
        return S3Error.KEY_REFUSED
    if code.isdecimal():
        code, status = "", int(code)
    if not code and status in _OF_STATUS_ALONE:
        return _OF_STATUS_ALONE[status]
    if status in _OF_STATUS:
        return _OF_STATUS[status]
    return S3Error.UNANSWERED if status >= _SERVER_FAULT else S3Error.OTHER
