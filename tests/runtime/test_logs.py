"""Log lines are JSON, carry what is bound, and hold no secrets, whoever writes them."""

import json
import logging
from typing import Any

import pytest

from runtime import logs
from runtime.logs import REDACTED, structlog
from syncline.model.printable import harmless


@pytest.fixture(autouse=True)
def restored():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def written(capsys) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_events_carry_what_is_bound(capsys):
    logs.configure_logs(service="metadata")
    structlog.contextvars.bind_contextvars(request_id="abc")
    structlog.get_logger().info("commit", seq=7)
    structlog.get_logger().debug("not written")
    (event,) = written(capsys)
    timestamp = event.pop("timestamp")
    assert timestamp.endswith("Z")
    assert event == {"event": "commit", "seq": 7, "request_id": "abc", "level": "info", "service": "metadata"}


def test_secrets_are_blanked(capsys):
    logs.configure_logs()
    structlog.get_logger().info(
        "sign in",
        password="hunter2",
        refresh_token="abc",
        header={"Authorization": "Bearer abc.def", "accept": "json"},
        attempts=[{"client_secret": "abc"}],
        text="sent Bearer abc.def-ghi to peer",
        credentials=None,
        user="ann",
    )
    (event,) = written(capsys)
    assert event["password"] == event["refresh_token"] == REDACTED
    assert event["header"] == {"Authorization": REDACTED, "accept": "json"}
    assert event["attempts"] == [{"client_secret": REDACTED}]
    assert event["text"] == f"sent Bearer {REDACTED} to peer"
    assert event["credentials"] is None
    assert event["user"] == "ann"


def test_libraries_speak_the_same_way(capsys):
    logs.configure_logs(service="auth")
    logging.getLogger("botocore.retries").warning("gave up after %d", 3, extra={"session_token": "abc"})
    logging.getLogger("botocore").info("chatter")
    (event,) = written(capsys)
    assert event["event"] == "gave up after 3"
    assert (event["logger"], event["level"], event["service"]) == ("botocore.retries", "warning", "auth")
    assert event["session_token"] == REDACTED


def test_tracebacks_are_within_the_line(capsys):
    logs.configure_logs()
    try:
        raise ValueError("sent Bearer abc.def")
    except ValueError:
        structlog.get_logger().exception("failed")
    (event,) = written(capsys)
    assert "ValueError" in event["exception"]
    assert "abc.def" not in event["exception"]


def test_console_is_for_people(capsys):
    logs.configure_logs(fmt="console", level="warning")
    structlog.get_logger().info("not written")
    structlog.get_logger().warning("slow", token="abc")
    out = capsys.readouterr().err
    assert "slow" in out
    assert "abc" not in out
    assert "not written" not in out


def test_no_error_makes_a_line_or_steers_a_terminal(capsys):
    logs.configure_logs(fmt="console")
    try:
        raise ValueError("no such file: a\n2026-01-01T00:00:00Z [info] forged\x1b]0;owned\x07\U000e0041\r")
    except ValueError:
        structlog.get_logger().exception("failed")
    _, *lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("    ") for line in lines)
    assert any("forged" in line for line in lines)
    assert "".join(lines).isprintable()


@pytest.mark.parametrize("value", ["a\nforged line", "\x1b[31m", "a\u202eb", "\u200b\U000e0041"])
def test_no_value_makes_a_line_or_steers_a_terminal(capsys, value: str):
    logs.configure_logs(fmt="console")
    structlog.get_logger().info("put", name=value)
    logging.getLogger("library").warning("about %s", value)
    shown = capsys.readouterr().err
    assert shown.count("\n") == 2
    assert value not in shown
    assert f"about {harmless(value)}" in shown
    logs.configure_logs()
    structlog.get_logger().info("put", name=value)
    line = capsys.readouterr().err
    assert json.loads(line)["name"] == value
    assert line.removesuffix("\n").isascii()
