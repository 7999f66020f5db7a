"""The form of opaque tokens."""

from __future__ import annotations

import secrets

import pytest

from services.auth.opaque_tokens import is_token, new_token


def test_a_token_is_no_option_of_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(["-" + "a" * 42, "--" + "a" * 41, "b" * 42 + "-"])
    monkeypatch.setattr(secrets, "token_urlsafe", lambda _size: next(drawn))
    token = new_token()
    assert token == "b" * 42 + "-"
    assert is_token(token)
