"""Discovery tells the address of every service, and the keys that it is known by."""

import pytest

from gateway.discovery import JWKS_SECONDS, Jwks, endpoints
from syncline.model.errors import Unavailable
from syncline.sdk.discovery import deployment_from_json, deployment_to_json
from tests.gateway.fakes import settings


def test_endpoints_of_one_machine():
    found = endpoints(settings(public_s3_endpoint="http://127.0.0.1:8084"), region="us-east-1")
    where = {name: found[name] for name in ("syncline", "auth", "metadata", "notify", "s3")}
    assert where == {
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


def test_what_holds_here():
    """Numbers that clients of others were written with: a change of one is a change of the contract."""
    found = endpoints(settings(), region="eu-central-1")
    assert found["chunking"] == {
        "algorithm": "fastcdc-2020",
        "normalization": 2,
        "min_bytes": 524_288,
        "avg_bytes": 2_097_152,
        "max_bytes": 8_388_608,
    }
    assert found["limits"] == {
        "message_bytes": 4_194_304,
        "page_items": 1000,
        "mutations": 2000,
        "mutations_bytes": 300_000,
        "check_batch": 1000,
        "find_digests": 10_000,
        "seal_objects": 1000,
        "seal_read_bytes": 512 * 1024 * 1024,
        "watched_spaces": 100,
        "pack_bytes": 8_388_608,
        "pack_entries": 4096,
        "object_bytes": 16_777_216,
        "inline_blocks": 1024,
        "name_bytes": 255,
        "path_bytes": 4096,
        "path_names": 128,
        "query_characters": 255,
        "label_characters": 100,
        "password_characters": [8, 1024],
    }
    assert found["lifetimes_seconds"] == {
        "access_token": 900,
        "link_token": 43_200,
        "refresh_token_idle": 5_184_000,
        "browser_key_idle": 2_592_000,
        "program_key": 31_622_400,
        "credentials": [300, 3600],
        "answers": 2_592_000,
        "unary_deadline": 30,
    }
    assert "reflection_v1" in found["features"]
    assert found["features"] == sorted(found["features"])
    known = deployment_to_json(deployment_from_json(found, "https://files.example.com"))
    assert known == {name: found[name] for name in known}, "the client reads what it knows and leaves the rest"


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
