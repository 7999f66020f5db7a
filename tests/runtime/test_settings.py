"""Settings come from the environment, once, and mistakes are told in one line."""

import json

import pytest
from pydantic import ValidationError

from runtime.settings import AuthPeer, MetadataPeer, NotifyPeer, ServiceSettings, load


class Settings(ServiceSettings, AuthPeer):
    """The settings as a service has them."""


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("SYNCLINE_SERVICE_SECRET", "s" * 32)
    monkeypatch.setenv("SYNCLINE_AUTH_TARGET", "auth:50051")
    return monkeypatch


def test_defaults_and_environment(environment):
    environment.setenv("SYNCLINE_DRAIN_SECONDS", "0")
    environment.setenv("SYNCLINE_LISTEN", "[::]:50051")
    settings = load(Settings)
    assert settings.auth_target == "auth:50051"
    assert settings.listen == "[::]:50051"
    assert settings.drain_seconds == 0
    assert settings.max_message_bytes == 4 * 1024 * 1024
    assert "sss" not in repr(settings)
    with pytest.raises(ValidationError):
        settings.listen = "elsewhere:1"


def test_mistakes_are_told_in_one_line(environment, capsys):
    environment.delenv("SYNCLINE_AUTH_TARGET")
    environment.setenv("SYNCLINE_SERVICE_SECRET", "short")
    environment.setenv("SYNCLINE_LISTEN", "nowhere")
    with pytest.raises(SystemExit) as caught:
        load(Settings)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "invalid settings"
    for name in ("SYNCLINE_AUTH_TARGET", "SYNCLINE_SERVICE_SECRET", "SYNCLINE_LISTEN"):
        assert name in line
    assert "short" not in line


def test_every_setting_is_documented():
    for settings in (ServiceSettings, AuthPeer, MetadataPeer, NotifyPeer):
        for name, field in settings.model_fields.items():
            assert field.description, name


@pytest.mark.parametrize("secret", ["short", "s" * 32])
def test_the_secret_of_the_gateway_is_long_and_none_of_the_services(environment, capsys, secret):
    environment.setenv("SYNCLINE_GATEWAY_SECRET", secret)
    with pytest.raises(SystemExit):
        load(Settings)
    told = capsys.readouterr().err
    assert "SYNCLINE_GATEWAY_SECRET: " in told
    assert secret not in told


def test_without_a_secret_of_the_gateway_there_is_none(environment):
    assert load(Settings).gateway_secret.get_secret_value() == ""
    environment.setenv("SYNCLINE_GATEWAY_SECRET", "")  # A compose file says so.
    assert load(Settings).gateway_secret.get_secret_value() == ""
    environment.setenv("SYNCLINE_GATEWAY_SECRET", "g" * 32)
    settings = load(Settings)
    assert settings.gateway_secret.get_secret_value() == "g" * 32
    assert "ggg" not in repr(settings)
