"""An editor puts the right bytes, with headers by which some readers could not read them: through the whole system, by
the editor's own temporary credentials."""

from __future__ import annotations

import base64
import hashlib
import http.client
import random
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple
from urllib.parse import quote, urlsplit

from stack.demo import DemoDevice
from stack.up import Stack
from syncline.model.accounts import Access
from syncline.model.identifiers import SpaceId
from syncline.s3.sigv4 import Signer
from syncline.sdk.credentials import issue
from syncline.sdk.session import Session
from tests.gateway.client import PASSWORD, Api

KIB = 1024

HOSTILE: Final[Mapping[str, Mapping[str, str]]] = {
    "gzip": {"content-encoding": "gzip"},
    "brotli": {"content-encoding": "br"},
    "a type that is no text": {"content-type": "text/pl\xe4in"},
    "a page": {"content-type": "text/html", "content-disposition": "inline"},
    "a cache that is no text": {"cache-control": "\xff"},
    "a long cache": {"cache-control": "x" * 7_000},
    "an end that is no date": {"expires": "never"},
    "a language": {"content-language": "\xfc" * 100},
    "another place": {"x-amz-website-redirect-location": "https://example.com/"},
    "metadata": {"x-amz-meta-name": "x" * 1_900},
    "very many headers": {f"x-amz-meta-{number:x}": "" for number in range(80)},
    "a tag": {"x-amz-tagging": "name=value"},
}
"""Headers of a PUT that no policy can refuse, as S3 has no keys for them, or that AWS refuses by itself."""


class _Signing(NamedTuple):
    access_key: str
    secret_key: str
    token: str


def put(session: Session, data: bytes, hostile: Mapping[str, str]) -> int:
    """Put an object as an editor does who has credentials of the personal space; return the status."""
    storage = session.deployment.s3
    held = issue(session, SpaceId(session.account.personal_space), Access.WRITE)
    assert storage.endpoint is not None
    base = f"{storage.endpoint.rstrip('/')}/{held.bucket}/"
    digest = hashlib.sha256(data)
    checksum = {"x-amz-checksum-sha256": base64.b64encode(digest.digest()).decode()}
    amz = {name: value for name, value in hostile.items() if name.startswith("x-amz-")}
    signed = Signer(base, region=storage.region).headers(
        held.key_prefix + digest.hexdigest(),
        {"if-none-match": "*"} | checksum | amz,
        method="PUT",
        body_sha256=digest.hexdigest(),
        credentials=_Signing(held.access_key_id, held.secret_access_key, held.session_token),
    )
    parts = urlsplit(base)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    target = f"{parts.path}{held.key_prefix}{digest.hexdigest()}"
    connection.request("PUT", target, data, signed | dict(hostile))
    status = connection.getresponse().status
    connection.close()
    return status


def test_everybody_reads_what_was_put_with_hostile_headers(stack: Stack, new_device: Callable[..., DemoDevice]) -> None:
    device = new_device("one")
    contents = {name: random.Random(name).randbytes(600 * KIB) for name in HOSTILE}
    with Session.open(device.root / "home") as session:
        space = session.account.personal_space
        assert {name: put(session, data, HOSTILE[name]) for name, data in contents.items()} == dict.fromkeys(
            HOSTILE, 200
        )
    for name, data in contents.items():
        (device.folder / name).write_bytes(data)
    assert device.sync()["uploaded"] == len(contents)
    other = new_device("two", device.owner)
    assert other.sync()["downloaded"] == len(contents)
    assert {path.name: path.read_bytes() for path in other.folder.iterdir() if path.is_file()} == contents
    signing_in = {"email": device.email, "password": PASSWORD, "device_name": "program"}
    told = Api(stack.endpoint).done("POST", "/v1/sessions", signing_in, status=201)
    program = Api(stack.endpoint, {"authorization": f"Bearer {told['tokens']['access_token']}"})
    for name, data in contents.items():
        answer = program.ask("GET", f"/v1/spaces/{space}/content/{quote(name)}")
        assert answer.body == data, name
        assert answer.headers["content-encoding"] is None
