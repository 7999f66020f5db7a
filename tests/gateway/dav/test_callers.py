"""The senders of requests, and the time for which WebDAV remembers their spaces."""

from types import SimpleNamespace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.dav.callers import Callers
from runtime.interruption import REMEMBERED_SECONDS
from services.auth.tokens import AccessTokens, SigningKeys
from syncline.auth.v1 import auth_pb2
from syncline.model.identifiers import DeviceId, UserId
from tests.services.auth.support import Clock

ANSWER_SECONDS = 1.0


async def test_spaces_are_remembered_from_the_moment_of_the_question_on():
    """A right that was taken away while auth answered slowly is remembered for no longer than any other."""
    now, asked = 0.0, list[float]()

    async def list_spaces(request: auth_pb2.ListSpacesRequest, **_: object) -> auth_pb2.ListSpacesResponse:
        nonlocal now
        asked.append(now)
        now += ANSWER_SECONDS
        return auth_pb2.ListSpacesResponse(spaces=[auth_pb2.Space(space_id="a" * 26, alias="team")])

    services: Any = SimpleNamespace(auth=SimpleNamespace(ListSpaces=list_spaces))
    no_keys: Any = None  # the sender has a token
    tokens = AccessTokens(SigningKeys.of(Ed25519PrivateKey.generate()), clock=Clock())
    token = tokens.issue(user=UserId("u" * 26), device=DeviceId("d" * 26)).text
    callers = Callers(services, no_keys, now=lambda: now)

    async def ask() -> None:
        await callers.person(f"Bearer {token}", method="PROPFIND", space="team")

    await ask()
    now = REMEMBERED_SECONDS
    await ask()
    assert asked == [0.0]
    now = REMEMBERED_SECONDS + 0.5
    await ask()
    assert asked == [0.0, REMEMBERED_SECONDS + 0.5]
