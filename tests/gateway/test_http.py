"""The gateway over real connections: contents, conditions, errors, and the end of the process."""

import asyncio
import hashlib
import http.client
import json

import pytest
import pytest_asyncio

from gateway.bootstrap import bootstrap
from gateway.ports import ObjectUnreadable
from gateway.serving import running_gateway as serving
from runtime.logs import structlog
from syncline.model.blocks import Digest
from syncline.model.errors import TokenExpired, Unavailable
from syncline.model.tree import Content, NodeKind
from tests.gateway.fakes import SPACE, TOKEN, World, adapters, gateway, settings
from tests.support.storage import InMemoryObjectSource
from tests.support.tokens import unproven_token

SAVED = "Mon, 24 Nov 2025 16:00:00 GMT"


# One gateway serves most tests: starting and stopping it takes longer than they do.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared():
    async with gateway() as world:
        yield world


@pytest.fixture
def world(shared):
    shared.metadata.forget()
    return shared


def problem(answer, status, reason):
    """Checks that the answer is this problem, and returns its members."""
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    members = json.loads(answer.body)
    assert {name: members[name] for name in ("status", "reason")} == {"status": status, "reason": reason}
    assert members["title"]
    assert members["detail"]
    assert members["request_id"] == answer.headers["x-request-id"]
    return members


# -- contents


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("apart", [False, True])
async def test_a_file_comes_as_it_was_saved(world, packed, apart):
    data = world.file("docs/report.pdf", [b"a" * 70_000, b"b" * 80_000, b"c"], packed=packed, apart=apart)
    answer = await world.get("docs/report.pdf")
    assert (answer.status, answer.body) == (200, data)
    headers = {name: answer.headers[name] for name in ("content-length", "content-type", "etag", "last-modified")}
    assert headers == {
        "content-length": str(len(data)),
        "content-type": "application/pdf",
        "etag": f'"{hashlib.sha256(data).hexdigest()}"',
        "last-modified": SAVED,
    }
    assert answer.headers["content-disposition"] == "attachment; filename=\"report.pdf\"; filename*=UTF-8''report.pdf"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert answer.headers["cache-control"] == "private, no-cache"
    assert answer.headers["accept-ranges"] == "bytes"


async def test_an_empty_file(world):
    world.file("empty", [])
    answer = await world.get("empty")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "0")
    assert problem(await world.get("empty", range="bytes=0-"), 416, "RANGE_NOT_SATISFIABLE")
    assert (await world.get("empty", range="bytes=-1")).status == 200


async def test_head_is_get_without_the_content(world):
    world.file("a.txt", [b"x" * 1000])
    get, head = await world.get("a.txt"), await world.get("a.txt", method="HEAD")
    assert (head.status, head.body) == (200, b"")

    def stable(answer):
        return {name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id")}

    assert stable(head) == stable(get)


async def test_a_large_file_of_many_blocks(world):
    data = world.file("big", [bytes([index]) * 1_000_003 for index in range(20)])
    answer = await world.get("big")
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("packed", [False, True])
async def test_parts_of_a_file(world, packed):
    data = world.file("f", [b"abc", b"defgh", b"i", b"jklmnopq"], packed=packed)
    for start in range(len(data)):
        for stop in range(start + 1, len(data) + 1):
            answer = await world.get("f", range=f"bytes={start}-{stop - 1}")
            assert (answer.status, answer.body) == (206, data[start:stop])
            assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(data)}"
            assert answer.headers["content-length"] == str(stop - start)
    answer = await world.get("f", range="bytes=-4")
    assert (answer.status, answer.body) == (206, data[-4:])
    answer = await world.get("f", range="bytes=4-")
    assert (answer.status, answer.body) == (206, data[4:])


async def test_ranges_that_cannot_be(world):
    world.file("f", [b"abc"])
    answer = await world.get("f", range="bytes=3-")
    problem(answer, 416, "RANGE_NOT_SATISFIABLE")
    assert answer.headers["content-range"] == "bytes */3"
    assert (await world.get("f", range="bytes=0-0,2-2")).body == b"abc"
    assert (await world.get("f", range="bytes=1-1", method="HEAD")).headers["content-length"] == "3"


async def test_conditions(world):
    data = world.file("f", [b"abc"])
    etag = f'"{hashlib.sha256(data).hexdigest()}"'
    same = await world.get("f", if_none_match=etag)
    assert (same.status, same.body, same.headers["etag"]) == (304, b"", etag)
    assert same.headers["content-length"] is None
    assert (await world.get("f", if_none_match='"x"')).status == 200
    assert (await world.get("f", range="bytes=0-0", if_range=etag)).status == 206
    assert (await world.get("f", range="bytes=0-0", if_range='"x"')).body == data


# -- who may


async def test_nothing_without_a_token(world):
    world.file("f", [b"abc"])
    path = f"/v1/spaces/{SPACE}/content/f"
    for authorization, reason in (
        *((none, "UNAUTHENTICATED") for none in ("", "Bearer", "Bearer ", "Basic eDp5", f"Token {TOKEN}")),
        *((bad, "TOKEN_MALFORMED") for bad in (f"Bearer {TOKEN}\x80", "Bearer a b")),
    ):
        answer = await world.ask(path, authorization=authorization)
        problem(answer, 401, reason)
        assert answer.headers["www-authenticate"] == "Bearer"
    problem(await world.ask(path), 401, "UNAUTHENTICATED")
    assert world.metadata.paths == []


async def test_what_metadata_says_of_a_token_goes_on(world):
    world.file("f", [b"abc"])
    answer = await world.ask(f"/v1/spaces/{SPACE}/content/f", authorization=f"Bearer {unproven_token(jti=1)}")
    members = problem(answer, 401, "TOKEN_EXPIRED")
    assert members["detail"] == "the access token has expired; sign in again"
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_not_for_those_without_a_grant(world):
    answer = await world.ask(f"/v1/spaces/{'b' * 26}/content/f", authorization=f"Bearer {TOKEN}")
    problem(answer, 404, "NO_SUCH_SPACE")


# -- what is not there


async def test_what_is_no_file(world):
    world.add("dir", None, NodeKind.DIRECTORY)
    world.add("link", Content(Digest(bytes(32)), 6, target="../etc"), NodeKind.SYMLINK)
    for path in ("dir", "link"):
        problem(await world.get(path), 409, "NOT_A_FILE")
    problem(await world.get("nothing"), 404, "NO_SUCH_NODE")
    problem(await world.get(""), 404, "NO_SUCH_NODE")


HOSTILE = [
    ("/healthz/", 404, "NO_SUCH_PAGE"),
    ("/v1/nonsense", 404, "NO_SUCH_PAGE"),
    ("//evil.example/..", 404, "NO_SUCH_PAGE"),
    ("/../../etc/passwd", 404, "NO_SUCH_PAGE"),
    (f"/v1/spaces/{SPACE}/content/..", 400, "INVALID_ARGUMENT"),
    (f"/v1/spaces/{SPACE}/content/../../{'b' * 26}/content/f", 400, "INVALID_ARGUMENT"),
    (f"/v1/spaces/{SPACE}/content/%2e%2e/f", 400, "INVALID_ARGUMENT"),
    (f"/v1/spaces/{SPACE}/content/..%2Ff", 400, "INVALID_ARGUMENT"),
    (f"/v1/spaces/{SPACE}/content/a//b", 400, "INVALID_ARGUMENT"),
    (f"/v1/spaces/{SPACE}/content/a%00b", 400, "INVALID_ARGUMENT"),
    (f"/v1/spaces/{SPACE}/content/a%0D%0Ab", 404, "NO_SUCH_NODE"),
    (f"/v1/spaces/{SPACE}/content/%FF", 400, "INVALID_ARGUMENT"),
    (f"/v1/spaces/{SPACE}/content/%ED%A0%80", 400, "INVALID_ARGUMENT"),
    (f"/v1/spaces/{SPACE}/content/{'x' * 256}", 400, "INVALID_ARGUMENT"),
    (f"/v1/spaces/{SPACE}/content/{'x/' * 3000}", 400, "INVALID_ARGUMENT"),
    ("/v1/spaces/..%2F..%2Fetc/content/f", 404, "NO_SUCH_PAGE"),
    ("/v1/spaces/nonsense/content/f", 400, "INVALID_ARGUMENT"),
    (f"/v1/spaces/{SPACE.upper()}/content/f", 400, "INVALID_ARGUMENT"),
]


async def test_hostile_paths(world):
    world.file("f", [b"abc"])
    for target, status, reason in HOSTILE:
        problem(await world.ask(target, authorization=f"Bearer {TOKEN}"), status, reason)


UNUSUAL = [
    ("a%20b/%C3%BC.txt", "a b/ü.txt"),
    ("u%CC%88", "ü"),
    ("a%0Ab", "a\nb"),
    ("a%0A", "a\n"),
    ("a%3Fb%23c", "a?b#c"),
    ("%252e%252e", "%2e%2e"),
    ("a/b/", "a/b"),
]


async def test_paths_as_they_are(world):
    for target, path in UNUSUAL:
        data = world.file(path, [path.encode()])
        assert (await world.get(f"{target}?x=1")).body == data
        assert world.metadata.paths[-1] == path


async def test_other_methods(world):
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        answer = await world.get("f", method=method)
        problem(answer, 405, "METHOD_NOT_ALLOWED")
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


# -- when something behind fails


class Failing(InMemoryObjectSource):
    """Fails at the nth read."""

    def __init__(self, error, at=1):
        super().__init__()
        self.error, self.at, self.reads = error, at, 0

    async def read(self, space, digest, *, offset, length, share):
        self.reads += 1
        if self.reads >= self.at:
            raise self.error
        return await super().read(space, digest, offset=offset, length=length, share=share)


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (Unavailable("S3 does not answer"), 503, "UNAVAILABLE"),
        (ObjectUnreadable("missing"), 500, "INTERNAL"),
        (RuntimeError("a secret"), 500, "INTERNAL"),
    ],
)
async def test_a_failure_before_the_first_byte_has_a_status(error, status, reason):
    async with gateway(World(objects=Failing(error))) as world:
        world.file("f", [b"abc"])
        members = problem(await world.get("f"), status, reason)
        assert "secret" not in members["detail"]
        assert (await world.get("f", method="HEAD")).status == 200


@pytest.mark.parametrize("error", [Unavailable("S3 does not answer"), ObjectUnreadable("missing"), RuntimeError()])
async def test_a_failure_on_the_way_breaks_the_connection_off(error):
    async with gateway(World(objects=Failing(error, at=4))) as world:
        data = world.file("f", [bytes([index]) * 300_000 for index in range(10)])
        logged = structlog.testing.capture_logs([structlog.contextvars.merge_contextvars])
        with logged as events, pytest.raises(http.client.IncompleteRead) as broken:
            await world.get("f", x_request_id="this-one")
        assert data.startswith(broken.value.partial)
        assert len(broken.value.partial) < len(data)
        # By its id: a request that an earlier test broke off may end, and be logged, only now.
        (event,) = [event for event in events if event["event"] == "http" and event["request_id"] == "this-one"]
        assert (event["status"], event["complete"]) == (200, False)
        assert (await world.ask("/healthz")).status == 200


async def test_a_response_that_is_cut_for_a_reason_is_no_error_in_the_log(caplog):
    async with gateway(World(objects=Failing(TokenExpired("it is over"), at=4))) as world:
        world.file("f", [bytes([index]) * 300_000 for index in range(10)])
        with structlog.testing.capture_logs() as events, pytest.raises(http.client.IncompleteRead):
            await world.get("f")
        (event,) = [event for event in events if event["event"] == "response ended"]
        assert (event["reason"], event["log_level"]) == ("TOKEN_EXPIRED", "info")
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_damaged_block_never_arrives(world):
    blocks = [bytes([index]) * 300_000 for index in range(5)]
    world.file("f", blocks)
    world.objects.objects[SPACE, hashlib.sha256(blocks[3]).digest()] = b"x" * 300_000
    with pytest.raises(http.client.IncompleteRead) as broken:
        await world.get("f")
    assert b"".join(blocks[:3]).startswith(broken.value.partial)


async def test_a_client_that_goes_away_frees_what_was_held():
    class Stuck(InMemoryObjectSource):
        asked = closed = 0

        async def read(self, space, digest, *, offset, length, share):
            self.asked += 1
            if self.asked == 1:
                return await super().read(space, digest, offset=offset, length=length, share=share)
            try:
                return await asyncio.Future()
            except asyncio.CancelledError:
                self.closed += 1
                raise

    objects = Stuck()
    async with gateway(World(objects=objects)) as world:
        world.file("f", [bytes([index % 256]) * 300_000 for index in range(200)])
        host, _, port = world.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"GET /v1/spaces/{SPACE}/content/f HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n\r\n".encode()
        )
        async with asyncio.timeout(60):
            assert b"200" in await reader.readline()
            while objects.asked < 2:
                await asyncio.sleep(0.01)
            writer.transport.abort()
            while objects.closed < objects.asked - 1:
                await asyncio.sleep(0.01)


# -- request ids


async def test_request_ids_go_through(world):
    world.file("f", [b"abc"])
    answer = await world.get("f", x_request_id="from-the-client-1")
    assert answer.headers["x-request-id"] == "from-the-client-1"
    assert world.metadata.request_ids == ["from-the-client-1"]
    answer = await world.get("f", x_request_id="not acceptable")
    assert len(answer.headers["x-request-id"]) == 16
    assert world.metadata.request_ids[1] == answer.headers["x-request-id"]


async def test_each_request_is_logged_once_without_its_path(world):
    world.file("diary.txt", [b"abc"])
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as events:
        await world.get("diary.txt", x_request_id="abc")
        await world.ask("/nothing", x_request_id="def")
        await world.ask("/l/sesame?token=sesame", x_request_id="ghi")
    # By the ids of these three: a request that an earlier test broke off may end, and be logged, only now.
    found = [event for event in events if event["event"] == "http" and event["request_id"] in {"abc", "def", "ghi"}]
    assert [(event["route"], event["status"]) for event in found] == [("content", 200), ("none", 404), ("page", 200)]
    assert [found[0][name] for name in ("request_id", "bytes", "complete")] == ["abc", 3, True]
    assert "diary" not in str(found)
    assert "sesame" not in str(events)  # the token of a public link of an earlier version


# -- what is public


async def test_where_everything_is(world):
    answer = await world.ask("/.well-known/syncline")
    assert answer.headers["content-type"] == "application/json"
    told = json.loads(answer.body)
    assert {name: told[name] for name in ("syncline", "auth", "metadata", "notify", "s3")} == {
        "syncline": 1,
        "auth": {"target": "127.0.0.1:8081", "tls": False},
        "metadata": {"target": "127.0.0.1:8082", "tls": False},
        "notify": {"target": "127.0.0.1:8083", "tls": False},
        "s3": {"endpoint": None, "region": "eu-central-1", "bucket": "content", "path_style": False},
    }


async def test_keys_are_asked_for_once_and_not_to_be_had_while_auth_does_not_answer():
    async with gateway() as world:
        world.auth.down = True
        problem(await world.ask("/.well-known/jwks.json"), 503, "UNAVAILABLE")
        world.auth.down, world.auth.asked = False, 0
        for _ in range(3):
            answer = await world.ask("/.well-known/jwks.json")
            assert json.loads(answer.body)["keys"][0]["kid"] == "k1"
        assert world.auth.asked == 1
        assert answer.headers["cache-control"] == "public, max-age=300"


async def test_alive_and_ready(world):
    assert (await world.ask("/healthz")).status == 200
    assert (await world.ask("/readyz")).status == 200


async def test_alive_but_not_ready_without_services():
    world, used = World(), settings()
    async with bootstrap(used, adapters(world.objects)) as alone, serving(alone, used) as world.address:
        members = problem(await world.ask("/readyz"), 503, "NOT_READY")
        assert members["detail"] == "not serving: auth, metadata"
        assert (await world.ask("/healthz")).status == 200


# -- the end


async def test_when_the_process_stops_it_is_not_ready_first_and_requests_in_flight_finish():
    class Gated(InMemoryObjectSource):
        asked, gate = asyncio.Event(), asyncio.Event()

        async def read(self, space, digest, *, offset, length, share):
            self.asked.set()
            await self.gate.wait()
            return await super().read(space, digest, offset=offset, length=length, share=share)

    objects = Gated()
    leaving = asyncio.Event()

    async def live(world, started):
        async with gateway(world, drain_seconds=3):
            started.set()
            await leaving.wait()

    world, started = World(objects=objects), asyncio.Event()
    process = asyncio.create_task(live(world, started))
    await started.wait()
    data = world.file("f", [b"abc"])
    in_flight = asyncio.create_task(world.get("f"))
    async with asyncio.timeout(60):
        await objects.asked.wait()
        leaving.set()
        while (answer := await world.ask("/readyz")).status == 200:  # until it has heard of it
            await asyncio.sleep(0.01)
    problem(answer, 503, "NOT_READY")
    assert answer.headers["connection"] == "close"
    objects.gate.set()
    assert (await in_flight).body == data
    await process
    with pytest.raises(OSError, match="refused"):
        await world.ask("/healthz")


@pytest.mark.timeout(180)
async def test_a_process_ends_although_an_archive_is_still_being_made():
    """The archive's thread waits for the event loop, which must not wait for the thread."""

    class Stuck(InMemoryObjectSource):
        asked = asyncio.Event()

        async def read(self, space, digest, *, offset, length, share):
            self.asked.set()
            await asyncio.Event().wait()

    world = World(objects=Stuck())
    world.file("", [b"x" * 300_000])
    async with gateway(world, grace_seconds=0.1):
        request = f"/v1/spaces/{SPACE}/archive?node={'0' * 31}1"
        asking = asyncio.create_task(world.ask(request, authorization=f"Bearer {TOKEN}"))
        await Stuck.asked.wait()
    with pytest.raises((OSError, http.client.HTTPException)):
        await asking


# -- headers of every answer


@pytest.mark.parametrize(
    ("target", "status", "cached"),
    [
        ("/healthz", 200, "no-store"),
        ("/v1/spaces", 401, "no-store"),
        ("/nothing", 404, "no-store"),
        ("/dav/", 401, "no-store"),
        ("/", 200, "no-cache"),
        ("/web/app.js", 200, "no-cache"),
        ("/openapi.json", 200, "no-cache"),
        ("/.well-known/syncline", 200, "public, max-age=60"),
    ],
)
async def test_nothing_is_guessed_and_nothing_private_is_stored(world, target, status, cached):
    answer = await world.ask(target)
    assert answer.status == status
    assert answer.headers.get_all("cache-control") == [cached]
    assert answer.headers.get_all("x-content-type-options") == ["nosniff"]
    assert answer.headers["strict-transport-security"] is None


@pytest.mark.parametrize(
    "target",
    [
        "/healthz",
        "/v1/spaces",
        "/nothing",
        "/dav/",
        "/openapi.json",
        "/.well-known/syncline",
        "/.well-known/jwks.json",
        "/",
        "/web/app.js",
    ],
)
async def test_nothing_runs_in_an_answer_or_is_taken_into_pages_of_others(world, target):
    answer = await world.ask(target)
    (policy,) = answer.headers.get_all("content-security-policy")
    assert policy.startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers.get_all("cross-origin-resource-policy") == ["same-origin"]
    assert answer.headers.get_all("referrer-policy") == ["no-referrer"]


@pytest.mark.parametrize("target", ["/", "/web/app.js", "/openapi.json", "/.well-known/syncline"])
async def test_what_is_the_same_for_everybody_is_sent_once(world, target):
    first, again = await world.ask(target), await world.ask(target)
    assert first.status == again.status == 200
    assert first.body == again.body
    held = await world.ask(target, if_none_match=first.headers["etag"])
    assert (held.status, held.body) == (304, b"")


async def test_browsers_that_come_by_tls_come_by_nothing_else(world):
    assert (await world.ask("/", x_forwarded_proto="https")).headers["strict-transport-security"] is None
    async with gateway(trusted_networks="127.0.0.1/32") as proxied:
        answer = await proxied.ask("/", x_forwarded_proto="https")
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
    async with gateway(public_url="https://files.example.com") as other:
        assert (await other.ask("/healthz")).headers["strict-transport-security"] == "max-age=31536000"
    async with gateway(public_url="https://files.example.com", hsts_seconds=0) as other:
        assert (await other.ask("/healthz")).headers["strict-transport-security"] is None
