"""A reverse proxy in front of `syncline up`: whose addresses are believed."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

import grpc
import pytest
from click.testing import CliRunner

from syncline.auth.v1 import auth_pb2
from syncline.auth.v1.auth_pb2_grpc import AuthServiceStub
from syncline.cli.system import up
from syncline.model.identifiers import new_text_id

CALLS = 5
"""Calls with a made-up key that a network has."""
PROXY, OTHER = "127.0.0.2", "127.0.0.3"


@contextmanager
def system(*arguments: str) -> Iterator[str]:
    """The address of a system that was started by these arguments of `syncline up`."""
    rates = {"SYNCLINE_ANONYMOUS_CALLS_PER_NETWORK": str(CALLS / 10_000), "SYNCLINE_RATE_BURST_SECONDS": "10000"}
    process = subprocess.Popen(
        [sys.executable, "-m", "syncline.cli", "up", "--port", "0", *arguments],
        env=os.environ | rates,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("syncline is up: "), line
        yield line.removeprefix("syncline is up: ").strip()
    finally:
        process.terminate()
        assert process.wait(60) == 0
        process.stdout.close()


def statuses(endpoint: str, visitors: Sequence[str], *, source: str) -> list[int]:
    """The answers to one request with a made-up key for each of the visitors, told by `source`."""
    found = []
    for visitor in visitors:
        connection = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=60, source_address=(source, 0))
        key = f"syk_{new_text_id()}{new_text_id()}{'x' * 17}"
        connection.request("GET", "/v1/spaces", headers={"authorization": f"Bearer {key}", "x-forwarded-for": visitor})
        found.append(connection.getresponse().status)
        connection.close()
    return found


def test_visitors_behind_a_proxy_that_is_named_are_told_apart_and_nobody_else_chooses() -> None:
    visitors = [f"198.51.100.{number}" for number in range(2 * CALLS)]
    with system("--trust-proxy", PROXY, "--trust-proxy", "192.0.2.0/24") as endpoint:
        assert statuses(endpoint, visitors, source=PROXY) == [401] * (2 * CALLS)
        assert statuses(endpoint, [visitors[0]] * CALLS, source=PROXY) == [401] * (CALLS - 1) + [429]
        assert statuses(endpoint, visitors, source=OTHER) == [401] * CALLS + [429] * CALLS


def test_at_a_service_nobody_at_the_address_of_the_proxy_chooses_the_network_that_is_counted() -> None:
    with system("--trust-proxy", "127.0.0.1") as endpoint:
        visitors = [f"198.51.100.{number}" for number in range(2 * CALLS)]
        with grpc.insecure_channel(f"127.0.0.1:{(urlsplit(endpoint).port or 0) + 1}") as channel:
            auth, refused = AuthServiceStub(channel), []
            for visitor in visitors:
                request = auth_pb2.ExchangeKeyRequest(key=f"syk_{new_text_id()}{new_text_id()}{'x' * 17}")
                with pytest.raises(grpc.RpcError) as caught:
                    auth.ExchangeKey(request, metadata=(("x-forwarded-for", visitor),))
                refused.append(caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert refused == [False] * CALLS + [True] * CALLS


def test_visitors_behind_a_proxy_that_is_not_named_are_one() -> None:
    visitors = [f"198.51.100.{number}" for number in range(2 * CALLS)]
    with system() as endpoint:
        assert statuses(endpoint, visitors, source="127.0.0.1") == [401] * CALLS + [429] * CALLS


@pytest.mark.parametrize(
    ("network", "complaint"),
    [
        ("0.0.0.0/0", "would trust every client"),
        ("::/0", "would trust every client"),
        ("localhost", "does not appear to be an IPv4 or IPv6 network"),
        ("127.0.0.1/8", "has host bits set"),
    ],
)
def test_a_network_that_is_none_or_everybody_is_refused(network: str, complaint: str) -> None:
    done = CliRunner().invoke(up, ["--trust-proxy", network])
    assert done.exit_code == 2
    assert complaint in done.output
