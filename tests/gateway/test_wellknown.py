"""Where everything is, and with which keys."""

import pytest

from core.errors import Unavailable
from gateway.wellknown import JWKS_SECONDS, Jwks, endpoints
from tests.gateway.fakes import settings


def test_endpoints_of_one_machine():
    found = endpoints(settings(public_s3_endpoint="http://127.0.0.1:8084"), region="us-east-1")
    assert found == {
        "syncline": 1,
        "auth": {"target": "127.0.0.1:8081", "tls": False},
        "metadata": {"target": "127.0.0.1:8082", "tls": False},
        "notify": {"target": "127.0.0.1:8083", "tls": False},
        "s3": {
            "endpoint": "http://127.0.0.1:8084",
            "region": "us-east-1",
            "bucket": "content",
            "path_style": True,
        },
    }


def test_endpoints_on_aws():
    found = endpoints(settings(public_tls=True), region="eu-central-1")
    assert found["auth"]["tls"] is True
    assert found["s3"] == {"endpoint": None, "region": "eu-central-1", "bucket": "content", "path_style": False}


class Source:
    """Keys that change, and sometimes are not to be had."""

    def __init__(self):
        self.keys: dict[str, bytes] | None = {"k1": bytes(range(32))}
        self.asked = 0

    async def current(self):
        self.asked += 1
        if self.keys is None:
            raise Unavailable
        return self.keys


async def test_keys_have_the_form_of_rfc_8037():
    assert await Jwks(Source()).current() == {
        "keys": [
            {
                "kty": "OKP",
                "crv": "Ed25519",
                "use": "sig",
                "alg": "EdDSA",
                "kid": "k1",
                "x": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
            }
        ]
    }


async def test_keys_are_kept_for_a_while_and_longer_while_auth_is_away():
    now, source = [0.0], Source()
    jwks = Jwks(source, monotonic=lambda: now[0])

    async def kids():
        return [key["kid"] for key in (await jwks.current())["keys"]]

    assert await kids() == await kids() == ["k1"]
    assert source.asked == 1
    source.keys = {"k2": bytes(32)}
    now[0] = JWKS_SECONDS - 1
    assert await kids() == ["k1"]
    now[0] = JWKS_SECONDS
    assert await kids() == ["k2"]
    source.keys = None
    now[0] *= 2
    assert await kids() == await kids() == ["k2"]
    assert source.asked == 3


async def test_without_any_keys_there_is_no_answer():
    source = Source()
    source.keys = None
    with pytest.raises(Unavailable):
        await Jwks(source).current()
