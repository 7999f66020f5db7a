"""Keys are traded for tokens, and a key that is none leaves nothing behind."""

import asyncio
import contextlib
import gc
import weakref
from types import SimpleNamespace
from typing import Any

from gateway.identity.caller import _MAX_REMEMBERED_TOKENS, KEY_PREFIX, KeyTokens
from syncline.auth.v1 import auth_pb2
from syncline.model.errors import Unauthenticated

GOOD = f"{KEY_PREFIX}good"


class Auth:
    """Knows one key, and keeps track of the errors with which it refused others."""

    def __init__(self):
        self.traded = 0
        self.errors: weakref.WeakSet[Unauthenticated] = weakref.WeakSet()

    async def exchange(self, request, *, metadata):
        await asyncio.sleep(0)
        if request.key != GOOD:
            error = Unauthenticated("there is no such key")
            self.errors.add(error)
            raise error
        self.traded += 1
        tokens = auth_pb2.Tokens(access_token="token", access_expires_at_ms=2**50)
        return auth_pb2.ExchangeKeyResponse(tokens=tokens)


def tokens_of(auth) -> KeyTokens:
    services: Any = SimpleNamespace(auth=SimpleNamespace(ExchangeKey=auth.exchange))
    return KeyTokens(services)


async def refused(keys, key):
    with contextlib.suppress(Unauthenticated):
        await keys.token(key)
        raise AssertionError(key)


async def test_keys_that_were_made_up_leave_nothing_and_displace_no_token():
    auth = Auth()
    keys = tokens_of(auth)
    assert await keys.token(GOOD) == "token"
    for number in range(_MAX_REMEMBERED_TOKENS + 1):
        await refused(keys, f"{KEY_PREFIX}{number}")
    await asyncio.sleep(0)
    gc.collect()
    assert len(auth.errors) == 0
    assert await keys.token(GOOD) == "token"
    assert auth.traded == 1


async def test_a_key_that_was_refused_is_asked_for_again_and_once_for_all_who_wait():
    auth = Auth()
    keys = tokens_of(auth)
    await refused(keys, f"{KEY_PREFIX}bad")
    await asyncio.gather(*(refused(keys, f"{KEY_PREFIX}bad") for _ in range(5)))
    assert await asyncio.gather(*(keys.token(GOOD) for _ in range(5))) == ["token"] * 5
    assert auth.traded == 1
