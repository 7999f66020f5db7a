"""The server-sent events that a browser listens to."""

import http.client
import json
from urllib.parse import urlsplit

from tests.gateway.client import ASKED, Person


def test_a_change_rings(ann: Person, ben: Person):
    connection = http.client.HTTPConnection(urlsplit(ann.endpoint).netloc, timeout=60)
    try:
        connection.request("GET", "/v1/events", headers=ann.headers)
        answer = connection.getresponse()
        assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        ASKED.add(("GET", "/v1/events"))
        assert read(answer) == ("heartbeat", {})
        ben.folder("elsewhere")
        ann.folder("here")
        assert read(answer) == ("doorbell", {"space_id": ann.space, "seq": 1})
    finally:
        connection.close()


def test_only_ones_own_spaces_are_watched(ann: Person, ben: Person):
    ann.ask("GET", "/v1/events", query={"space": [ben.space]}).refused(404, "NO_SUCH_SPACE")
    ann.ask("GET", "/v1/events", query={"space": ["nonsense"]}).refused(400, "INVALID_ARGUMENT")
    ann.signed_out().ask("GET", "/v1/events").refused(401, "UNAUTHENTICATED")


def read(answer: http.client.HTTPResponse) -> tuple[str, object]:
    """The next event."""
    event = answer.readline().decode().removeprefix("event: ").strip()
    data = json.loads(answer.readline().decode().removeprefix("data: "))
    assert answer.readline() == b"\n"
    return event, data
