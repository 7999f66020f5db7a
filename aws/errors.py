"""Classification of AWS's errors: which are transient, and which reach a caller as Unavailable."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    MetadataRetrievalError,
)
from botocore.exceptions import ConnectionError as NoConnection

from syncline.model.errors import Unavailable

THROTTLES: Final = frozenset(
    {
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
    }
)
_PASSING: Final = THROTTLES | {
    "InternalError",
    "InternalFailure",
    "InternalServerError",
    "PriorRequestNotComplete",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "TransactionInProgressException",
    "TransientError",
}
_NO_ANSWER: Final = (NoConnection, HTTPClientError, CredentialRetrievalError, MetadataRetrievalError)
"""Errors of the SDK that mean that a service, or the source of the role's credentials, does not answer."""
_SERVER_FAULT: Final = 500
_STORAGE_FULL: Final = "InsufficientStorage"
"""Error code of the embedded AWS when its disk is full."""


def error_code(error: ClientError) -> str:
    """Return the code of an AWS error: `ConditionalCheckFailedException`, `NoSuchKey`, or the HTTP status of a HEAD."""
    return str(error.response.get("Error", {}).get("Code", ""))


def is_passing(error: Exception) -> bool:
    """Return True if `error` is transient, so that the same request may succeed when it is repeated: throttling, no
    connection, a fault of AWS.
    """
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= _SERVER_FAULT or error_code(error) in _PASSING
    return isinstance(error, _NO_ANSWER)


@contextmanager
def aws_errors(what: str) -> Iterator[None]:
    """Context manager that converts transient faults of AWS to Unavailable, whose text names the service of AWS as
    `what`. Other errors pass through.
    """
    try:
        yield
    except (ClientError, *_NO_ANSWER) as error:
        if isinstance(error, ClientError) and error_code(error) == _STORAGE_FULL:
            raise Unavailable(f"the disk of {what} is full; free some space and try again") from error
        if is_passing(error):
            raise Unavailable(f"{what} does not answer; try again") from error
        raise
