"""Upload a file by the HTTP API, and read it again. Needs nothing of Syncline, only httpx and a key.

    pip install httpx
    export SYNCLINE_ENDPOINT=https://files.example.com SYNCLINE_KEY=syk_...       # a key of the settings of the web app
    python rest_with_httpx.py report.pdf report.pdf

`$SYNCLINE_ENDPOINT/docs` describes every operation.
"""

from __future__ import annotations

import hashlib
import os
import sys
import uuid
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

MAX_BLOCK_BYTES = 8 * 1024 * 1024
ROOT = "0" * 32
"""The id of the root directory of a space."""


def main() -> None:
    """Upload the first argument as a new file in the root of the personal space, under the name in the second
    argument.
    """
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    local, name = Path(sys.argv[1]), sys.argv[2]
    with httpx.Client(
        base_url=f"{encrypted(os.environ['SYNCLINE_ENDPOINT'])}/v1/",
        headers={"authorization": f"Bearer {os.environ['SYNCLINE_KEY']}"},
        timeout=60,
    ) as api:
        space = asked(api.get("spaces"))["spaces"][0]["space_id"]  # the personal space comes first
        node = upload(api, space, local, name)
        print(f"{name} is at version {node['version']}")
        back = api.get(f"spaces/{space}/content/{quote(name)}")
        asked(back, json=False)
        print(f"{len(back.content)} bytes came back, SHA-256 {hashlib.sha256(back.content).hexdigest()}")


def upload(api: httpx.Client, space: str, local: Path, name: str) -> Any:
    """Upload `local` as the new file `name`: blocks to S3, then sealed, then committed. Return the file's node."""
    whole, blocks = hashlib.sha256(), {}
    content: dict[str, Any] = {"size": local.stat().st_size, "blocks": []}
    with local.open("rb") as file:
        # The SDK cuts at content-defined places, so that edits upload little.
        while data := file.read(MAX_BLOCK_BYTES):
            digest = hashlib.sha256(data).hexdigest()
            whole.update(data)
            content["blocks"].append([digest, len(data)])
            if digest not in blocks:
                blocks[digest] = len(data)
                store(api, space, digest, data)
    content |= {"digest": whole.hexdigest(), "mtime_ms": int(local.stat().st_mtime * 1000)}
    change = {"create": {"parent": ROOT, "name": name, "kind": "file", "content": content}}
    # a request that is repeated with the same key is carried out once
    once = {"idempotency-key": str(uuid.uuid4())}
    (result,) = asked(api.post(f"spaces/{space}/changes", json={"changes": [change]}, headers=once))["results"]
    if result["verdict"] != "ACCEPTED":
        sys.exit(f"{name} was not stored: {result['verdict']}")
    return result["node"]


def store(api: httpx.Client, space: str, digest: str, data: bytes) -> None:
    """Upload a block directly to S3, to an address that the API signs, and seal it; do nothing if it is stored
    already.
    """
    block = {"sha256": digest, "size": len(data)}
    (found,) = asked(api.post(f"spaces/{space}/uploads", json={"objects": [block]}))["uploads"]
    if found["stored"]:
        return
    httpx.put(encrypted(found["url"]), content=data, headers=found["headers"], timeout=60).raise_for_status()
    (verdict,) = asked(api.post(f"spaces/{space}/objects", json={"objects": [block]}))["verdicts"]
    if verdict != "SEALED":
        sys.exit(f"a block was not stored: {verdict}")


def encrypted(url: str) -> str:
    """Return the address if requests to it use TLS or stay on this machine; otherwise exit the program."""
    place = httpx.URL(url)
    if place.scheme != "https" and place.host not in {"localhost", "127.0.0.1", "::1"}:
        sys.exit(f"{place.host} would be reached without TLS; nothing was sent")
    return url


def asked(answer: httpx.Response, *, json: bool = True) -> Any:
    """Return the answer's JSON. A problem ends the program; other programs would branch on its `reason`."""
    if answer.is_error:
        problem = answer.json()
        sys.exit(ascii(f"{problem['reason']}: {problem['detail']}")[1:-1])  # escaped: it may contain names of others
    return answer.json() if json else None


if __name__ == "__main__":
    main()
