"""S3's codes and statuses mean the same to clients, the gateway and the services."""

import pytest

from syncline.s3.errors import PASSING, S3Error, s3_error


@pytest.mark.parametrize(
    ("code", "status", "meaning"),
    [
        ("NoSuchKey", 404, S3Error.MISSING),
        ("AccessDenied", 403, S3Error.DENIED),
        ("BadDigest", 400, S3Error.DAMAGED),
        ("XAmzContentSHA256Mismatch", 400, S3Error.DAMAGED),
        ("RequestTimeout", 400, S3Error.UNANSWERED),
        ("SlowDown", 503, S3Error.THROTTLED),
        ("ExpiredToken", 400, S3Error.CREDENTIALS_STALE),
        ("RequestTimeTooSkewed", 403, S3Error.CLOCK_SKEWED),
        ("InvalidObjectState", 403, S3Error.ARCHIVED),
        ("KMS.DisabledException", 400, S3Error.KEY_REFUSED),
        ("InsufficientStorage", 507, S3Error.STORAGE_FULL),
    ],
)
def test_a_code_says_more_than_a_status(code, status, meaning):
    assert s3_error(code, status) is meaning
    assert s3_error(code) is meaning


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (400, S3Error.BAD_REQUEST),
        (403, S3Error.DENIED),
        (404, S3Error.MISSING),
        (409, S3Error.CONFLICT),
        (412, S3Error.PRECONDITION_FAILED),
        (416, S3Error.BAD_RANGE),
        (429, S3Error.THROTTLED),
        (500, S3Error.UNANSWERED),
        (507, S3Error.STORAGE_FULL),
    ],
)
def test_an_answer_without_a_body_has_only_its_status(status, meaning):
    assert s3_error("", status) is meaning
    assert s3_error(str(status)) is meaning  # the SDK says it so


def test_of_a_code_that_is_not_known_only_some_statuses_tell():
    assert s3_error("SignatureDoesNotMatch", 403) is S3Error.OTHER
    assert s3_error("NoSuchBucket", 404) is S3Error.OTHER
    assert s3_error("OperationAborted", 409) is S3Error.CONFLICT
    assert s3_error("InternalError", 500) is S3Error.UNANSWERED
    assert s3_error("OperationAborted") is S3Error.OTHER


def test_what_passes_is_what_may_succeed_when_it_is_repeated():
    assert s3_error("", 0) in PASSING
    assert {s3_error(code) for code in ("BadDigest", "SlowDown", "RequestTimeout", "409", "507")} <= PASSING
    assert not PASSING & {s3_error(code) for code in ("NoSuchKey", "AccessDenied", "ExpiredToken", "412", "400")}
