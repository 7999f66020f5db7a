"""Tokens: used while they last, refreshed once, never spent twice."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from syncline.auth.v1 import auth_pb2_grpc
from syncline.metadata.v1 import metadata_pb2
from syncline.model.errors import (
    DeviceRevoked,
    RefreshTokenReused,
    SynclineError,
    TokenExpired,
    TokenInvalid,
    TokenMalformed,
    TooManyAttempts,
    Unauthenticated,
    Unavailable,
)
from syncline.sdk.account import Accounts
from syncline.sdk.account_file import AccountFile
from syncline.sdk.errors import NotSignedIn, UnexpectedAnswer
from syncline.sdk.session import Session
from tests.clients.sdk.servicers import Running, serve


def expire(home: Path, *, left_ms: int = 0) -> None:
    """Make the session believe that the access token was issued long ago."""
    file = AccountFile(home)
    account = file.load()
    assert account is not None
    kept = account.access_expires_at_ms - 900_000 + left_ms
    file.save(dataclasses.replace(account, access_expires_at_ms=kept))


def test_a_good_token_is_used_again_by_the_next_run(services: Running, session: Session, home: Path) -> None:
    for _ in range(3):
        with Session.open(home) as again:
            Accounts(again).who_am_i()
            assert again.requests.counts().grpc == 1
    assert services.auth.methods == ["SignUp", *["GetAccount"] * 3]
    assert services.discoveries == 1


def test_without_an_account_there_is_no_session(home: Path) -> None:
    with pytest.raises(NotSignedIn):
        Session.open(home)


@pytest.mark.parametrize("left_ms", [0, 59_000])
def test_a_token_about_to_expire_is_refreshed_first(
    services: Running, session: Session, home: Path, left_ms: int
) -> None:
    expire(home, left_ms=left_ms)
    with Session.open(home) as again:
        Accounts(again).who_am_i()
        assert again.requests.counts().grpc == 2
    assert services.auth.methods == ["SignUp", "RefreshToken", "GetAccount"]


@pytest.mark.parametrize("refusal", [TokenExpired(), TokenInvalid(), TokenMalformed(), Unauthenticated()])
def test_a_refused_token_is_refreshed_once_and_the_call_repeated(
    services: Running, session: Session, home: Path, refusal: SynclineError
) -> None:
    services.auth.refusal = refusal
    services.auth.access.clear()
    Accounts(session).who_am_i()
    assert services.auth.methods == ["SignUp", "GetAccount", "RefreshToken", "GetAccount"]
    with Session.open(home) as again:
        Accounts(again).who_am_i()
    assert services.auth.refreshes == 1, "the next run has the new token"


@pytest.mark.parametrize("known", [True, False], ids=["when it is known to have expired", "when it is refused"])
def test_a_limit_on_fresh_tokens_is_waited_for(services: Running, session: Session, home: Path, known: bool) -> None:
    services.auth.refresh_refusals = [TooManyAttempts(retry_after_seconds="0.010")] * 3
    if known:
        expire(home)
    else:
        services.auth.access.clear()
    with Session.open(home) as again:
        Accounts(again).who_am_i()
    assert services.auth.methods.count("RefreshToken") == 4
    assert services.auth.refreshes == 1


def test_a_token_that_is_refused_again_is_an_error(
    services: Running, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Forgetful(set[str]):
        def add(self, item: str) -> None:
            pass

    services.auth.access = Forgetful()
    with pytest.raises(Unauthenticated):
        Accounts(session).who_am_i()
    assert services.auth.refreshes == 1


def test_new_tokens_are_saved_before_they_are_used(
    services: Running, session: Session, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If they cannot be saved they are not used, so that the ones in the file stay good."""
    expire(home)

    def full(self: AccountFile, account: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(AccountFile, "save", full)
    with Session.open(home) as again, pytest.raises(OSError, match="No space"):
        Accounts(again).who_am_i()
    assert "GetAccount" not in services.auth.methods


def test_a_revoked_device_is_told_so(services: Running, session: Session, home: Path) -> None:
    services.auth.revoked = True
    with pytest.raises(DeviceRevoked):
        Accounts(session).who_am_i()
    expire(home)
    with Session.open(home) as again, pytest.raises(DeviceRevoked):
        Accounts(again).who_am_i()


def test_a_spent_token_is_not_presented_again_and_again(services: Running, session: Session, home: Path) -> None:
    services.auth.current = "another one's"
    expire(home)
    with Session.open(home) as again, pytest.raises(RefreshTokenReused):
        Accounts(again).who_am_i()
    assert services.auth.refreshes == 1


def test_a_session_takes_over_what_another_process_refreshed(services: Running, session: Session, home: Path) -> None:
    expire(home)
    with Session.open(home) as first, Session.open(home) as second:
        Accounts(first).who_am_i()
        Accounts(second).who_am_i()
    assert services.auth.refreshes == 1


def test_a_session_ends_with_the_account(services: Running, session: Session, home: Path) -> None:
    expire(home)
    with Session.open(home) as again:
        AccountFile(home).remove()
        with pytest.raises(NotSignedIn, match="has been signed out"):
            Accounts(again).who_am_i()


def test_threads_refresh_once(services: Running, session: Session, home: Path) -> None:
    expire(home)
    services.auth.refresh_seconds = 0.1
    with Session.open(home) as again:
        threads = [threading.Thread(target=Accounts(again).who_am_i) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert services.auth.refreshes == 1
    assert services.auth.methods.count("GetAccount") == 8


PROCESS = """
import sys
from pathlib import Path
from syncline.sdk.account import Accounts
from syncline.sdk.session import Session

home, rounds = Path(sys.argv[1]), int(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(rounds):
    with Session.open(home) as session:
        Accounts(session).who_am_i()
print("done")
"""


def test_two_processes_never_spend_the_same_token_twice(services: Running, session: Session, home: Path) -> None:
    """Every token is about to expire, so that each of their calls refreshes; a token spent twice would end it all."""
    services.auth.lifetime_ms = 30_000
    services.auth.refresh_seconds = 0.01
    expire(home)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(home), "15"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    outputs = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        outputs.append(process.communicate(timeout=60)[0])  # noqa: PERF401 - two steps
    assert outputs == ["done\n"] * 2
    assert not services.auth.revoked
    assert services.auth.refreshes == 30


def test_services_that_moved_are_found_again(services: Running, session: Session, home: Path) -> None:
    services.servers[0].stop(None).wait()
    services.move("auth", *serve(auth_pb2_grpc.add_AuthServiceServicer_to_server, services.auth))
    Accounts(session).who_am_i()
    with Session.open(home) as again:
        Accounts(again).who_am_i()
    assert services.discoveries == 2, "at sign-up, and once when they had moved"


def test_services_that_are_gone_are_unavailable(services: Running, session: Session) -> None:
    services.servers[0].stop(None).wait()
    for _ in range(2):
        with pytest.raises(Unavailable, match="does not answer"):
            Accounts(session).who_am_i()
    assert services.discoveries == 2, "looked for once"


def test_a_failure_without_a_reason_says_what_it_knows(services: Running, session: Session) -> None:
    with pytest.raises(UnexpectedAnswer, match="UNIMPLEMENTED"):
        session.call(lambda stubs: stubs.metadata.GetSpace, metadata_pb2.GetSpaceRequest())
