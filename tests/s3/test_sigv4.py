"""Our signature is the SDK's."""

import base64
import calendar
import hashlib
import sys
import time
from urllib.parse import parse_qsl, urlsplit

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
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


@given(
    base=st.sampled_from(
        [
            "http://127.0.0.1:4566/bucket/",
            "http://s3.example.com:80/bucket/",
            "https://s3.example.com:443/bucket/",
            "https://bucket.s3.eu-west-1.amazonaws.com/",
        ]
    ),
    key=WORDS,
    secret=st.text(min_size=1, max_size=40, alphabet=st.characters(min_codepoint=33, max_codepoint=126)),
    token=st.none() | st.text(min_size=1, max_size=80, alphabet=st.characters(min_codepoint=33, max_codepoint=126)),
    size=st.integers(0, 2**24),
    seconds=st.integers(1, 3600),
)
def test_an_address_is_too(*, base, key, secret, token, size, seconds):
    signed = {"if-none-match": "*", "x-amz-checksum-sha256": "c29tZQ==", "content-length": str(size)}
    theirs = AWSRequest("PUT", f"{base}spaces/x/objects/y", dict(signed))
    S3SigV4QueryAuth(Credentials(key, secret, token), "s3", "eu-west-1", expires=seconds).add_auth(theirs)
    ours = Signer(base, region="eu-west-1").address(
        "spaces/x/objects/y",
        signed,
        credentials=ReadOnlyCredentials(key, secret, token),
        method="PUT",
        seconds=seconds,
        now=calendar.timegm(time.strptime(theirs.context["timestamp"], "%Y%m%dT%H%M%SZ")),
    )
    wanted, made = urlsplit(str(theirs.url)), urlsplit(ours)
    assert (made.scheme, made.netloc, made.path) == (wanted.scheme, wanted.netloc, wanted.path)
    assert sorted(parse_qsl(made.query, strict_parsing=True)) == sorted(parse_qsl(wanted.query))


def test_further_addresses_with_the_same_credentials_take_few_calls_of_functions():
    """A browser asks for hundreds of them at once, and meanwhile nobody else is answered."""
    signer, calls = Signer("https://bucket.s3.eu-west-1.amazonaws.com/", region="eu-west-1"), 0

    def sign(number):
        signed = {"if-none-match": "*", "content-length": "1"}
        credentials = ReadOnlyCredentials("key", "secret", "t" * 1000)
        return signer.address(f"{number}", signed, credentials=credentials, method="PUT", seconds=900, now=0.0)

    def count(_frame, event, _argument):
        nonlocal calls
        calls += event in {"call", "c_call"}

    sign(0)
    sys.setprofile(count)
    try:
        addresses = {sign(number) for number in range(100)}
    finally:
        sys.setprofile(None)
    assert len(addresses) == 100
    assert calls < 100 * 100, "the SDK takes some 700 for each"
