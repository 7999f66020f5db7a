from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from syncline.sdk import account_file
from syncline.sdk.account_file import AccountFile, StoredAccount
from syncline.sdk.discovery import Deployment, Service, StorageAddress
from syncline.sdk.errors import AccountUnreadable, HomeNotPrivate

ACCOUNT = StoredAccount(
    endpoint="https://files.example.com",
    deployment=Deployment(
        Service("127.0.0.1:1", tls=True),
        Service("127.0.0.1:2", tls=False),
        Service("127.0.0.1:3", tls=False),
        StorageAddress("http://127.0.0.1:4", "us-east-1", "content", path_style=True),
    ),
    user="u" * 26,
    email="ann@example.com",
    personal_space="p" * 26,
    device="d" * 26,
    device_name="Ann's laptop",
    refresh_token="refresh",
    access_token="access",
    access_expires_at_ms=1_795_000_000_000,
)


def test_what_is_saved_is_loaded(home: Path) -> None:
    file = AccountFile(home)
    assert file.load() is None
    file.save(ACCOUNT)
    assert AccountFile(home).load() == ACCOUNT
    file.remove()
    assert file.load() is None
    file.remove()


def test_only_the_user_can_read_it(home: Path) -> None:
    previous = os.umask(0)
    try:
        AccountFile(home).save(ACCOUNT)
    finally:
        os.umask(previous)
    assert (home / "account.json").stat().st_mode & 0o777 == 0o600
    assert home.stat().st_mode & 0o777 == 0o700


def test_tokens_are_not_shown(home: Path) -> None:
    assert "refresh" not in repr(ACCOUNT).replace("refresh_token", "")
    assert "access_token" not in repr(ACCOUNT)


DAMAGED = {
    "empty": b"",
    "cut short": b'{"version": 1, "endp',
    "no object": b"[]",
    "no text": b"\xff\xff",
    "of another version": b'{"version": 2}',
    "incomplete": b'{"version": 1, "endpoint": "https://files.example.com"}',
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_named_and_kept(home: Path, damage: str) -> None:
    file = AccountFile(home)
    file.save(ACCOUNT)
    file.path.write_bytes(DAMAGED[damage])
    with pytest.raises(AccountUnreadable, match=r"account\.json is damaged and was left as it is; move it away"):
        file.load()
    assert file.path.read_bytes() == DAMAGED[damage]


def test_a_field_of_another_type_is_damage(home: Path) -> None:
    file = AccountFile(home)
    file.save(ACCOUNT)
    document = json.loads(file.path.read_bytes())
    file.path.write_text(json.dumps({**document, "refresh_token": 7}))
    with pytest.raises(AccountUnreadable):
        file.load()


def test_a_file_that_cannot_be_read_is_named(home: Path) -> None:
    file = AccountFile(home)
    file.path.mkdir(parents=True)
    with pytest.raises(AccountUnreadable, match="cannot be read"):
        file.load()


def test_a_crash_while_saving_leaves_the_old_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = AccountFile(home)
    file.save(ACCOUNT)

    def crash(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(OSError, match="No space"):
        file.save(ACCOUNT)
    monkeypatch.undo()
    assert file.load() == ACCOUNT
    assert [path.name for path in home.iterdir()] == ["account.json"]


def test_nobody_else_of_the_machine_can_hold_the_lock(home: Path) -> None:
    """A lock is taken by whoever may open the file, for reading too: devices could not refresh their tokens then."""
    home.mkdir(mode=0o755)
    lock = home / "account.lock"
    lock.touch(mode=0o644)
    with AccountFile(home).locked():
        assert lock.stat().st_mode & 0o077 == 0


SOMEBODY_ELSE = 12_345


@pytest.mark.parametrize("mode", [0o700, 0o777])
def test_a_home_that_somebody_else_has_made_is_not_used(home: Path, mode: int) -> None:
    """Such as one with a name that can be guessed, where everybody may make directories."""
    if os.geteuid():
        pytest.skip("only root gives directories away")
    home.mkdir()
    home.chmod(mode)
    os.chown(home, SOMEBODY_ELSE, -1)
    file = AccountFile(home)
    with pytest.raises(HomeNotPrivate, match="belongs to another user"):
        file.load()
    with pytest.raises(HomeNotPrivate, match="belongs to another user"), file.locked():
        pass
    with pytest.raises(HomeNotPrivate, match="belongs to another user"):
        file.save(ACCOUNT)
    assert not list(home.iterdir())


def test_a_home_to_which_everybody_may_write_is_not_used(home: Path) -> None:
    home.mkdir()
    home.chmod(0o1777)
    with pytest.raises(HomeNotPrivate, match="everybody"):
        AccountFile(home).save(ACCOUNT)
    assert not list(home.iterdir())
    home.chmod(0o775)
    AccountFile(home).save(ACCOUNT)
    assert AccountFile(home).load() == ACCOUNT


def test_tokens_are_written_into_no_file_that_was_there(home: Path) -> None:
    home.mkdir(mode=0o700)
    waiting = home / "account.json.tmp"
    waiting.touch()
    waiting.chmod(0o666)
    with waiting.open("rb") as held:
        AccountFile(home).save(ACCOUNT)
        assert held.read() == b""
    assert (home / "account.json").stat().st_mode & 0o777 == 0o600


def test_one_at_a_time(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_file, "LOCK_TIMEOUT_SECONDS", 0.1)
    inside = threading.Event()
    leave = threading.Event()

    def hold() -> None:
        with AccountFile(home).locked():
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(60)
    with pytest.raises(AccountUnreadable, match="another process holds"), AccountFile(home).locked():
        pass
    leave.set()
    thread.join()
    with AccountFile(home).locked():
        pass
