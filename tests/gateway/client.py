"""A person at the API: sends what it is told, over a real connection, and remembers which operations were asked."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from syncline.model.identifiers import new_text_id
from tests.support.passwords import STRONG

PASSWORD: Final = STRONG
PROBLEM: Final = "application/problem+json"


@dataclass(frozen=True)
class Answer:
    """The answer to one request."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def refused(self, status: int, reason: str) -> dict[str, Any]:
        """Checks that this is the problem, and returns its members."""
        assert self.status == status, (self.status, self.body)
        assert self.headers["content-type"] == PROBLEM
        members: dict[str, Any] = self.json
        assert (members["status"], members["reason"]) == (status, reason)
        assert members["detail"]
        assert members["request_id"] == self.headers["x-request-id"]
        return members


ASKED: set[tuple[str, str]] = set()
"""Methods and paths of all requests of this process that were answered by 2xx or 3xx."""


@dataclass
class Api:
    """The API as one program, browser or stranger sees it."""

    endpoint: str
    headers: dict[str, str] = field(default_factory=dict)
    """Sent with every request."""

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        raw: bytes | None = None,
        **headers: Any,
    ) -> Answer:
        """One request; `_` in names of headers means `-`. `body` goes as JSON, `raw` as it is."""
        parts = urlsplit(self.endpoint)
        connection = http.client.HTTPConnection(parts.netloc, timeout=120)
        sent = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            raw = json.dumps(body).encode()
            sent.setdefault("content-type", "application/json")
        target = f"{path}?{urlencode(query, doseq=True)}" if query else path
        try:
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in sent.items():
                connection.putheader(name, value)
            if raw is not None:
                connection.putheader("content-length", str(len(raw)))
            connection.endheaders(raw)
            response = connection.getresponse()
            answer = Answer(response.status, response.headers, response.read())
        finally:
            connection.close()
        if answer.status < 400:
            ASKED.add((method, path))
        return answer

    def done(self, method: str, path: str, body: Any = None, *, status: int = 200, **more: Any) -> Any:
        """The JSON of an answer that must have this status."""
        answer = self.ask(method, path, body, **more)
        assert answer.status == status, (method, path, answer.status, answer.body)
        return answer.json if answer.body else None


@dataclass
class Person(Api):
    """Somebody with an account, signed in as a program is."""

    email: str = ""
    space: str = ""
    """The personal space."""
    account: dict[str, Any] = field(default_factory=dict)

    @property
    def top(self) -> str:
        return f"/v1/spaces/{self.space}"

    def refresh(self) -> None:
        """Trade the refresh token in, so that the access token is as good as new."""
        tokens = self.done("POST", "/v1/sessions/refresh", {"refresh_token": self.account["tokens"]["refresh_token"]})
        self.account["tokens"] = tokens
        self.headers["authorization"] = f"Bearer {tokens['access_token']}"

    def folder(self, name: str, parent: str = "root") -> dict[str, Any]:
        """Make a directory."""
        made: dict[str, Any] = self.done("POST", f"{self.top}/folders", {"parent": parent, "name": name}, status=201)
        return made

    def store(self, data: bytes) -> str:
        """Upload one block and have it sealed; its digest."""
        sha256, wanted = hashlib.sha256(data).hexdigest(), {}
        wanted = {"sha256": sha256, "size": len(data)}
        (upload,) = self.done("POST", f"{self.top}/uploads", {"objects": [wanted]})["uploads"]
        if not upload["stored"]:
            assert put(upload, data) in (200, 412)
        assert self.done("POST", f"{self.top}/objects", {"objects": [wanted]}) == {"verdicts": ["SEALED"]}
        return sha256

    def content(self, data: bytes, *, mtime_ms: int = 1_764_000_000_000) -> dict[str, Any]:
        """A content of one block, uploaded."""
        digest = hashlib.sha256(data).hexdigest()
        blocks = [[self.store(data), len(data)]] if data else []
        return {"digest": digest, "size": len(data), "mtime_ms": mtime_ms, "blocks": blocks}

    def file(self, name: str, data: bytes, parent: str = "root") -> dict[str, Any]:
        """Make a file of one block."""
        create = {"parent": parent, "name": name, "kind": "file", "content": self.content(data)}
        return self.change({"create": create})

    def update(self, node: dict[str, Any], data: bytes) -> dict[str, Any]:
        """Give a file another content."""
        change = {"node": node["id"], "base_version": node["version"], "content": self.content(data)}
        return self.change({"update": change})

    def change(self, change: dict[str, Any]) -> dict[str, Any]:
        """Commit one change, which must be accepted; the node."""
        (result,) = self.done("POST", f"{self.top}/changes", {"changes": [change]})["results"]
        assert result["verdict"] == "ACCEPTED", result
        node: dict[str, Any] = result["node"]
        return node

    def children(self, node: str = "root") -> list[str]:
        """The names in a directory."""
        return [child["name"] for child in self.done("GET", f"{self.top}/nodes/{node}/children")["nodes"]]

    def signed_out(self) -> Api:
        """A stranger at the same place."""
        return Api(self.endpoint)


def put(upload: Mapping[str, Any], data: bytes) -> int:
    """Upload to S3 as a browser does; the status."""
    parts = urlsplit(upload["url"])
    connection = http.client.HTTPConnection(parts.netloc, timeout=120)
    try:
        connection.request(upload["method"], f"{parts.path}?{parts.query}", data, dict(upload["headers"]))
        return connection.getresponse().status
    finally:
        connection.close()


def sign_up(endpoint: str, name: str = "person") -> Person:
    """A new person, as a program."""
    email = f"{name}-{new_text_id()}@example.com"
    body = {"email": email, "password": PASSWORD, "device_name": "program"}
    answer = Api(endpoint).done("POST", "/v1/accounts", body, status=201)
    token = answer["tokens"]["access_token"]
    account = answer["account"]
    return Person(endpoint, {"authorization": f"Bearer {token}"}, email, account["personal_space_id"], answer)


def browser(endpoint: str, name: str = "browser") -> Person:
    """A new person, as a page in a browser: with the cookie and what must go along."""
    email = f"{name}-{new_text_id()}@example.com"
    body = {"email": email, "password": PASSWORD, "device_name": "browser", "browser": True}
    answer = Api(endpoint).ask("POST", "/v1/accounts", body)
    assert answer.status == 201, answer.body
    found = re.match(r"(__Host-syncline=[^;]+);", answer.headers["set-cookie"])
    assert found is not None
    members = answer.json
    headers = {"cookie": found[1], "x-csrf-token": members["csrf_token"]}
    return Person(endpoint, headers, email, members["account"]["personal_space_id"], members)


def checksum(data: bytes) -> str:
    """Return the checksum as S3 has it in a header."""
    return base64.b64encode(hashlib.sha256(data).digest()).decode()
