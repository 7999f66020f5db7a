"""Attacks, by name: each does one thing until its time is over, and tells how it was answered."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import itertools
import json
import os
import random
import secrets
import socket
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

import grpc.aio
from botocore.exceptions import ClientError
from grpc_reflection.v1alpha import reflection_pb2

from stack.embedded_aws import Aws, AwsCredentials
from syncline.auth.v1 import auth_pb2
from syncline.auth.v1.auth_pb2_grpc import AuthServiceStub
from syncline.metadata.v1 import journal_pb2, metadata_pb2
from syncline.model.identifiers import ROOT, new_request_id, new_text_id
from syncline.notify.v1 import notify_pb2
from tests.abuse.means import (
    BROKEN,
    NETWORK,
    PATIENCE_SECONDS,
    UNANSWERED,
    Calls,
    ask,
    basic,
    bearer,
    connected,
    drip,
    finished,
    head,
    keep_asking,
    many,
    sip,
    status,
    unread,
)
from tests.abuse.target import BLOCK_BYTES, LARGE_BYTES, SERVICES, Target
from tests.gateway.client import PASSWORD
from tests.runtime.frames import (
    BEGINNING,
    CALLS_AT_ONCE,
    FLOODS,
    UNACKNOWLEDGED,
    ended_calls,
    fields_of_the_table,
    flood,
    initial_windows,
    message_by_the_byte,
    refused_calls,
    whole_calls,
    window,
)
from tests.runtime.http2 import http2

Attack = Callable[[Target, float], Coroutine[Any, Any, Counter[str]]]
"""Takes the target and the monotonic time at which to end; the answers, each with its number."""

ATTACKS: Final[dict[str, Attack]] = {}


def attack(function: Attack) -> Attack:
    ATTACKS[function.__name__.replace("_", "-")] = function
    return function


# ---- one request that costs much


@attack
async def giant_path(target: Target, until: float) -> Counter[str]:
    """A version check of one path with 1.9 million components."""
    return await _checks(target, until, paths=["a/" * 1_900_000 + "a"], workers=2)


@attack
async def path_of_slashes(target: Target, until: float) -> Counter[str]:
    """A version check of a path of 2,000 slashes."""
    return await _checks(target, until, paths=["/" * 2_000], workers=8)


@attack
async def many_long_paths(target: Target, until: float) -> Counter[str]:
    """A batch at its limit, of paths at theirs."""
    return await _checks(target, until, paths=["a/" * 2_000 + f"{n}" for n in range(900)], workers=4)


async def _checks(target: Target, until: float, *, paths: list[str], workers: int) -> Counter[str]:
    opening = metadata_pb2.CheckVersionsRequest(open=metadata_pb2.CheckVersionsOpen(space_id=target.space))
    batch = metadata_pb2.CheckVersionsBatch(paths=paths, digests=bytes(32 * len(paths)))
    messages = [opening.SerializeToString(), metadata_pb2.CheckVersionsRequest(batch=batch).SerializeToString()]
    async with Calls(target) as calls:
        return await many(workers, until, lambda: finished(calls.both("metadata", "CheckVersions", messages)))


@attack
async def refusals_that_tell_much(target: Target, until: float) -> Counter[str]:
    """A commit of 2,000 names that are taken by a file with many blocks: each refusal may tell of it."""
    request = metadata_pb2.CommitChangesRequest(space_id=target.space)
    for _ in range(2_000):
        request.mutations.add().create.CopyFrom(
            metadata_pb2.CreateNode(parent=ROOT, name="large.bin", kind=journal_pb2.NODE_KIND_DIRECTORY)
        )
    async with Calls(target, connections=15) as calls:
        return await many(15, until, lambda: _commit(calls, request))


async def _commit(calls: Calls, request: metadata_pb2.CommitChangesRequest) -> str:
    request.request_id = new_request_id()
    return await calls.unary("metadata", "CommitChanges", request)


@attack
async def deep_trees(target: Target, until: float) -> Counter[str]:
    """Commits of 1,500 directories, each in the one before: far deeper than a path may be."""
    answers: Counter[str] = Counter()
    async with Calls(target) as calls:

        async def deeper() -> str:
            request_id = new_request_id()
            request = metadata_pb2.CommitChangesRequest(space_id=target.space, request_id=request_id)
            parent, name = bytes(ROOT), new_text_id()
            for index in range(1_500):
                request.mutations.add().create.CopyFrom(
                    metadata_pb2.CreateNode(parent=parent, name=name, kind=journal_pb2.NODE_KIND_DIRECTORY)
                )
                told = b"syncline node\0" + target.space.encode() + b"\0" + request_id + index.to_bytes(4, "big")
                parent, name = hashlib.sha256(told).digest()[:16], "d"
            answer = await calls.unary("metadata", "CommitChanges", request)
            await calls.unary("metadata", "GetNode", metadata_pb2.GetNodeRequest(space_id=target.space, node=parent))
            return answer

        answers += await many(2, until, deeper)
    return answers


@attack
async def declarations_of_nothing(target: Target, until: float) -> Counter[str]:
    """A thousand objects of 16 MiB that do not exist, to be sealed."""
    request = metadata_pb2.SealObjectsRequest(space_id=target.space)
    for _ in range(1_000):
        request.objects.add(sha256=os.urandom(32), size=16 * 1024 * 1024, manifest=metadata_pb2.SerializedManifest())
    async with Calls(target) as calls:
        return await many(4, until, lambda: calls.unary("metadata", "SealObjects", request))


@attack
async def one_object_a_thousand_times(target: Target, until: float) -> Counter[str]:
    """The same object as a thousand packs: each would have to be read."""
    request = metadata_pb2.SealObjectsRequest(space_id=target.space)
    for number in range(1_000):
        entries = metadata_pb2.PackEntries(blocks=os.urandom(32), offsets=[0], lengths=[1 + number % 14])
        request.objects.add(sha256=bytes.fromhex(target.sealed), size=14, pack=entries)
    async with Calls(target) as calls:
        return await many(4, until, lambda: calls.unary("metadata", "SealObjects", request))


@attack
async def pages_of_one(target: Target, until: float) -> Counter[str]:
    """A directory with thousands of children, by pages of one."""
    request = metadata_pb2.ListNodesRequest(space_id=target.space, parent=bytes.fromhex(target.crowd), page_size=1)
    async with Calls(target) as calls:
        return await many(8, until, lambda: calls.unary("metadata", "ListNodes", request))


@attack
async def lists_by_pages_of_one(target: Target, until: float) -> Counter[str]:
    """List the spaces of a person by pages of one, fifty at once, and make a further space with each tenth call."""
    request, numbers = auth_pb2.ListSpacesRequest(page_size=1), itertools.count()
    async with Calls(target) as calls:

        def one() -> Awaitable[str]:
            if next(numbers) % 10:
                return calls.unary("auth", "ListSpaces", request)
            made = auth_pb2.CreateSpaceRequest(request_id=new_request_id(), name=new_text_id())
            return calls.unary("auth", "CreateSpace", made)

        return await many(50, until, one)


@attack
async def giant_message(target: Target, until: float) -> Counter[str]:
    """Messages at the limit of their size, with nothing but unknown fields or one string."""
    message = metadata_pb2.SearchNodesRequest(space_id=target.space, query="a " * 1_900_000).SerializeToString()
    async with Calls(target) as calls:
        return await many(8, until, lambda: calls.unary("metadata", "SearchNodes", message))


@attack
async def giant_e_mail_address(target: Target, until: float) -> Counter[str]:
    """Sign in with an address of a million labels."""
    request = auth_pb2.SignInRequest(email="a@" + "b." * 1_000_000 + "c", password="x" * 8, device_name="x")
    async with Calls(target) as calls:
        return await many(4, until, lambda: calls.unary("auth", "SignIn", request, token=""))


@attack
async def conditions_of_webdav(target: Target, until: float) -> Counter[str]:
    """An `If` header of which a careless parser takes quadratic time."""
    headers = {**basic(target), "If": "(" * 25_000 + "<a>" * 8_000}
    return await many(4, until, lambda: ask(target, "PUT", "/dav/personal/x", headers, b"x"))


@attack
async def numbers_without_end(target: Target, until: float) -> Counter[str]:
    """A lock for a number of seconds that has 40,000 digits, and times at the end of their range."""
    body = b'<lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>'
    locking = {**basic(target), "Timeout": "Second-" + "9" * 40_000}
    time_of_all = {**basic(target), "X-OC-Mtime": "9" * 4_000}
    turns = itertools.cycle(
        [("LOCK", "/dav/personal/locked", locking, body), ("PUT", "/dav/personal/late", time_of_all, b"x")]
    )
    return await many(4, until, lambda: ask(target, *next(turns)))


@attack
async def xml_that_grows(target: Target, until: float) -> Counter[str]:
    """Entities in entities, and elements in elements."""
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    grows = f'<?xml version="1.0"?><!DOCTYPE p [<!ENTITY e0 "x">{entities}]><p xmlns="DAV:">&e9;</p>'.encode()
    deep = b'<propfind xmlns="DAV:">' + b"<prop>" * 50_000 + b"</prop>" * 50_000 + b"</propfind>"
    bodies = itertools.cycle([grows, deep])
    headers = {**basic(target), "Depth": "0"}
    return await many(4, until, lambda: ask(target, "PROPFIND", "/dav/personal/", headers, next(bodies)))


@attack
async def json_that_is_deep(target: Target, until: float) -> Counter[str]:
    """Arrays in arrays, and numbers of many digits."""
    bodies = itertools.cycle([b"[" * 100_000 + b"]" * 100_000, b'{"name": ' + b"9" * 500_000 + b"}"])
    headers = {**bearer(target), "Content-Type": "application/json"}
    return await many(4, until, lambda: ask(target, "POST", "/v1/spaces", headers, next(bodies)))


@attack
async def bodies_that_are_refused_at_their_end(target: Target, until: float) -> Counter[str]:
    """Bodies of JSON and XML near all limits, each with one fault at its end, on twelve kept connections."""
    digest = "a" * 64
    pack = {"blocks": [digest] * 10, "offsets": [1] * 110, "lengths": [1] * 110}
    stored: list[dict[str, Any]] = [{"sha256": digest, "size": 100_000, "pack": pack} for _ in range(999)]
    content = {"digest": digest, "size": 11, "blocks": [[digest, 1]] * 11}
    creates = [{"create": {"parent": "root", "name": f"{n}", "kind": "file", "content": content}} for n in range(1_000)]
    space = f"/v1/spaces/{target.space}"
    properties = "".join(f"<p{n}/>" for n in range(4_900))
    attributes = " ".join(f'a{n}=""' for n in range(25_000))
    told = [
        ("POST", f"{space}/objects", {"objects": [*stored, {"sha256": "x", "size": 1}]}),
        ("POST", f"{space}/changes", {"changes": [*creates, {"create": {}}]}),
        ("POST", f"{space}/uploads", {"objects": ["\\u0041" * 500_000]}),
    ]
    requests = [
        _with_body(method, path, bearer(target) | {"Content-Type": "application/json"}, json.dumps(body).encode())
        for method, path, body in told
    ]
    requests += [
        _with_body("PROPFIND", "/dav/personal/", basic(target) | {"Depth": "0"}, body.encode())
        for body in (
            f'<propfind xmlns="DAV:"><prop>{properties}</prop></propfin>',
            f'<propfind xmlns="DAV:" {attributes}></propfin>',
        )
    ]
    return await keep_asking(target, requests, connections=12, until=until)


def _with_body(method: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    return head(method, path, {**headers, "Content-Length": str(len(body))}) + body


@attack
async def ranges_of_a_byte(target: Target, until: float) -> Counter[str]:
    """Thirty at once read single bytes of a file of many blocks."""
    rng, path = random.Random(1), f"/v1/spaces/{target.space}/nodes/{target.large}/content"

    def one() -> Awaitable[str]:
        at = rng.randrange(LARGE_BYTES)
        return ask(target, "GET", path, {**bearer(target), "Range": f"bytes={at}-{at}"})

    return await many(30, until, one)


@attack
async def a_thousand_ranges(target: Target, until: float) -> Counter[str]:
    """Ask for a thousand ranges of one file at once."""
    ranges = ",".join(f"{n}-{n}" for n in range(1_000))
    path = f"/v1/spaces/{target.space}/nodes/{target.large}/content"
    return await many(8, until, lambda: ask(target, "GET", path, {**bearer(target), "Range": f"bytes={ranges}"}))


@attack
async def headers_without_end(target: Target, until: float) -> Counter[str]:
    """Ten thousand headers, and one of a megabyte."""
    turns = itertools.cycle([{f"X-{n}": "x" * 90 for n in range(10_000)}, {"X-Long": "x" * 1_000_000}])
    return await many(8, until, lambda: ask(target, "GET", "/.well-known/syncline", next(turns)))


# ---- many requests


def _of_nobody() -> list[bytes]:
    """Requests of each kind that needs no account."""
    posted = {"Content-Type": "application/json", "Content-Length": "60000"}
    untyped = {"Content-Type": "text/plain", "Content-Length": "5"}
    return [
        *(head("GET", path, {}) for path in ("/", "/docs", "/web/app.js", "/openapi.json", "/l/abcdefgh")),
        *(head("GET", path, {}) for path in ("/healthz", "/readyz", "/.well-known/syncline", "/.well-known/jwks.json")),
        *(head("GET", path, {}) for path in ("/v1/spaces", "/nothing", "/v1/nothing", "/v1/links/x/nodes/root")),
        *(head("GET", f"/v1/nothing?{'q=1&' * 199}", {}) for _ in range(1)),
        head("HEAD", "/", {}),
        head("GET", "/", {"If-None-Match": "*"}),
        head("DELETE", "/v1/spaces", {}),
        head("OPTIONS", "/v1/spaces", {"Origin": "http://elsewhere", "Access-Control-Request-Method": "GET"}),
        head("GET", "/dav", {}),
        head("OPTIONS", "/dav/", {}),
        head("PROPFIND", "/dav/personal/", {"Depth": "1"}),
        head("POST", "/v1/sessions", untyped) + b"hello",
        head("POST", "/v1/sessions", posted) + b"[" * 60_000,
        head("POST", "/v1/sessions", posted) + b'{"email":"' + b"\\u0041" * 9_998 + b'"}',
    ]


@attack
async def requests_of_nobody(target: Target, until: float) -> Counter[str]:
    """Ask all operations that need no account on 64 kept connections, as fast as they are answered."""
    return await keep_asking(target, _of_nobody(), connections=64, until=until)


@attack
async def refusals_of_nobody(target: Target, until: float) -> Counter[str]:
    """Ask operations that need an account, without one, on 64 kept connections."""
    return await keep_asking(target, [head("GET", "/v1/spaces", {})], connections=64, until=until)


@attack
async def description_of_the_api(target: Target, until: float) -> Counter[str]:
    """The largest answer that anybody may have, asked on 64 kept connections."""
    return await keep_asking(target, [head("GET", "/openapi.json", {})], connections=64, until=until)


@attack
async def guessed_passwords(target: Target, until: float) -> Counter[str]:
    """150 sign-ins at once without an account, one password against many addresses."""

    def one() -> Awaitable[str]:
        body = {"email": f"{new_text_id()}@example.com", "password": "a wrong password", "device_name": "x"}
        return _post(target, "/v1/sessions", body)

    return await many(150, until, one)


@attack
async def guessed_password_of_one(target: Target, until: float) -> Counter[str]:
    """Thirty at once guess the innocent person's password."""
    body = {"email": target.victim, "password": "a wrong password", "device_name": "x"}
    return await many(30, until, lambda: _post(target, "/v1/sessions", body))


@attack
async def accounts_without_end(target: Target, until: float) -> Counter[str]:
    """Fifty at once sign new people up."""

    def one() -> Awaitable[str]:
        body = {"email": f"{new_text_id()}@example.com", "password": PASSWORD, "device_name": "x"}
        return _post(target, "/v1/accounts", body)

    return await many(50, until, one)


@attack
async def guessed_password_of_a_link(target: Target, until: float) -> Counter[str]:
    """Fifty at once guess the password of the innocent person's link."""
    return await many(
        50, until, lambda: _post(target, "/v1/links/open", {"token": target.guarded, "password": new_text_id()})
    )


@attack
async def guessed_links(target: Target, until: float) -> Counter[str]:
    """Fifty at once guess the secrets of links."""
    return await many(50, until, lambda: _post(target, "/v1/links/open", {"token": secrets.token_urlsafe(16)}))


@attack
async def made_up_keys(target: Target, until: float) -> Counter[str]:
    """Keys with a right form that were never made, each another: auth is asked for each."""

    def one() -> Awaitable[str]:
        key = f"syk_{new_text_id()}{new_text_id()}{'x' * 17}"
        return ask(target, "GET", "/v1/spaces", {"Authorization": f"Bearer {key}"})

    return await many(50, until, one)


@attack
async def false_tokens(target: Target, until: float) -> Counter[str]:
    """Tokens with a right form and a wrong signature, each another."""
    form = target.token.rsplit(".", 1)[0]

    def one() -> Awaitable[str]:
        return ask(target, "GET", "/v1/spaces", {"Authorization": f"Bearer {form}.{os.urandom(48).hex()}"})

    return await many(50, until, one)


@attack
async def commits_without_end(target: Target, until: float) -> Counter[str]:
    """Commits at the limit of their size, by eight at once."""

    def one() -> metadata_pb2.CommitChangesRequest:
        request = metadata_pb2.CommitChangesRequest(space_id=target.space)
        for _ in range(2_000):
            create = metadata_pb2.CreateNode(parent=ROOT, name=new_text_id(), kind=journal_pb2.NODE_KIND_DIRECTORY)
            request.mutations.add().create.CopyFrom(create)
        return request

    async with Calls(target) as calls:
        return await many(8, until, lambda: _commit(calls, one()))


@attack
async def commits_where_others_work(target: Target, until: float) -> Counter[str]:
    """Many small commits in the space that the innocent person works in too."""

    def one() -> metadata_pb2.CommitChangesRequest:
        request = metadata_pb2.CommitChangesRequest(space_id=target.shared)
        create = metadata_pb2.CreateNode(parent=ROOT, name=new_text_id(), kind=journal_pb2.NODE_KIND_DIRECTORY)
        request.mutations.add().create.CopyFrom(create)
        return request

    async with Calls(target) as calls:
        return await many(40, until, lambda: _commit(calls, one()))


@attack
async def searches(target: Target, until: float) -> Counter[str]:
    """Twenty at once search for what most names contain."""
    request = metadata_pb2.SearchNodesRequest(space_id=target.space, query="0", page_size=1_000)
    async with Calls(target) as calls:
        return await many(20, until, lambda: calls.unary("metadata", "SearchNodes", request))


@attack
async def reads_without_end(target: Target, until: float) -> Counter[str]:
    """One node, read over and over by fifty at once on ten connections: beyond the rate of a person, refusals."""
    request = metadata_pb2.GetNodeRequest(space_id=target.space, path="crowd")
    async with Calls(target, connections=10) as calls:
        return await many(50, until, lambda: calls.unary("metadata", "GetNode", request))


@attack
async def checks_without_end(target: Target, until: float) -> Counter[str]:
    """Version checks of a thousand paths a message, whose answers are read, on more streams than a person may have."""
    opening = metadata_pb2.CheckVersionsRequest(open=metadata_pb2.CheckVersionsOpen(space_id=target.space))
    paths = [f"crowd/{n:06}" for n in range(1_000)]
    batch = metadata_pb2.CheckVersionsBatch(paths=paths, digests=bytes(32 * len(paths)))
    messages = [opening.SerializeToString()]
    messages += [metadata_pb2.CheckVersionsRequest(batch=batch).SerializeToString()] * 50
    async with Calls(target, connections=10) as calls:
        return await many(100, until, lambda: finished(calls.both("metadata", "CheckVersions", messages)))


@attack
async def questions_of_objects(target: Target, until: float) -> Counter[str]:
    """Ask which of ten thousand objects are missing, over and over."""
    request = metadata_pb2.FindMissingObjectsRequest(space_id=target.space, objects=os.urandom(32 * 10_000))
    async with Calls(target) as calls:
        return await many(10, until, lambda: calls.unary("metadata", "FindMissingObjects", request))


@attack
async def questions_of_new_objects(target: Target, until: float) -> Counter[str]:
    """Ask which of ten thousand objects are missing that nobody asked for before, with 16 calls at once."""
    return await _questions(target, until, workers=16)


@attack
async def many_questions_of_new_objects(target: Target, until: float) -> Counter[str]:
    """The same with 48 calls at once."""
    return await _questions(target, until, workers=48)


async def _questions(target: Target, until: float, *, workers: int) -> Counter[str]:
    async with Calls(target, connections=16) as calls:

        def one() -> Awaitable[str]:
            objects = os.urandom(32 * 10_000)
            request = metadata_pb2.FindMissingObjectsRequest(space_id=target.space, objects=objects)
            return calls.unary("metadata", "FindMissingObjects", request)

        return await many(workers, until, one)


@attack
async def credentials_without_end(target: Target, until: float) -> Counter[str]:
    """Ask for S3 credentials over and over."""
    request = auth_pb2.IssueCredentialsRequest(space_id=target.space, access=auth_pb2.ACCESS_WRITE)
    async with Calls(target) as calls:
        return await many(30, until, lambda: calls.unary("auth", "IssueCredentials", request))


@attack
async def spaces_without_end(target: Target, until: float) -> Counter[str]:
    """Make space after space."""
    return await many(20, until, lambda: _post(target, "/v1/spaces", {"name": new_text_id()}, bearer(target)))


@attack
async def keys_without_end(target: Target, until: float) -> Counter[str]:
    """Make key after key."""
    expiry = int((time.time() + 86_400) * 1000)

    def one() -> Awaitable[str]:
        return _post(target, "/v1/keys", {"name": new_text_id(), "expires_at_ms": expiry}, bearer(target))

    return await many(20, until, one)


@attack
async def links_without_end(target: Target, until: float) -> Counter[str]:
    """Make link after link."""
    body = {"node": target.small}
    path = f"/v1/spaces/{target.space}/links"
    return await many(20, until, lambda: _post(target, path, body, bearer(target)))


@attack
async def invitations_without_end(target: Target, until: float) -> Counter[str]:
    """A space that is shared with the innocent person and taken back, over and over."""
    path = f"/v1/spaces/{target.lure}/members/{target.victim}"
    headers = {**bearer(target), "Content-Type": "application/json"}
    turns = itertools.cycle([("PUT", headers, b'{"role": "viewer"}'), ("DELETE", bearer(target), b"")])

    def one() -> Awaitable[str]:
        method, sent, body = next(turns)
        return ask(target, method, path, sent, body)

    return await many(10, until, one)


@attack
async def directories_over_webdav(target: Target, until: float) -> Counter[str]:
    """A directory with thousands of children, listed with all properties by twenty at once."""
    headers = {**basic(target), "Depth": "1"}
    return await many(20, until, lambda: ask(target, "PROPFIND", "/dav/personal/crowd/", headers))


@attack
async def large_properties_over_webdav(target: Target, until: float) -> Counter[str]:
    """A directory whose files have nearly 32 KiB of properties each, listed over and over by twelve at once."""
    began = time.monotonic()
    path = f"/dav/personal/properties-{secrets.token_hex(4)}"
    told = "".join(f'<a{number} xmlns="u">{"v" * 1400}</a{number}>' for number in range(20))
    update = f'<D:propertyupdate xmlns:D="DAV:"><D:set><D:prop>{told}</D:prop></D:set></D:propertyupdate>'.encode()
    for method, at, body in (("MKCOL", path, b""), ("PUT", f"{path}/0", b"x"), ("PROPPATCH", f"{path}/0", update)):
        await ask(target, method, at, basic(target), body)

    async def copied(numbers: Iterator[int]) -> None:
        for number in numbers:
            await ask(target, "COPY", f"{path}/0", {"Destination": f"{path}/{number}", **basic(target)})

    numbers = iter(range(1, 40))
    await asyncio.gather(*(copied(numbers) for _ in range(12)))
    until += time.monotonic() - began
    headers = {"Depth": "1", **basic(target)}
    return await many(12, until, lambda: ask(target, "PROPFIND", path, headers))


@attack
async def pages_over_http(target: Target, until: float) -> Counter[str]:
    """A directory with thousands of children: whole pages and pages of one, on sixty kept connections."""
    path = f"/v1/spaces/{target.space}/nodes/{target.crowd}/children?page_size="
    asked = [head("GET", f"{path}{size}", bearer(target)) for size in (1000, 1)]
    return await keep_asking(target, asked, connections=60, until=until)


@attack
async def searches_over_http(target: Target, until: float) -> Counter[str]:
    """Forty at once search for what most names contain."""
    asked = [head("GET", f"/v1/spaces/{target.space}/search?q=0&page_size=1000", bearer(target))]
    return await keep_asking(target, asked, connections=40, until=until)


@attack
async def histories_over_http(target: Target, until: float) -> Counter[str]:
    """Activity, trash and versions of a large space, on forty kept connections."""
    paths = (f"nodes/{target.large}/versions", "trash?page_size=1000", "activity?page_size=1000")
    asked = [head("GET", f"/v1/spaces/{target.space}/{path}", bearer(target)) for path in paths]
    return await keep_asking(target, asked, connections=40, until=until)


@attack
async def addresses_to_upload_to(target: Target, until: float) -> Counter[str]:
    """Signed addresses for a hundred objects, asked for over and over by forty at once."""
    objects = [{"sha256": os.urandom(32).hex(), "size": 1_000} for _ in range(100)]
    body = json.dumps({"objects": objects}).encode()
    headers = {**bearer(target), "Content-Type": "application/json"}
    asked = [_with_body("POST", f"/v1/spaces/{target.space}/uploads", headers, body)]
    return await keep_asking(target, asked, connections=40, until=until)


@attack
async def refreshes_without_end(target: Target, until: float) -> Counter[str]:
    """Refresh tokens that were never handed out, traded in over and over."""

    def one() -> Awaitable[str]:
        return _post(target, "/v1/sessions/refresh", {"refresh_token": f"{new_text_id()}.{secrets.token_urlsafe(32)}"})

    return await many(50, until, one)


@attack
async def locks_without_end(target: Target, until: float) -> Counter[str]:
    """A lock on a name after the other, thirty at once."""
    body = b'<lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>'
    headers = {**basic(target), "Timeout": "Second-60"}
    return await many(30, until, lambda: ask(target, "LOCK", f"/dav/personal/{new_text_id()}", headers, body))


@attack
async def copies_of_a_crowd(target: Target, until: float) -> Counter[str]:
    """A directory with thousands of children is copied over WebDAV, six times at once."""

    def one() -> Awaitable[str]:
        headers = {**basic(target), "Destination": f"/dav/personal/copy-{new_text_id()}"}
        return ask(target, "COPY", "/dav/personal/crowd", headers)

    return await many(6, until, one)


@attack
async def moves_of_a_crowd(target: Target, until: float) -> Counter[str]:
    """A directory with thousands of children is moved into another one and back, and looked into meanwhile."""
    began = time.monotonic()
    with suppress(TimeoutError):  # Copies of an earlier attack may still be under way.
        await ask(target, "MKCOL", "/dav/personal/elsewhere", basic(target))
    until += time.monotonic() - began
    places = ["/dav/personal/crowd", "/dav/personal/elsewhere/crowd"]
    search = metadata_pb2.SearchNodesRequest(space_id=target.space, query="00", page_size=1_000)
    moved = 0

    async def move() -> str:
        nonlocal moved
        moved += 1
        headers = {**basic(target), "Destination": places[moved % 2]}
        return await ask(target, "MOVE", places[1 - moved % 2], headers)

    async with Calls(target) as calls:
        looking = many(4, until, lambda: calls.unary("metadata", "SearchNodes", search))
        moves, looks = await asyncio.gather(many(1, until, move), looking)
    with suppress(TimeoutError):
        await ask(target, "MOVE", places[1], {**basic(target), "Destination": places[0]})
    return moves + looks


@attack
async def archives_of_a_crowd(target: Target, until: float) -> Counter[str]:
    """Archives of a directory with thousands of entries, taken as fast as they come, thirty at once."""
    path = f"/v1/spaces/{target.space}/nodes/{target.crowd}/archive"
    return await many(30, until, lambda: ask(target, "GET", path, bearer(target)))


async def _cut(target: Target, path: str) -> str:
    async with connected(target) as (reader, writer):
        writer.write(head("GET", path, bearer(target)))
        answer = await status(reader)
        await reader.read(1_000)
        writer.transport.abort()
        return answer


@attack
async def archives_cut_and_begun_again(target: Target, until: float) -> Counter[str]:
    """Archives that are cut after their first bytes, thirty at once, over and over."""
    path = f"/v1/spaces/{target.space}/nodes/root/archive"
    return await many(30, until, lambda: _cut(target, path))


@attack
async def downloads_cut_and_begun_again(target: Target, until: float) -> Counter[str]:
    """Downloads of a large file that are cut after their first bytes, sixty at once, over and over."""
    path = f"/v1/spaces/{target.space}/nodes/{target.large}/content"
    return await many(60, until, lambda: _cut(target, path))


@attack
async def uploads_begun_and_given_up(target: Target, until: float) -> Counter[str]:
    """Files of eight megabytes by WebDAV of which half is sent, thirty at once, over and over."""
    half = random.Random(3).randbytes(4_000_000)

    async def one() -> str:
        async with connected(target) as (_, writer):
            headers = {**basic(target), "Content-Length": str(2 * len(half))}
            writer.write(head("PUT", f"/dav/personal/given-up-{new_text_id()}", headers))
            writer.write(half)
            await writer.drain()
            writer.transport.abort()
            return "given up"

    return await many(30, until, one)


@attack
async def connections_that_are_half_closed(target: Target, until: float) -> Counter[str]:
    """Requests after which nothing more can come, while their large answers are not read, on 300 connections."""
    path = f"/v1/spaces/{target.space}/nodes/{target.crowd}/children"

    async def one() -> str:
        async with connected(target) as (reader, writer):
            writer.write(head("GET", path, bearer(target)))
            writer.write_eof()
            answer = await status(reader)
            await asyncio.sleep(max(0.0, min(2.0, until - time.monotonic())))
            return answer

    return await many(300, until, one)


async def _post(target: Target, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> str:
    sent = {**(headers or {}), "Content-Type": "application/json"}
    return await ask(target, "POST", path, sent, json.dumps(body).encode())


@attack
async def uploads_without_a_seal(target: Target, until: float) -> Counter[str]:
    """Objects put straight into S3, as devices do, and never sealed."""
    request = auth_pb2.IssueCredentialsRequest(space_id=target.space, access=auth_pb2.ACCESS_WRITE)
    async with grpc.aio.insecure_channel(f"{target.host}:{target.ports['auth']}") as channel:
        auth: Any = AuthServiceStub(channel)
        issued = await auth.IssueCredentials(request, metadata=[("authorization", f"Bearer {target.token}")])
    keys = AwsCredentials(issued.access_key_id, issued.secret_access_key, issued.session_token)
    async with Aws(endpoint=target.storage, root=keys).client("s3", max_pool_connections=20) as s3:

        async def one() -> str:
            body = os.urandom(64 * 1024)
            digest = hashlib.sha256(body)
            try:
                await s3.put_object(
                    Bucket=issued.bucket,
                    Key=issued.key_prefix + digest.hexdigest(),
                    Body=body,
                    IfNoneMatch="*",
                    ChecksumSHA256=base64.b64encode(digest.digest()).decode(),
                )
            except ClientError as error:
                return str(error.response["Error"]["Code"])
            return "200"

        return await many(20, until, one)


@attack
async def packs_that_are_none(target: Target, until: float) -> Counter[str]:
    """Small objects that are put into S3 and declared as packs of blocks that they do not have."""
    request = auth_pb2.IssueCredentialsRequest(space_id=target.space, access=auth_pb2.ACCESS_WRITE)
    async with grpc.aio.insecure_channel(f"{target.host}:{target.ports['auth']}") as channel:
        auth: Any = AuthServiceStub(channel)
        issued = await auth.IssueCredentials(request, metadata=[("authorization", f"Bearer {target.token}")])
    keys = AwsCredentials(issued.access_key_id, issued.secret_access_key, issued.session_token)
    aws = Aws(endpoint=target.storage, root=keys)
    async with aws.client("s3", max_pool_connections=20) as s3, Calls(target) as metadata:

        async def one() -> str:
            declared = metadata_pb2.SealObjectsRequest(space_id=target.space)
            for _ in range(20):
                body = os.urandom(64)
                digest = hashlib.sha256(body).digest()
                await s3.put_object(
                    Bucket=issued.bucket,
                    Key=issued.key_prefix + digest.hex(),
                    Body=body,
                    IfNoneMatch="*",
                    ChecksumSHA256=base64.b64encode(digest).decode(),
                )
                entries = metadata_pb2.PackEntries(blocks=os.urandom(64), offsets=[0, 32], lengths=[32, 32])
                declared.objects.add(sha256=digest, size=64, pack=entries)
            return await metadata.unary("metadata", "SealObjects", declared)

        return await many(10, until, one)


# ---- slow ones


@attack
async def storage_that_is_not_read(target: Target, until: float) -> Counter[str]:
    """Objects that the embedded S3 is asked for and that nobody reads, on 400 connections."""
    began = time.monotonic()
    request = auth_pb2.IssueCredentialsRequest(space_id=target.space, access=auth_pb2.ACCESS_READ)
    async with grpc.aio.insecure_channel(f"{target.host}:{target.ports['auth']}") as channel:
        auth: Any = AuthServiceStub(channel)
        issued = await auth.IssueCredentials(request, metadata=[("authorization", f"Bearer {target.token}")])
    keys = AwsCredentials(issued.access_key_id, issued.secret_access_key, issued.session_token)
    # The first block of the large file, as the target makes it.
    digest = hashlib.sha256(random.Random(0).randbytes(BLOCK_BYTES)).hexdigest()
    async with Aws(endpoint=target.storage, root=keys).client("s3") as s3:
        wanted = {"Bucket": issued.bucket, "Key": issued.key_prefix + digest}
        address = urlsplit(await s3.generate_presigned_url("get_object", Params=wanted))
    until += time.monotonic() - began

    async def one() -> str:
        reader, writer = await asyncio.open_connection(address.hostname, address.port, local_addr=(NETWORK, 0))
        try:
            writer.write(f"GET {address.path}?{address.query} HTTP/1.1\r\nhost: {address.netloc}\r\n\r\n".encode())
            answer = await status(reader)
            await asyncio.sleep(max(0.0, until - time.monotonic()))
            return answer
        finally:
            writer.transport.abort()

    return await many(400, until, one)


@attack
async def unread_checks(target: Target, until: float) -> Counter[str]:
    """Version checks whose answers are never read."""
    opening = metadata_pb2.CheckVersionsRequest(open=metadata_pb2.CheckVersionsOpen(space_id=target.space))
    paths = [f"crowd/{n:06}" for n in range(1_000)]
    batch = metadata_pb2.CheckVersionsBatch(paths=paths, digests=bytes(32 * len(paths)))
    message = metadata_pb2.CheckVersionsRequest(batch=batch).SerializeToString()

    async def one(call: Any) -> None:
        try:
            await call.write(opening.SerializeToString())
            while True:
                await call.write(message)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            pass  # ended by the server; `unread` tells how

    async with Calls(target, connections=15) as calls:
        opened = [calls.both("metadata", "CheckVersions") for _ in range(30)]
        writers = [asyncio.create_task(one(call)) for call in opened]
        answers = await unread(opened, until)
        await asyncio.gather(*writers, return_exceptions=True)
    return answers


@attack
async def unread_changes(target: Target, until: float) -> Counter[str]:
    """Two hundred histories that nobody reads."""
    request = metadata_pb2.ListChangesRequest(space_id=target.space)
    async with Calls(target, connections=20) as calls:
        return await unread([calls.stream("metadata", "ListChanges", request) for _ in range(200)], until)


@attack
async def watches_without_end(target: Target, until: float) -> Counter[str]:
    """Open a thousand watches, of which nobody reads."""
    request = notify_pb2.WatchRequest(space_ids=[target.space])
    async with Calls(target, connections=20) as calls:
        return await unread([calls.stream("notify", "Watch", request) for _ in range(1_000)], until)


@attack
async def events_without_end(target: Target, until: float) -> Counter[str]:
    """Three hundred event streams of one person, and nothing read."""
    path = f"/v1/events?space={target.space}"
    return await many(300, until, lambda: sip(target, "GET", path, bearer(target), until))


@attack
async def slow_visitors(target: Target, until: float) -> Counter[str]:
    """Forty visitors of a public link who read slowly."""
    opened = await _open_link(target)
    path = f"/v1/links/{opened['link_id']}/nodes/{target.linked}/content"
    headers = {"Authorization": f"Bearer {opened['access_token']}"}
    return await many(40, until, lambda: sip(target, "GET", path, headers, until))


async def _open_link(target: Target) -> dict[str, Any]:
    async with connected(target) as (reader, writer):
        body = json.dumps({"token": target.link}).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
        writer.write(head("POST", "/v1/links/open", headers) + body)
        answer = (await reader.read(-1)).split(b"\r\n\r\n", 1)[1]
        opened: dict[str, Any] = json.loads(answer[answer.index(b"{") : answer.rindex(b"}") + 1])
        return opened


@attack
async def slow_readers_with_an_account(target: Target, until: float) -> Counter[str]:
    """Sixty at once read a large file slowly."""
    path = f"/v1/spaces/{target.space}/nodes/{target.large}/content"
    return await many(60, until, lambda: sip(target, "GET", path, bearer(target), until))


@attack
async def slow_archives(target: Target, until: float) -> Counter[str]:
    """Archives of a directory with thousands of entries, read slowly."""
    path = f"/v1/spaces/{target.space}/nodes/root/archive"
    return await many(20, until, lambda: sip(target, "GET", path, bearer(target), until))


@attack
async def slow_uploads_over_webdav(target: Target, until: float) -> Counter[str]:
    """Forty bodies of which a byte comes in a second."""
    headers = {**basic(target), "Content-Length": "1000000"}
    numbers = itertools.count()
    return await many(
        40, until, lambda: drip(target, head("PUT", f"/dav/personal/slow{next(numbers)}", headers) + b"x", until)
    )


@attack
async def slow_properties(target: Target, until: float) -> Counter[str]:
    """Forty listings over WebDAV that are read slowly."""
    headers = {**basic(target), "Depth": "1"}
    return await many(40, until, lambda: sip(target, "PROPFIND", "/dav/personal/crowd/", headers, until))


@attack
async def bodies_of_one_byte_chunks(target: Target, until: float) -> Counter[str]:
    """Files by WebDAV in 20,000 chunks of a byte each."""
    names = itertools.count()
    body = b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n"

    async def one() -> str:
        async with connected(target) as (reader, writer):
            headers = {**basic(target), "Transfer-Encoding": "chunked"}
            writer.write(head("PUT", f"/dav/personal/chunks-{next(names) % 10}", headers) + body)
            return await status(reader)

    return await many(12, until, one)


@attack
async def pieces_of_one_byte(target: Target, until: float) -> Counter[str]:
    """Bodies on 200 connections, of which each sends a chunk of one byte as often as it can."""

    async def one() -> str:
        async with connected(target) as (reader, writer):
            headers = {**basic(target), "Transfer-Encoding": "chunked"}
            writer.write(head("PUT", f"/dav/personal/pieces-{new_text_id()}", headers))
            answer = asyncio.ensure_future(status(reader))
            while time.monotonic() < until and not answer.done():
                writer.write(b"1\r\nx\r\n")
                await writer.drain()
                await asyncio.sleep(0.01)
            writer.write(b"0\r\n\r\n")
            return await answer

    return await many(200, until, one)


@attack
async def requests_sent_ahead(target: Target, until: float) -> Counter[str]:
    """Sixteen small requests in one piece, over and over, on 64 connections: HEAD, what has not changed, and pages."""
    told = [head("HEAD", "/", {}), head("GET", "/", {"If-None-Match": "*"}), head("GET", "/healthz", {})]
    ahead = [b"".join(itertools.islice(itertools.cycle(told), 16))]
    answers: Counter[str] = Counter()

    async def one() -> str:
        async with connected(target) as (reader, writer):
            while time.monotonic() < until:
                writer.write(ahead[0])
                answers[await status(reader)] += 1
                await reader.read(1 << 16)
        return "a connection"

    return answers + await many(64, until, one)


@attack
async def expectations_without_end(target: Target, until: float) -> Counter[str]:
    """Requests that wait to be told to go on, and never do."""
    headers = {**basic(target), "Expect": "100-continue", "Content-Length": "1000000"}

    async def one() -> str:
        async with connected(target) as (reader, writer):
            writer.write(head("PUT", "/dav/personal/expected", headers))
            return await status(reader)

    return await many(100, until, one)


@attack
async def requests_for_another_protocol(target: Target, until: float) -> Counter[str]:
    """Upgrades with bodies, which a careless parser takes for further requests."""
    inner = head("DELETE", "/dav/personal/0.txt", basic(target))
    headers = {**basic(target), "Connection": "upgrade", "Upgrade": "h2c", "Content-Length": str(len(inner))}
    return await many(20, until, lambda: _raw_status(target, head("PUT", "/dav/personal/up", headers) + inner))


async def _raw_status(target: Target, request: bytes) -> str:
    async with connected(target) as (reader, writer):
        writer.write(request)
        return await status(reader)


@attack
async def connections_to_storage(target: Target, until: float) -> Counter[str]:
    """Hold as many connections to storage as there are, with half a head on each."""
    host, _, port = target.storage.rpartition("/")[2].partition(":")

    async def one() -> str:
        reader, writer = await asyncio.open_connection(host, int(port), local_addr=(NETWORK, 0))
        try:
            writer.write(b"GET /x HTTP/1.1\r\nhost:")
            left = max(0.0, until - time.monotonic())
            with suppress(TimeoutError):
                return (await asyncio.wait_for(reader.readline(), left)).split()[1].decode()
            return UNANSWERED
        finally:
            writer.transport.abort()

    return await many(2_500, until, one)


@attack
async def large_files_over_webdav(target: Target, until: float) -> Counter[str]:
    """Twenty-four files of eight megabytes at once, as fast as they are taken."""
    rng, names = random.Random(2), itertools.count()
    bodies = [rng.randbytes(8_000_000) for _ in range(4)]

    def one() -> Awaitable[str]:
        number = next(names)
        return ask(target, "PUT", f"/dav/personal/large-{number % 24}", basic(target), bodies[number % 4])

    return await many(24, until, one)


@attack
async def small_files_over_webdav(target: Target, until: float) -> Counter[str]:
    """Forty small files at once, each saved over and over."""
    names = itertools.count()
    return await many(
        40, until, lambda: ask(target, "PUT", f"/dav/personal/small-{next(names) % 40}", basic(target), b"some bytes")
    )


@attack
async def bodies_of_nobody(target: Target, until: float) -> Counter[str]:
    """Four hundred bodies of four megabytes without an account, of which the last byte never comes."""
    headers = {"Content-Type": "application/json", "Content-Length": "4000000"}
    request = head("POST", "/v1/sessions", headers) + b'"' + b"x" * 3_900_000
    return await many(400, until, lambda: drip(target, request, until))


@attack
async def heads_without_end(target: Target, until: float) -> Counter[str]:
    """A thousand connections on which a request never comes to its end."""
    request = b"GET /v1/spaces HTTP/1.1\r\nHost: x\r\nX: "
    return await many(1_000, until, lambda: drip(target, request, until))


@attack
async def calls_begun_and_given_up(target: Target, until: float) -> Counter[str]:
    """Calls that are cancelled as soon as they have begun."""
    request = metadata_pb2.ListChangesRequest(space_id=target.space)

    async with Calls(target) as calls:

        async def one() -> str:
            call = calls.stream("metadata", "ListChanges", request)
            await asyncio.sleep(0)
            call.cancel()
            await asyncio.sleep(0.001)
            return "given up"

        return await many(50, until, one)


# ---- connections


async def _unfinished(
    target: Target, until: float, service: str, path: str, *, token: str = "", connections: int = 20, calls: int = 100
) -> Counter[str]:
    """Calls whose requests of 3.9 MB lack their last byte; with each answer another one begins."""
    answers: Counter[str] = Counter()

    async def one() -> None:
        while time.monotonic() < until:
            async with http2(f"{target.host}:{target.ports[service]}", source=NETWORK) as raw:
                for _ in range(calls):
                    raw.begin(path, token=token, message_bytes=3_900_000)
                with suppress(TimeoutError):
                    await raw.until(lambda: len(raw.codes) >= calls or raw.closed, seconds=until - time.monotonic())
                answers.update(f"code {code}" for code in raw.codes.values())
                answers["unanswered"] += calls - len(raw.codes)

    await asyncio.gather(*(one() for _ in range(connections)))
    return answers


@attack
async def requests_of_nobody_without_end(target: Target, until: float) -> Counter[str]:
    """Two thousand requests of four megabytes, without a token, of which the last byte never comes."""
    return await _unfinished(target, until, "metadata", "/syncline.metadata.v1.MetadataService/SearchNodes")


@attack
async def requests_without_end(target: Target, until: float) -> Counter[str]:
    """The same of somebody who is known."""
    path = "/syncline.metadata.v1.MetadataService/SearchNodes"
    return await _unfinished(target, until, "metadata", path, token=target.token)


@attack
async def sign_ins_without_end(target: Target, until: float) -> Counter[str]:
    """Sign-ins, which need no token, of which the last byte never comes."""
    return await _unfinished(target, until, "auth", "/syncline.auth.v1.AuthService/SignIn", connections=5)


@attack
async def version_checks_without_end(target: Target, until: float) -> Counter[str]:
    """Version checks whose first message never comes to its end."""
    path = "/syncline.metadata.v1.MetadataService/CheckVersions"
    return await _unfinished(target, until, "metadata", path, token=target.token, connections=4)


@attack
async def health_without_end(target: Target, until: float) -> Counter[str]:
    """Questions for the health of a service of which the last byte never comes, and health that is watched."""
    asked, watched = await asyncio.gather(
        _unfinished(target, until, "metadata", "/grpc.health.v1.Health/Check", connections=2, calls=20),
        _unfinished(target, until, "notify", "/grpc.health.v1.Health/Watch", connections=2, calls=20),
    )
    return asked + watched


@attack
async def reflection_without_end(target: Target, until: float) -> Counter[str]:
    """Questions of some bytes, each answered by tens of kilobytes."""
    question = reflection_pb2.ServerReflectionRequest(
        file_containing_symbol="syncline.metadata.v1.MetadataService"
    ).SerializeToString()

    async def one(channel: grpc.aio.Channel) -> str:
        asking: Any = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        return await finished(asking(iter([question] * 50)))

    async with grpc.aio.insecure_channel(f"{target.host}:{target.ports['metadata']}") as channel:
        return await many(30, until, lambda: one(channel))


async def _flooded(target: Target, until: float, frames: tuple[bytes, bytes], *, connections: int) -> Counter[str]:
    """These frames at each service and the gateway."""
    places = [target.gateway, *((target.host, target.ports[name]) for name in SERVICES)]
    told = await asyncio.gather(
        *(flood(host, port, frames, until, connections=connections, source=NETWORK) for host, port in places)
    )
    return Counter({"MB sent": sum(sent for sent, _ in told) // 1_000_000, "closed": sum(ended for _, ended in told)})


@attack
async def frames_without_end(target: Target, until: float) -> Counter[str]:
    """Frames of HTTP/2 that are no calls: one kind after the other, as fast as they are taken."""
    answers: Counter[str] = Counter()
    began = time.monotonic()
    for number, frames in enumerate(FLOODS.values(), 1):
        ends = began + (until - began) * number / len(FLOODS)
        answers += await _flooded(target, ends, frames, connections=1)
    return answers


@attack
async def metadata_without_end(target: Target, until: float) -> Counter[str]:
    """Headers of one call that do not end, over connections that do not acknowledge the settings of the server."""
    return await _flooded(target, until, UNACKNOWLEDGED, connections=8)


@attack
async def messages_by_the_byte(target: Target, until: float) -> Counter[str]:
    """A message of 3.9 MB with a good token, in frames of one byte each, over eight connections of metadata."""
    answers: Counter[str] = Counter()
    place = target.host, target.ports["metadata"]
    token = target.token.encode()
    path = b"/syncline.metadata.v1.MetadataService/GetSpace"

    async def one() -> None:
        while time.monotonic() < until:
            with suppress(OSError, TimeoutError):
                reader, writer = await asyncio.open_connection(*place, local_addr=(NETWORK, 0))
                reading = asyncio.ensure_future(_discarded(reader))
                try:
                    async with asyncio.timeout(max(0.0, until - time.monotonic())):
                        for part in message_by_the_byte(path, token=token, message_bytes=3_900_000):
                            writer.write(part)
                            await writer.drain()
                            answers["kB of message"] += 1
                finally:
                    reading.cancel()
                    writer.transport.abort()
            answers["connections"] += 1
            await asyncio.sleep(0.01)

    await asyncio.gather(*(one() for _ in range(8)))
    return answers


async def _spoken(
    target: Target, until: float, parts: Callable[[], Iterator[bytes]], *, connections: int, pause: float = 0.0
) -> Counter[str]:
    """Say these parts to metadata on each of so many connections, again if the server hangs up; nothing is read."""
    answers: Counter[str] = Counter()
    place = target.host, target.ports["metadata"]

    async def one() -> None:
        while time.monotonic() < until:
            answers["connections"] += 1
            with suppress(OSError, TimeoutError):
                reader, writer = await asyncio.open_connection(*place, local_addr=(NETWORK, 0))
                reading = asyncio.ensure_future(_discarded(reader))
                try:
                    async with asyncio.timeout(max(0.0, until - time.monotonic())):
                        for part in parts():
                            writer.write(part)
                            await writer.drain()
                            answers["sent"] += 1
                            await asyncio.sleep(pause)
                finally:
                    reading.cancel()
                    writer.transport.abort()
            await asyncio.sleep(0.01)

    await asyncio.gather(*(one() for _ in range(connections)))
    return answers


GET_SPACE: Final = b"/syncline.metadata.v1.MetadataService/GetSpace"


def _get_space(target: Target) -> bytes:
    return metadata_pb2.GetSpaceRequest(space_id=target.space).SerializeToString()


@attack
async def calls_reset_at_once(target: Target, until: float) -> Counter[str]:
    """Calls with a good token, each reset by the frame after its last, on eight connections."""

    def parts() -> Iterator[bytes]:
        cancelled = bytes((0, 0, 0, 8))
        calls = whole_calls(GET_SPACE, token=target.token.encode(), message=_get_space(target), tail=cancelled)
        yield BEGINNING
        while True:
            yield b"".join(itertools.islice(calls, 100))

    return await _spoken(target, until, parts, connections=8)


@attack
async def calls_ahead_of_all_others(target: Target, until: float) -> Counter[str]:
    """A hundred connections, each with as many calls under way as one may have, with a good token."""
    answers: Counter[str] = Counter()
    place = target.host, target.ports["metadata"]

    async def one() -> str:
        calls = whole_calls(GET_SPACE, token=target.token.encode(), message=_get_space(target))
        reader, writer = await asyncio.open_connection(*place, local_addr=(NETWORK, 0))
        try:
            writer.write(b"".join([BEGINNING, *itertools.islice(calls, 250)]))
            rest = b""
            while time.monotonic() < until and (data := await reader.read(1 << 16)):
                ended, rest = ended_calls(rest + data)
                answers["answered"] += ended
                writer.write(b"".join(itertools.islice(calls, ended)) + window(len(data)))
            return "a connection"
        finally:
            writer.transport.abort()

    return answers + await many(100, until, one)


@attack
async def frames_of_many_connections(target: Target, until: float) -> Counter[str]:
    """Two hundred connections, each known by a call, with nearly as many small frames at once as one may have."""

    def parts() -> Iterator[bytes]:
        yield BEGINNING + next(whole_calls(GET_SPACE, token=target.token.encode(), message=_get_space(target)))
        yield window(1) * 19_000
        while True:
            yield window(1) * 1_500

    return await _spoken(target, until, parts, connections=200, pause=1.0)


@attack
async def answers_by_the_byte(target: Target, until: float) -> Counter[str]:
    """Pages of a large directory, of which the reader takes a byte at a time, on sixteen connections."""
    wanted = metadata_pb2.ListNodesRequest(space_id=target.space, parent=bytes.fromhex(target.crowd))
    path = b"/syncline.metadata.v1.MetadataService/ListNodes"

    def parts() -> Iterator[bytes]:
        calls = whole_calls(path, token=target.token.encode(), message=wanted.SerializeToString())
        yield BEGINNING + initial_windows(0)
        yield b"".join(itertools.islice(calls, 8))
        while True:
            yield b"".join(window(1, stream=1 + 2 * (number % 8)) for number in range(100))

    return await _spoken(target, until, parts, connections=16, pause=0.05)


@attack
async def windows_that_change(target: Target, until: float) -> Counter[str]:
    """The windows of 250 calls on each of eight connections, opened by a byte and closed again, over and over."""
    path = b"/syncline.metadata.v1.MetadataService/ListNodes"
    wanted = metadata_pb2.ListNodesRequest(space_id=target.space, parent=bytes.fromhex(target.crowd), page_size=1)

    def parts() -> Iterator[bytes]:
        calls = whole_calls(path, token=target.token.encode(), message=wanted.SerializeToString())
        yield BEGINNING + initial_windows(0)
        yield b"".join(itertools.islice(calls, 250))
        for size in itertools.count(1):
            yield (initial_windows(size % 60_000) + initial_windows(0)) * 50

    return await _spoken(target, until, parts, connections=8, pause=0.05)


@attack
async def fields_named_again_and_again(target: Target, until: float) -> Counter[str]:
    """Calls whose metadata names one field of the table 15,000 times, which makes 45 MB of 15 KB."""
    return await _spoken(
        target, until, lambda: fields_of_the_table(GET_SPACE, token=target.token.encode()), connections=8
    )


@attack
async def one_connection_after_the_other(target: Target, until: float) -> Counter[str]:
    """Connections to metadata that begin HTTP/2 and are closed at once, as many as can be opened."""
    answers: Counter[str] = Counter()
    place = target.host, target.ports["metadata"]
    begun = next(refused_calls(b"/x.Y/Z", token=b"x" * 20))

    async def one() -> None:
        while time.monotonic() < until:
            with suppress(OSError):
                _, writer = await asyncio.open_connection(*place, local_addr=(NETWORK, 0))
                writer.write(begun)
                writer.close()
                answers["connections"] += 1
            await asyncio.sleep(0)

    await asyncio.gather(*(one() for _ in range(16)))
    return answers


@attack
async def connections_without_end(target: Target, until: float) -> Counter[str]:
    """Three thousand connections to the gateway, and some hundreds to each service, on which nothing is said."""
    services = [(target.host, target.ports[name]) for name in SERVICES for _ in range(300)]
    answers: Counter[str] = Counter()

    async def one(host: str, port: int) -> None:
        try:
            reader, writer = await asyncio.open_connection(host, port, local_addr=(NETWORK, 0), limit=1 << 16)
        except OSError:
            answers[BROKEN] += 1
            return
        try:
            async with asyncio.timeout(max(1.0, until - time.monotonic())):
                said = await reader.read(1 << 16)
            answers["429" if b" 429 " in said else "greeted" if said else "closed"] += 1
        except TimeoutError:
            answers["still open"] += 1
        except OSError:
            answers[BROKEN] += 1
        finally:
            writer.close()

    await asyncio.gather(*(one(*place) for place in [target.gateway] * 3_000 + services))
    return answers


@attack
async def connections_that_are_reset(target: Target, until: float) -> Counter[str]:
    """Requests with a long head, each on a connection of its own that is reset once it is answered."""
    request = head("GET", "/healthz", {"X-Long": "x" * 30_000})

    async def one() -> str:
        reader, writer = await asyncio.open_connection(*target.gateway, local_addr=(NETWORK, 0), limit=1 << 16)
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        try:
            writer.write(request)
            return await status(reader)
        finally:
            writer.close()

    return await many(16, until, one)


# ---- many accounts, which cost nothing


async def _accounts(target: Target, count: int) -> dict[str, str]:
    """The tokens of new accounts, by their addresses."""
    tokens: dict[str, str] = {}
    forwarded = [("x-forwarded-for", NETWORK)]
    async with grpc.aio.insecure_channel(f"{target.host}:{target.ports['auth']}") as channel:
        sign_up = AuthServiceStub(channel).SignUp
        while len(tokens) < count:
            email = f"{new_text_id()}@example.com"
            request = auth_pb2.SignUpRequest(email=email, password=PASSWORD, device_name="x")
            try:
                answer = await sign_up(request, metadata=forwarded, timeout=PATIENCE_SECONDS)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.2)
            else:
                tokens[email] = answer.tokens.access_token
    return tokens


async def _by_accounts(
    target: Target, until: float, count: int, act: Callable[[Target, float], Coroutine[Any, Any, Counter[str]]]
) -> Counter[str]:
    """Sign so many accounts up, each a member of the lure, and have each act as the target's attacker with it."""
    began = time.monotonic()
    tokens = await _accounts(target, count)
    async with Calls(target) as calls:
        for email in tokens:
            share = auth_pb2.SetMemberRequest(
                space_id=target.lure, request_id=new_request_id(), email=email, role=auth_pb2.ROLE_EDITOR
            )
            await calls.unary("auth", "SetMember", share)
    until += time.monotonic() - began
    told = await asyncio.gather(
        *(act(dataclasses.replace(target, token=token, space=target.lure), until) for token in tokens.values())
    )
    return sum(told, Counter())


@attack
async def commits_of_ten_accounts(target: Target, until: float) -> Counter[str]:
    """Ten accounts of one person make small commits, eight at once each."""

    async def act(one: Target, end: float) -> Counter[str]:
        async with Calls(one, connections=1) as calls:
            return await many(8, end, lambda: _commit(calls, _small_commit(one.space)))

    return await _by_accounts(target, until, 10, act)


def _small_commit(space: str) -> metadata_pb2.CommitChangesRequest:
    request = metadata_pb2.CommitChangesRequest(space_id=space)
    create = metadata_pb2.CreateNode(parent=ROOT, name=new_text_id(), kind=journal_pb2.NODE_KIND_DIRECTORY)
    request.mutations.add().create.CopyFrom(create)
    return request


@attack
async def watches_of_many_accounts(target: Target, until: float) -> Counter[str]:
    """Twelve accounts, each with as many watches of one space as a person may have, and commits that ring all."""
    request = notify_pb2.WatchRequest(space_ids=[target.lure])

    async def act(one: Target, end: float) -> Counter[str]:
        async with Calls(one, connections=1) as calls:
            watches = [calls.stream("notify", "Watch", request) for _ in range(64)]
            ringing = asyncio.ensure_future(many(1, end, lambda: _commit(calls, _small_commit(one.space))))
            return await unread(watches, end) + await ringing

    return await _by_accounts(target, until, 12, act)


@attack
async def events_of_many_accounts(target: Target, until: float) -> Counter[str]:
    """Twelve accounts, each with twenty event streams of a space in which they commit all the time."""

    async def act(one: Target, end: float) -> Counter[str]:
        path = f"/v1/events?space={one.space}"
        async with Calls(one, connections=1) as calls:
            ringing = asyncio.ensure_future(many(1, end, lambda: _commit(calls, _small_commit(one.space))))
            return await many(20, end, lambda: sip(one, "GET", path, bearer(one), end)) + await ringing

    return await _by_accounts(target, until, 12, act)


@attack
async def silence_of_many_accounts(target: Target, until: float) -> Counter[str]:
    """Forty accounts, each with calls whose request never comes."""
    began = time.monotonic()
    tokens = await _accounts(target, 40)
    until += time.monotonic() - began
    answers: Counter[str] = Counter()
    path = "/syncline.metadata.v1.MetadataService/GetSpace"

    async def one(some: list[str]) -> None:
        while time.monotonic() < until:
            async with http2(f"{target.host}:{target.ports['metadata']}", source=NETWORK) as raw:
                for token in some:
                    raw.begin(path, token=token, message_bytes=100)
                with suppress(TimeoutError):
                    left = max(0.0, until - time.monotonic())
                    await raw.until(lambda: len(raw.codes) >= len(some) or raw.closed, seconds=left)
                answers.update(f"code {code}" for code in raw.codes.values())
                answers[UNANSWERED] += len(some) - len(raw.codes)

    await asyncio.gather(*(one([*tokens.values()][at::8] * 4) for at in range(8)))
    return answers


@attack
async def unread_answers_of_many_accounts(target: Target, until: float) -> Counter[str]:
    """Forty accounts that list a large directory again and again, and read nothing, for ten minutes."""
    began = time.monotonic()
    tokens = await _accounts(target, 40)
    request = metadata_pb2.CommitChangesRequest(space_id=target.lure, request_id=new_request_id())
    for number in range(1_500):
        request.mutations.add().create.CopyFrom(
            metadata_pb2.CreateNode(
                parent=ROOT, name=f"{new_text_id()}{number}".ljust(120, "x"), kind=journal_pb2.NODE_KIND_DIRECTORY
            )
        )
    async with Calls(target) as calls:
        await calls.unary("metadata", "CommitChanges", request)
        for email in tokens:
            share = auth_pb2.SetMemberRequest(
                space_id=target.lure, request_id=new_request_id(), email=email, role=auth_pb2.ROLE_VIEWER
            )
            await calls.unary("auth", "SetMember", share)
    until += time.monotonic() - began
    wanted = metadata_pb2.ListNodesRequest(space_id=target.lure, parent=ROOT).SerializeToString()
    answers: Counter[str] = Counter()

    async def one(token: str) -> None:
        while time.monotonic() < until:
            async with http2(f"{target.host}:{target.ports['metadata']}", window_bytes=0, source=NETWORK) as raw:
                for _ in range(8):
                    raw.begin("/syncline.metadata.v1.MetadataService/ListNodes", token=token, message=wanted)
                with suppress(TimeoutError):
                    await raw.until(lambda: raw.closed, seconds=max(0.0, until - time.monotonic()))
                answers.update(f"code {code}" for code in raw.codes.values())
                answers["unread"] += 8 - len(raw.codes)

    await asyncio.gather(*(one(token) for token in tokens.values()))
    return answers


@attack
async def false_tokens_without_end(target: Target, until: float) -> Counter[str]:
    """Calls with a token that nobody made, over sixteen connections, as fast as they are taken."""
    answers: Counter[str] = Counter()
    place = target.host, target.ports["metadata"]
    path = b"/syncline.metadata.v1.MetadataService/GetSpace"

    async def one() -> None:
        while time.monotonic() < until:
            with suppress(OSError, TimeoutError):
                reader, writer = await asyncio.open_connection(*place, local_addr=(NETWORK, 0))
                reading = asyncio.ensure_future(_discarded(reader))
                try:
                    async with asyncio.timeout(max(0.0, until - time.monotonic())):
                        for calls in refused_calls(path, token=b"x" * 20):
                            writer.write(calls)
                            await writer.drain()
                            answers["sent"] += CALLS_AT_ONCE
                finally:
                    reading.cancel()
                    writer.transport.abort()
            answers["connections"] += 1

    await asyncio.gather(*(one() for _ in range(16)))
    return answers


async def _discarded(reader: asyncio.StreamReader) -> None:
    while await reader.read(1 << 16):
        pass
