"""No well-behaved client sends these: each is a problem, and nothing changes."""

import http.client
import io
import threading
import zipfile
from urllib.parse import urlsplit

import pytest

from tests.gateway.client import Person, sign_up


def test_a_body_that_is_too_large(ann: Person):
    body = b'{"parent": "root", "name": "' + b"x" * (4 * 1024 * 1024) + b'"}'
    answer = ann.ask("POST", f"{ann.top}/folders", raw=body, content_type="application/json")
    answer.refused(413, "BODY_TOO_LARGE")
    # Told chunk by chunk it is no smaller.
    connection = http.client.HTTPConnection(urlsplit(ann.endpoint).netloc, timeout=60)
    chunks = iter([body[at : at + 65536] for at in range(0, len(body), 65536)])
    headers = ann.headers | {"content-type": "application/json", "transfer-encoding": "chunked"}
    try:
        connection.request("POST", f"{ann.top}/folders", chunks, headers, encode_chunked=True)
        status = connection.getresponse().status
    except (BrokenPipeError, ConnectionResetError):  # the server refused it before all of it was sent
        status = 413
    finally:
        connection.close()
    assert status == 413
    assert ann.children() == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "json"])
def test_a_body_of_another_type(ann: Person, kind):
    body = b'{"parent": "root", "name": "x"}'
    answer = ann.ask("POST", f"{ann.top}/folders", raw=body, content_type=kind)
    answer.refused(415, "WRONG_MEDIA_TYPE")
    assert ann.children() == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        b'{"parent": "root"}',
        b'{"parent": "root", "name": 1}',
        b'{"parent": "root", "name": null}',
        b'{"parent": "root", "name": ["x"]}',
        b'{"parent": "root", "name": "x", "more": 1}',
        b'{"parent": "../..", "name": "x"}',
        b"[" * 100_000,
        b'{"parent": "root", "name": "\\ud800"}',
        b'{"parent": "root", "name": "a\\u0000b"}',
        b'{"parent": "root", "name": ' + b"9" * 40_000 + b"}",
    ],
)
def test_a_body_that_is_no_request(ann: Person, body):
    answer = ann.ask("POST", f"{ann.top}/folders", raw=body, content_type="application/json")
    assert answer.json["reason"] in ("INVALID_ARGUMENT", "NAME_INVALID")
    answer.refused(400, answer.json["reason"])
    assert ann.children() == []


TRAVERSALS = [
    "..",
    "../..",
    "%2e%2e",
    "%2e%2e%2f",
    "..%2f",
    "%252e%252e%252f",
    "..%5c",
    "..%255c",
    "%c0%ae%c0%ae",
    "%c0%af",
    "%e0%80%af",
    "%uff0e%uff0e",
    "..%00",
    "....//",
    "a/../../b",
    "a/%2e%2e/%2e%2e/b",
    "\\..\\..",
    "/etc/passwd",
    "//etc/passwd",
    "%2fetc%2fpasswd",
    "file:///etc/passwd",
]


@pytest.mark.parametrize("path", TRAVERSALS)
def test_no_path_leads_out_of_a_space(ann: Person, path):
    ann.file("a", b"x")
    for target in (
        f"{ann.top}/content/{path}",
        f"{ann.top}/nodes?path={path}",
        f"{ann.top}/nodes/{path}",
        f"{ann.top}/nodes/{path}/content",
        f"/v1/spaces/{path}",
        f"/web/{path}",
        f"/web/{path}app.css",
        f"/{path}/web/app.css",
    ):
        answer = ann.ask("GET", target)
        assert answer.status in (400, 404), (target, answer.status, answer.body[:100])
        answer.refused(answer.status, answer.json["reason"])
        assert b"root:" not in answer.body


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/v1/nonsense", 404, "NO_SUCH_PAGE"),
        ("GET", "/v1", 404, "NO_SUCH_PAGE"),
        ("DELETE", "/v1/spaces", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/v1/spaces/UPPERCASE", 400, "INVALID_ARGUMENT"),
        ("GET", "/v1/spaces/{space}/nodes/xyz", 400, "INVALID_ARGUMENT"),
        ("GET", "/v1/spaces/{space}/nodes/" + "A" * 32, 400, "INVALID_ARGUMENT"),
        ("GET", "/v1/spaces/{space}/nodes/root", 404, "NO_SUCH_NODE"),
        ("GET", "/v1/spaces/{space}/nodes/root/content", 404, "NO_SUCH_NODE"),
        ("GET", "/v1/spaces/{space}/nodes/root/children?page_size=0", 400, "INVALID_ARGUMENT"),
        ("GET", "/v1/spaces/{space}/nodes/root/children?page_size=1001", 400, "INVALID_ARGUMENT"),
        ("GET", "/v1/spaces/{space}/nodes/root/versions", 404, "NO_SUCH_NODE"),
        ("GET", "/v1/spaces/{space}/search?q=" + "x" * 256, 400, "INVALID_ARGUMENT"),
        ("GET", "/v1/spaces/{space}/activity?page_token=%FF", 400, "INVALID_PAGE_TOKEN"),
        ("GET", "/v1/spaces/{space}/trash?page_token=nonsense", 400, "INVALID_PAGE_TOKEN"),
    ],
)
def test_addresses_that_lead_nowhere(ann: Person, method, path, status, reason):
    ann.ask(method, path.replace("{space}", ann.space)).refused(status, reason)


def test_a_header_that_is_no_key(ann: Person):
    folder = {"parent": "root", "name": "x"}
    ann.ask("POST", f"{ann.top}/folders", folder, idempotency_key="").refused(400, "INVALID_ARGUMENT")
    ann.ask("POST", f"{ann.top}/folders", folder, idempotency_key="k" * 256).refused(400, "INVALID_ARGUMENT")
    assert ann.children() == []


def test_a_zip_of_a_tree_that_changes_underneath_is_sound(ann: Person):
    """Every file in the archive is whole, and a file that nobody touched is in it."""
    docs = ann.folder("docs")
    parts = [ann.folder(f"part {i}", docs["id"]) for i in range(6)]
    data = {i: bytes([i]) * 300_000 for i in range(6)}
    files = {(p, i): ann.file(f"{i}", data[i], parts[p]["id"]) for p in range(6) for i in range(6)}
    stop = threading.Event()
    troublemaker = sign_up(ann.endpoint)  # has a connection of its own
    troublemaker.headers, troublemaker.space = ann.headers, ann.space

    def trouble() -> None:
        for p in (1, 3, 5):
            troublemaker.done("PATCH", f"{ann.top}/nodes/{files[p, 0]['id']}", {"name": "moved"})
            troublemaker.update(files[p, 1], b"new" * 1000)
            troublemaker.done("DELETE", f"{ann.top}/nodes/{files[p, 2]['id']}", status=204)
            troublemaker.done("DELETE", f"{ann.top}/nodes/{parts[p]['id']}", status=204)
            if stop.is_set():
                return

    thread = threading.Thread(target=trouble)
    thread.start()
    try:
        archives = [ann.ask("GET", f"{ann.top}/nodes/{docs['id']}/archive") for _ in range(3)]
    finally:
        stop.set()
        thread.join()
    for answer in archives:
        with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
            assert archive.testzip() is None
            names = set(archive.namelist())
            assert len(names) == len(archive.namelist())
            for p in (0, 2, 4):
                for i in range(6):
                    assert archive.read(f"docs/part {p}/{i}") == data[i]
