"""Our signature is the SDK's."""

import base64
import calendar
import hashlib
import time

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from syncline.s3.sigv4 import Signer

WORDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=30)


@given(
    endpoint=st.sampled_from(
        ["http://127.0.0.1:4566", "https://s3.example.com", "https://bucket.s3.eu-west-1.amazonaws.com"]
    ),
    path=st.lists(WORDS, min_size=1, max_size=5),
    region=st.sampled_from(["eu-central-1", "us-east-1"]),
    key=WORDS,
    secret=st.text(min_size=1, max_size=40, alphabet=st.characters(min_codepoint=33, max_codepoint=126)),
    token=st.none() | st.text(min_size=1, max_size=80, alphabet=st.characters(min_codepoint=33, max_codepoint=126)),
    start=st.integers(0, 2**40),
)
def test_it_is_what_the_sdk_signs(*, endpoint, path, region, key, secret, token, start):
    base, key_path, part = f"{endpoint}/{path[0]}/", "/".join(path[1:]), f"bytes={start}-{start + 9}"
    url = base + key_path
    theirs = AWSRequest("GET", url, {"range": part})
    S3SigV4Auth(Credentials(key, secret, token), "s3", region).add_auth(theirs)
    moment = calendar.timegm(time.strptime(theirs.context["timestamp"], "%Y%m%dT%H%M%SZ"))
    signer = Signer(base, region=region)
    for now in (0.0, float(moment)):  # another day in between changes nothing
        ours = signer.headers(key_path, {"range": part}, credentials=ReadOnlyCredentials(key, secret, token), now=now)
    assert ours["x-amz-date"] == theirs.headers["X-Amz-Date"]
    if (
        theirs.headers["X-Amz-Content-SHA256"] == "UNSIGNED-PAYLOAD"
    ):  # over TLS the SDK leaves the body out; there is none
        return
    assert ours["authorization"] == theirs.headers["Authorization"]
    assert {name.lower(): value for name, value in theirs.headers.items()}.items() <= ours.items()


@given(
    key=WORDS,
    secret=st.text(min_size=1, max_size=40, alphabet=st.characters(min_codepoint=33, max_codepoint=126)),
    token=st.none() | WORDS,
    data=st.binary(max_size=100),
)
def test_a_put_with_its_checksum_is_too(*, key, secret, token, data):
    url = "http://127.0.0.1:4566/bucket/spaces/x"
    digest = hashlib.sha256(data)
    signed = {"if-none-match": "*", "x-amz-checksum-sha256": base64.b64encode(digest.digest()).decode()}
    theirs = AWSRequest("PUT", url, signed, data=data)
    S3SigV4Auth(Credentials(key, secret, token), "s3", "eu-central-1").add_auth(theirs)
    ours = Signer("http://127.0.0.1:4566/bucket/", region="eu-central-1").headers(
        "spaces/x",
        signed,
        method="PUT",
        body_sha256=digest.hexdigest(),
        credentials=ReadOnlyCredentials(key, secret, token),
        now=calendar.timegm(time.strptime(theirs.context["timestamp"], "%Y%m%dT%H%M%SZ")),
    )
    assert theirs.headers["X-Amz-Content-SHA256"] == digest.hexdigest()
    assert ours["authorization"] == theirs.headers["Authorization"]
