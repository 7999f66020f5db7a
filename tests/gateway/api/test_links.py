"""Public links over HTTP: made by members, opened by strangers."""

import hashlib
import http.client
import io
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from tests.gateway.client import Answer, Api, Person


def opened(endpoint: str, link: dict[str, Any], password: str = "") -> tuple[Api, dict[str, Any]]:
    """A stranger's browser that has opened the link, and what it was told."""
    answer = open_link(endpoint, link, password)
    assert answer.status == 200, answer.body
    cookie = answer.headers["set-cookie"].partition(";")[0]
    return Api(endpoint, {"cookie": cookie}), answer.json


def open_link(endpoint: str, link: dict[str, Any], password: str = "") -> Answer:
    return Api(endpoint).ask("POST", "/v1/links/open", {"token": link["token"], "password": password})


def test_a_link_to_a_file(ann: Person):
    docs = ann.folder("docs")
    node = ann.file("a.txt", b"hello", docs["id"])
    ann.file("secret", b"secret", docs["id"])
    link = ann.done("POST", f"{ann.top}/links", {"node": node["id"]}, status=201)
    assert link["url"] == f"{ann.endpoint}/l#{link['token']}"
    # A browser asks for what is before the fragment, so that no log on its way has the token.
    address = urlsplit(link["url"])
    assert (address.path, address.query, address.fragment) == ("/l", "", link["token"])
    page = Api(ann.endpoint).ask("GET", address.path)
    assert page.status == 200
    assert page.headers["referrer-policy"] == "no-referrer"
    guest, told = opened(ann.endpoint, link)
    at = f"/v1/links/{link['link_id']}/nodes"
    assert (told["node"]["name"], told["top"]) == ("a.txt", node["id"])
    assert guest.ask("GET", f"{at}/{node['id']}/content").body == b"hello"
    assert guest.ask("HEAD", f"{at}/{node['id']}/content").headers["content-length"] == "5"
    assert guest.done("GET", f"{at}/{node['id']}")["path"] == ""
    assert docs["id"] not in str(guest.done("GET", f"{at}/{node['id']}"))
    for other in (docs["id"], "root", "0" * 31 + "1"):
        guest.ask("GET", f"{at}/{other}").refused(404, "NO_SUCH_NODE")
        guest.ask("GET", f"{at}/{other}/children").refused(404, "NO_SUCH_NODE")
    # The cookie opens nothing else.
    guest.ask("GET", f"{ann.top}/nodes/{node['id']}").refused(401, "UNAUTHENTICATED")
    bearer = Api(ann.endpoint, {"authorization": f"Bearer {told['access_token']}"})
    bearer.ask("GET", "/v1/spaces").refused(403, "PERMISSION_DENIED")
    bearer.ask("POST", f"{ann.top}/folders", {"parent": "root", "name": "x"}).refused(403, "PERMISSION_DENIED")
    bearer.ask("GET", f"{ann.top}/nodes/{node['id']}").refused(403, "PERMISSION_DENIED")
    bearer.ask("GET", f"/v1/links/{link['link_id']}/nodes/{docs['id']}").refused(404, "NO_SUCH_NODE")
    assert bearer.ask("GET", f"{at}/{node['id']}/content").body == b"hello"


def test_a_link_to_a_folder(ann: Person):
    docs = ann.folder("docs")
    deep = ann.folder("deep", docs["id"])
    node = ann.file("a", b"1", deep["id"])
    outside = ann.file("outside", b"2")
    link = ann.done("POST", f"{ann.top}/links", {"node": docs["id"]}, status=201)
    guest, _ = opened(ann.endpoint, link)
    at = f"/v1/links/{link['link_id']}/nodes"
    assert [one["name"] for one in guest.done("GET", f"{at}/{docs['id']}/children")["nodes"]] == ["deep"]
    assert guest.done("GET", f"{at}/{node['id']}")["path"] == "deep/a"
    answer = guest.ask("GET", f"{at}/{docs['id']}/archive")
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        assert archive.namelist() == ["docs/", "docs/deep/", "docs/deep/a"]
    guest.ask("GET", f"{at}/{outside['id']}/content").refused(404, "NO_SUCH_NODE")
    # A node that is moved out of the linked folder is no longer open.
    ann.done("PATCH", f"{ann.top}/nodes/{node['id']}", {"parent": "root"})
    guest.ask("GET", f"{at}/{node['id']}/content").refused(404, "NO_SUCH_NODE")


def test_a_link_to_a_whole_space(ann: Person):
    ann.file("a", b"1")
    link = ann.done("POST", f"{ann.top}/links", {"node": "root"}, status=201)
    guest, told = opened(ann.endpoint, link)
    assert (told["node"], told["top"]) == (None, "root")
    at = f"/v1/links/{link['link_id']}/nodes/root"
    assert [one["name"] for one in guest.done("GET", f"{at}/children")["nodes"]] == ["a"]
    with zipfile.ZipFile(io.BytesIO(guest.ask("GET", f"{at}/archive").body)) as archive:
        assert archive.namelist() == ["a"]


def test_a_password_is_asked_for_and_not_to_be_guessed(ann: Person):
    node = ann.file("a", b"1")
    link = ann.done("POST", f"{ann.top}/links", {"node": node["id"], "password": "sesame"}, status=201)
    assert link["has_password"]
    assert "sesame" not in str(link)
    open_link(ann.endpoint, link).refused(401, "LINK_PASSWORD_NEEDED")
    opened(ann.endpoint, link, "sesame")

    def guess(number: int) -> int:
        answer = open_link(ann.endpoint, link, f"guess {number}")
        answer.refused(answer.status, "WRONG_PASSWORD" if answer.status == 401 else "TOO_MANY_ATTEMPTS")
        assert answer.status == 401 or int(answer.headers["retry-after"]) > 0
        return answer.status

    with ThreadPoolExecutor(8) as many:
        statuses = list(many.map(guess, range(1000)))
    assert 1 <= statuses.count(401) <= 20
    assert statuses.count(429) == 1000 - statuses.count(401)
    open_link(ann.endpoint, link, "sesame").refused(429, "TOO_MANY_ATTEMPTS")


def test_a_link_that_allows_two_downloads(ann: Person):
    node = ann.file("a", b"12345")
    link = ann.done("POST", f"{ann.top}/links", {"node": node["id"], "max_downloads": 2}, status=201)
    guest, _ = opened(ann.endpoint, link)
    at = f"/v1/links/{link['link_id']}/nodes/{node['id']}/content"
    assert guest.ask("HEAD", at).status == 200
    for wanted, body in (("0-1", b"12"), ("2-3", b"34"), ("4-4", b"5")):  # together one download
        part = guest.ask("GET", at, range=f"bytes={wanted}")
        assert (part.status, part.body) == (206, body)
    assert guest.ask("GET", at).status == 200
    guest.ask("GET", at).refused(429, "LINK_EXHAUSTED")
    guest.ask("GET", at, range="bytes=1-").refused(429, "LINK_EXHAUSTED")
    (listed,) = ann.done("GET", f"{ann.top}/links")["links"]
    assert (listed["downloads"], listed["max_downloads"]) == (2, 2)


def test_archives_of_a_link_are_counted(ann: Person):
    folder = ann.folder("album")["id"]
    ann.file("a", b"12345", parent=folder)
    link = ann.done("POST", f"{ann.top}/links", {"node": folder, "max_downloads": 1}, status=201)
    guest, _ = opened(ann.endpoint, link)
    at = f"/v1/links/{link['link_id']}/nodes/{folder}/archive"
    assert guest.ask("GET", at).status == 200
    guest.ask("GET", at).refused(429, "LINK_EXHAUSTED")


def test_only_bytes_that_go_out_count_and_what_breaks_off_goes_on(ann: Person):
    """Larger than what the sockets between us hold: else all had gone out before anybody could break off."""
    block = bytes(range(256)) * (8 * 4 * 1024)
    data = block * 4
    blocks = [[ann.store(block), len(block)]] * 4
    content = {"digest": hashlib.sha256(data).hexdigest(), "size": len(data), "mtime_ms": 1, "blocks": blocks}
    create = {"parent": "root", "name": "large", "kind": "file", "content": content}
    node = ann.change({"create": create})
    link = ann.done("POST", f"{ann.top}/links", {"node": node["id"], "max_downloads": 1}, status=201)
    guest, _ = opened(ann.endpoint, link)
    at = f"/v1/links/{link['link_id']}/nodes/{node['id']}/content"

    def downloads() -> int:
        (listed,) = ann.done("GET", f"{ann.top}/links")["links"]
        count: int = listed["downloads"]
        return count

    assert guest.ask("HEAD", at).status == 200
    assert guest.ask("GET", at, if_none_match=f'"{content["digest"]}"').status == 304
    assert guest.ask("GET", at, range=f"bytes={len(data)}-").status == 416
    assert downloads() == 0
    part = len(block)
    assert broken_off(guest, at, after=part) == data[:part]
    assert downloads() == 1
    other, _ = opened(ann.endpoint, link)  # the link is what counts, and not who comes
    deadline = time.monotonic() + 60
    while (rest := other.ask("GET", at, range=f"bytes={part}-")).status == 429:
        # A busy gateway has not seen yet that the first is gone.
        assert time.monotonic() < deadline, rest
    assert (rest.status, rest.body == data[part:]) == (206, True)
    assert downloads() == 1
    guest.ask("GET", at).refused(429, "LINK_EXHAUSTED")
    assert guest.ask("GET", at, if_none_match=f'"{content["digest"]}"').status == 304


def broken_off(guest: Api, path: str, *, after: int) -> bytes:
    """The first bytes of an answer, of which no more are taken."""
    connection = http.client.HTTPConnection(urlsplit(guest.endpoint).netloc, timeout=60)
    connection.request("GET", path, headers=guest.headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    taken = answer.read(after)
    answer.close()
    connection.close()
    return taken


def test_links_are_listed_and_end(ann: Person):
    node = ann.file("a", b"1")
    link = ann.done("POST", f"{ann.top}/links", {"node": node["id"]}, status=201)
    soon = int(time.time() * 1000) + 5000
    short = ann.done("POST", f"{ann.top}/links", {"node": node["id"], "expires_at_ms": soon}, status=201)
    listed = ann.done("GET", f"{ann.top}/links")["links"]
    assert [one["link_id"] for one in listed] == [short["link_id"], link["link_id"]]
    assert link["token"] not in str(listed)
    ann.done("DELETE", f"{ann.top}/links/{link['link_id']}", status=204)
    open_link(ann.endpoint, link).refused(404, "NO_SUCH_LINK")
    ann.ask("DELETE", f"{ann.top}/links/{'a' * 26}").refused(404, "NO_SUCH_LINK")
    while time.time() * 1000 < soon:
        time.sleep(0.05)
    open_link(ann.endpoint, short).refused(404, "NO_SUCH_LINK")
    assert ann.done("GET", f"{ann.top}/links")["links"] == []


def test_links_that_cannot_be(ann: Person):
    ann.ask("POST", f"{ann.top}/links", {"node": "0" * 31 + "1"}).refused(404, "NO_SUCH_NODE")
    ann.ask("POST", f"{ann.top}/links", {"node": "root", "max_downloads": 0}).refused(400, "INVALID_ARGUMENT")
    ann.ask("POST", f"{ann.top}/links", {"node": "root", "expires_at_ms": 1}).refused(400, "INVALID_ARGUMENT")
    for token in ("x", "a" * 22, "../../etc"):
        Api(ann.endpoint).ask("POST", "/v1/links/open", {"token": token}).refused(404, "NO_SUCH_LINK")


def test_one_links_cookie_does_not_open_another(ann: Person):
    one, two = ann.file("1", b"1"), ann.file("2", b"2")
    first, second = (ann.done("POST", f"{ann.top}/links", {"node": node["id"]}, status=201) for node in (one, two))
    guest, told = opened(ann.endpoint, first)
    at = f"/v1/links/{second['link_id']}/nodes/{two['id']}/content"
    guest.ask("GET", at).refused(401, "UNAUTHENTICATED")
    forged = f"__Host-link-{second['link_id']}={told['access_token']}"
    Api(ann.endpoint, {"cookie": forged}).ask("GET", at).refused(401, "UNAUTHENTICATED")
