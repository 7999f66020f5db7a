"""The meanings of S3's errors, by their codes and statuses: one table for clients, the gateway and the services.

A code is more specific than a status and takes precedence. An answer to HEAD has no body and so no code; the SDK gives
its status as the code. The status decides if the code is missing in the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final


class S3Error(Enum):
    """The kinds of S3 errors that our code distinguishes."""

    MISSING = auto()
    """There is no such object."""
    DENIED = auto()
    """The credentials do not allow the request. S3 answers this for a missing key, too, to a role that may not list the
    bucket.
    """
    CREDENTIALS_STALE = auto()
    """The credentials have expired or are unknown; new ones may work."""
    CLOCK_SKEWED = auto()
    """The signature's time is more than a quarter of an hour off S3's time."""
    DAMAGED = auto()
    """The bytes were damaged in transit; the same request may be repeated."""
    THROTTLED = auto()
    """There are too many requests; the same request may be repeated later."""
    UNANSWERED = auto()
    """The connection broke, the request took too long, or S3 failed; the same request may be repeated."""
    CONFLICT = auto()
    """A concurrent request is writing the same object, and may fail."""
    PRECONDITION_FAILED = auto()
    """The condition `If-Match` or `If-None-Match` does not hold."""
    BAD_RANGE = auto()
    """The range begins beyond the end of the object."""
    BAD_REQUEST = auto()
    """The request is invalid. S3 also answers this if the customer's key of an encrypted object is missing."""
    KEY_REFUSED = auto()
    """The key of KMS with which the object is encrypted cannot be used."""
    ARCHIVED = auto()
    """The object is archived and cannot be read until it is restored."""
    STORAGE_FULL = auto()
    """The disk of the embedded AWS is full. S3 itself never answers this."""
    OTHER = auto()
    """An error that has none of the meanings above."""


PASSING: Final = frozenset(
    {S3Error.CONFLICT, S3Error.DAMAGED, S3Error.STORAGE_FULL, S3Error.THROTTLED, S3Error.UNANSWERED}
)
"""Transient errors: the same request may succeed when it is repeated."""

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
"""The meaning of each HTTP status that many codes share. The status has this meaning only in an answer without a
code.
"""
_SERVER_FAULT: Final = 500


def s3_error(code: str, status: int = -1) -> S3Error:
    """Return the meaning of an error of S3.

    `code` is S3's own, or the status as text as the SDK gives it, or empty. `status` is the HTTP status, 0 if there was
    no answer; it may be left out if the SDK gives a code.
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
