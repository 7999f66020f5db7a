from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from syncline.auth.v1 import auth_pb2
from syncline.model.accounts import Access
from syncline.model.identifiers import SpaceId, new_text_id
from syncline.sdk.account import Accounts
from syncline.sdk.credentials import SpaceCredentials, issue
from syncline.sdk.errors import UnexpectedAnswer
from syncline.sdk.requests import Counts, RequestCounts
from syncline.sdk.session import Session
from tests.clients.sdk.conftest import enter
from tests.clients.sdk.servicers import Running

SPACE = SpaceId(new_text_id())


def test_credentials_are_issued_once_while_they_last(services: Running, session: Session) -> None:
    credentials = SpaceCredentials(session, SPACE, Access.WRITE)
    first = credentials.get()
    assert credentials.get() is first
    assert (first.access_key_id, first.bucket, first.key_prefix) == ("key 1", "bucket", f"spaces/{SPACE}/objects/")
    assert services.auth.requests == [auth_pb2.IssueCredentialsRequest(space_id=SPACE, access=auth_pb2.ACCESS_WRITE)]


def test_credentials_about_to_expire_are_renewed(services: Running, session: Session) -> None:
    services.auth.credentials_lifetime_ms = 299_000
    credentials = SpaceCredentials(session, SPACE, Access.READ)
    credentials.get()
    services.auth.credentials_lifetime_ms = 310_000
    second = credentials.get()
    assert second.access_key_id == "key 2"
    assert credentials.get() is second


@pytest.mark.parametrize("hours", [1, -1, 24 * 400, -24 * 400])
def test_what_the_service_gives_lasts_by_the_clock_of_the_device(services: Running, home: Path, hours: int) -> None:
    """However wrong that is: neither is anything used that has expired, nor renewed with each call."""
    services.auth.ahead_ms = hours * 3_600_000
    with enter(services, home) as session:
        credentials = SpaceCredentials(session, SPACE, Access.READ)
        for _ in range(3):
            credentials.get()
            Accounts(session).who_am_i()
        assert services.auth.issued == 1
        assert "RefreshToken" not in services.auth.methods
    services.auth.credentials_lifetime_ms = 299_000
    with Session.open(home) as session:
        credentials = SpaceCredentials(session, SPACE, Access.READ)
        for _ in range(2):
            credentials.get()
        assert services.auth.issued == 3, "what lasts less than five minutes is not used again"


def test_refused_credentials_are_asked_for_anew(services: Running, session: Session) -> None:
    credentials = SpaceCredentials(session, SPACE, Access.READ)
    first = credentials.get()
    assert credentials.forget(first)
    assert credentials.get().access_key_id == "key 2"
    assert not credentials.forget(first), "those that came after them are kept"
    assert credentials.get().access_key_id == "key 2"


def test_threads_have_them_issued_once(services: Running, session: Session) -> None:
    credentials = SpaceCredentials(session, SPACE, Access.READ)
    threads = [threading.Thread(target=credentials.get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert services.auth.issued == 1


def test_secrets_are_not_shown(session: Session) -> None:
    shown = repr(issue(session, SPACE, Access.READ))
    assert "secret'" not in shown
    assert "token'" not in shown


def test_counts_of_many_threads_add_up() -> None:
    requests = RequestCounts()

    def count() -> None:
        for _ in range(1000):
            requests.add(grpc=1, s3_put=2, s3_get=3, bytes_up=4, bytes_down=5)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert requests.counts() == Counts(4000, 8000, 12_000, 16_000, 20_000)


@pytest.mark.parametrize(
    "broken",
    [
        {"session_token": "a\r\nx-amz-acl: public-read"},
        {"key_prefix": "spaces/\0"},
        {"access_key_id": "k" * 10_000},
        {"expires_at_ms": 1 << 62},
        {"expires_in_ms": 1 << 62},
    ],
)
def test_credentials_with_which_nothing_can_be_signed_are_refused_in_words(
    services: Running, session: Session, broken: dict[str, Any]
) -> None:
    services.auth.credentials = broken
    with pytest.raises(UnexpectedAnswer, match="does not understand"):
        issue(session, SPACE, Access.READ)
