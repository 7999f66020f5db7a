"""A link that allows so many downloads, and a gateway that is killed amid one."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import psutil

from stack.running import running_stack
from tests.e2e.test_logs import held
from tests.gateway.api.test_links import opened
from tests.gateway.client import Api, Person, sign_up

DEADLINE = 90.0


def test_a_download_of_a_killed_gateway_is_not_lost_and_not_doubled(tmp_path: Path) -> None:
    with running_stack(data=tmp_path / "data") as stack:
        ann = sign_up(stack.endpoint, "ann")
        block = bytes(range(256)) * (32 * 1024)
        data = block * 4
        content = {"digest": hashlib.sha256(data).hexdigest(), "size": len(data), "mtime_ms": 1}
        content["blocks"] = [[ann.store(block), len(block)]] * 4
        node = ann.change({"create": {"parent": "root", "name": "large", "kind": "file", "content": content}})
        link = ann.done("POST", f"{ann.top}/links", {"node": node["id"], "max_downloads": 1}, status=201)
        guest, _ = opened(ann.endpoint, link)
        at = f"/v1/links/{link['link_id']}/nodes/{node['id']}/content"
        visitor = Person(guest.endpoint, guest.headers)
        with held(visitor, at):
            guest.ask("GET", at).refused(429, "LINK_EXHAUSTED")
            psutil.Process(stack.pids["gateway"]).kill()

        deadline = time.monotonic() + DEADLINE
        while (answer := come_again(guest, at)) is None:
            assert time.monotonic() < deadline, "what the killed gateway had taken is lost"
            time.sleep(0.2)
        assert hashlib.sha256(answer).hexdigest() == content["digest"]
        guest.ask("GET", at).refused(429, "LINK_EXHAUSTED")
        (listed,) = ann.done("GET", f"{ann.top}/links")["links"]
        assert listed["downloads"] == 1


def come_again(guest: Api, at: str) -> bytes | None:
    try:
        answer = guest.ask("GET", at)
    except OSError:
        return None
    return answer.body if answer.status == 200 else None
