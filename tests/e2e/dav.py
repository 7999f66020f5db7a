"""A person with a key, and what they do by WebDAV."""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import subprocess
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from syncline.model.identifiers import new_text_id
from tests.support.passwords import STRONG

PASSWORD = STRONG


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def properties(self) -> dict[str, dict[str, str | None]]:
        """The found properties of each resource, by its path; of what has elements only that it is there."""
        found: dict[str, dict[str, str | None]] = {}
        for response in ET.fromstring(self.body):
            own = found[unquote(response.findtext("{DAV:}href") or "")] = {}
            for stat in response.iter("{DAV:}propstat"):
                if "200" in (stat.findtext("{DAV:}status") or ""):
                    for prop in stat.find("{DAV:}prop") or []:
                        own[prop.tag] = prop.text
        return found

    def problem(self) -> tuple[int, str]:
        """The status and what went wrong."""
        error = ET.fromstring(self.body)
        assert error.tag == "{DAV:}error"
        return self.status, error.findtext("{http://sabredav.org/ns}exception") or ""


class Person:
    """Somebody with an account and a key for a program."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.email = f"person-{new_text_id()}@example.com"
        made = self.call("POST", "/v1/accounts", {"email": self.email, "password": PASSWORD, "device_name": "web"})
        self.token = made["tokens"]["access_token"]
        until = int((time.time() + 86_400) * 1000)
        self.key = self.call("POST", "/v1/keys", {"name": "mount", "expires_at_ms": until}, token=self.token)["key"]

    def call(self, method: str, path: str, body: Any = None, *, token: str = "") -> Any:
        """A request to the API."""
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        answer = send(self.endpoint, method, path, json.dumps(body).encode(), headers)
        assert answer.status < 300, answer.body
        return json.loads(answer.body) if answer.body else None

    @property
    def basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.email}:{self.key}".encode()).decode()

    def dav(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """A request below `/dav/`; `_` in names of headers means `-`."""
        return self.at(method, address(path), body, **headers)

    def at(self, method: str, told: str, body: Any = None, **headers: str) -> Answer:
        """The same at an address that the server has told, which is sent as it is."""
        named = {"authorization": self.basic} | {name.replace("_", "-"): value for name, value in headers.items()}
        return send(self.endpoint, method, told, body, named)

    def put(self, path: str, data: bytes, **headers: str) -> Answer:
        return self.dav("PUT", path, data, **headers)

    def listing(self, path: str) -> list[str]:
        """The paths of what a directory holds."""
        answer = self.dav("PROPFIND", path, depth="1")
        assert answer.status == 207, answer.body
        return sorted(set(answer.properties()) - {f"/dav/{path}".rstrip("/") + "/"})

    def rclone(self, *arguments: str, vendor: str = "owncloud") -> str:
        """Run rclone, for which `dav:` is `/dav/`."""
        environment = {
            **os.environ,
            "RCLONE_CONFIG": os.devnull,
            "RCLONE_CONFIG_DAV_TYPE": "webdav",
            "RCLONE_CONFIG_DAV_URL": f"{self.endpoint}/dav/",
            "RCLONE_CONFIG_DAV_VENDOR": vendor,
            "RCLONE_CONFIG_DAV_USER": self.email,
            "RCLONE_CONFIG_DAV_PASS": subprocess.run(
                ["rclone", "obscure", "-"], input=self.key, capture_output=True, text=True, check=True
            ).stdout.strip(),
        }
        ran = subprocess.run(
            ["rclone", *arguments], env=environment, capture_output=True, text=True, check=False, timeout=170
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout + ran.stderr


def address(path: str) -> str:
    return f"/dav/{quote(path)}"


def send(
    endpoint: str, method: str, path: str, body: bytes | Iterable[bytes] | None, headers: dict[str, str]
) -> Answer:
    """One request on a connection of its own. A body that is no bytes goes in chunks."""
    connection = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=60)
    try:
        connection.request(method, path, body, headers, encode_chunked=body is not None and not isinstance(body, bytes))
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()


class Slowly:
    """A PUT whose body is not sent yet, although the gateway has looked at the file and waits for it."""

    def __init__(self, person: Person, path: str, framing: str) -> None:
        host, _, port = urlsplit(person.endpoint).netloc.partition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=60)
        self.socket.sendall(
            f"PUT {address(path)} HTTP/1.1\r\nhost: {host}:{port}\r\nauthorization: {person.basic}\r\n"
            f"expect: 100-continue\r\n{framing}\r\n\r\n".encode()
        )
        assert self.socket.recv(1000).startswith(b"HTTP/1.1 100")

    def finish(self, data: bytes) -> Answer:
        """Send the body, as its framing has it."""
        self.socket.sendall(data)
        response = http.client.HTTPResponse(self.socket)
        response.begin()
        answer = Answer(response.status, response.headers, response.read())
        self.socket.close()
        return answer


def tree(root: Path, *, files: int, make: Callable[[int, int], bytes]) -> None:
    """Files of all sizes from none to some MiB, nested, with names of all kinds."""
    names = [
        "Übung",
        "日本語",
        "файл",
        "with space",
        "plain",
        "semi;colon",
        "quest?ion",
        "hash#",
        "percent%41",
        "a+b&'\"",
    ]
    for i in range(files):
        folder = root
        for level in range(i % 4):
            folder /= f"{names[(i // 4 + level) % len(names)]} {level}"
        folder.mkdir(parents=True, exist_ok=True)
        size = [0, 1, i * 7, 1000 + i * 91, 60_000 + i * 331][i % 5] if i % 50 else (1 << 20) + i * 9973
        path = folder / f"{names[i % len(names)]}-{i}"
        path.write_bytes(make(size, i))
        os.utime(path, (1_500_000_000 + i * 1000,) * 2)
