"""Names of spaces in addresses, statuses of what is refused, and locks that processes want at once."""

import asyncio
from typing import Any

import pytest
from wsgidav.dav_error import DAVError

from core.identifiers import ROOT, SpaceId, UserId
from core.tree import Verdict
from gateway.api.commits import refusal
from gateway.dav import properties
from gateway.dav.in_memory import InMemoryRecords
from gateway.dav.locks import Locks
from gateway.dav.protocol import segments
from gateway.dav.refusals import Refused, of_error, page
from gateway.dav.session import Person, Session, Space, named
from syncline.auth.v1 import auth_pb2
from syncline.metadata.v1 import journal_pb2

SPACE = Space(SpaceId("a" * 26), "Spaß", True)


def pb(name, space_id, *, personal=False, role=auth_pb2.ROLE_EDITOR):
    return auth_pb2.Space(space_id=space_id * 26, name=name, personal=personal, role=role)


def test_every_space_has_a_name_of_its_own():
    found = named(
        [
            pb("personal", "c"),
            pb("A/B", "b"),
            pb("personal", "z", personal=True, role=auth_pb2.ROLE_OWNER),
            pb("..", "d", role=auth_pb2.ROLE_VIEWER),
        ]
    )
    assert {name: (space.id[0], space.writable) for name, space in found.items()} == {
        "personal": ("z", True),
        "A∕B": ("b", True),
        "personal (cccccc)": ("c", True),
        "space dddddd": ("d", False),
    }


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        (Verdict.QUOTA_EXCEEDED, 507),
        (Verdict.NAME_TAKEN, 409),
        (Verdict.PARENT_NOT_FOUND, 409),
        (Verdict.VERSION_CONFLICT, 409),
        (Verdict.NAME_INVALID, 400),
        (Verdict.CYCLE, 403),
        (Verdict.NODE_NOT_FOUND, 404),
    ],
)
def test_what_is_refused_has_a_status_of_webdav(verdict, status):
    error = refusal(journal_pb2.MutationResult(verdict=journal_pb2.Verdict.ValueType(verdict.value)))
    assert error is not None
    told, body, headers = page(of_error(error))
    assert told == status
    assert f"<s:exception>{verdict.name}</s:exception>".encode() in body
    assert headers["content-type"] == "application/xml; charset=utf-8"


@pytest.mark.parametrize(
    ("raw", "path"),
    [("/dav", "/"), ("/dav/", "/"), ("/dav/a%20b/c;d%3Fe%23f/", "/a b/c;d?e#f/"), ("/dav/%2541", "/%41")],
)
def test_an_address_is_decoded_once_by_name(raw, path):
    assert segments(raw) == path


@pytest.mark.parametrize("raw", ["/davx", "/other", "/dav/a%2Fb", "/dav/%ff"])
def test_an_address_that_is_none_of_ours_is_refused(raw):
    with pytest.raises(Refused):
        segments(raw)


def session(records, user="ann"):
    person = Person(UserId(user), "token", {SPACE.name: SPACE})
    nobody: Any = None  # no service is asked
    return Session(nobody, records, person, asyncio.get_running_loop())


def acquire(locks, url, user="ann", depth="infinity"):
    try:
        lock = locks.acquire(
            url=url,
            lock_type="write",
            lock_scope="exclusive",
            lock_depth=depth,
            lock_owner=b"",
            timeout=60,
            principal=user,
            token_list=[],
        )
    except DAVError as error:
        return None if error.value == 423 else str(error)
    return lock["token"]


class Slow(InMemoryRecords):
    """Between reading and writing others get their turn."""

    async def read(self, space, names):
        found = await super().read(space, names)
        await asyncio.sleep(0.01)
        return found


async def test_of_many_processes_that_lock_at_once_one_does():
    records = Slow()
    above, below = "/Spa%C3%9F/a", "/Spa%C3%9F/a/b"
    wanted = [above, below] * 3
    tokens = await asyncio.gather(
        *(
            asyncio.to_thread(acquire, Locks(session(records), home=url), url, f"user {i}")
            for i, url in enumerate(wanted)
        )
    )
    assert len([token for token in tokens if token]) == 1


async def test_a_lock_binds_all_processes_until_it_is_released():
    records, url = InMemoryRecords(), "/Spa%C3%9F/a"

    def story():
        token = acquire(Locks(session_, home=url), url)
        other = Locks(other_, home=url)
        with pytest.raises(DAVError):
            other.check_write_permission(url=f"{url}/b", depth="0", token_list=[], principal="ben")
        with pytest.raises(DAVError):  # the token alone is not enough
            other.check_write_permission(url=f"{url}/b", depth="0", token_list=[token], principal="ben")
        own = Locks(session_, home=url)
        own.check_write_permission(url="/Spa%C3%9F", depth="infinity", token_list=[token], principal="ann")
        assert own.refresh(token, timeout=10**9)["timeout"] == 24 * 3600
        own.release(token)
        other.look_again()
        other.check_write_permission(url=f"{url}/b", depth="0", token_list=[], principal="ben")

    session_, other_ = session(records), session(records, "ben")
    await asyncio.to_thread(story)


async def test_properties_that_are_set_at_once_are_all_kept():
    records = Slow()
    sessions = [session(records) for _ in range(4)]
    await asyncio.gather(
        *(
            asyncio.to_thread(properties.change, one, SPACE, ROOT, [(f"{{x}}{i}", "<v/>")])
            for i, one in enumerate(sessions)
        )
    )
    found = await asyncio.to_thread(properties.read, session(records), SPACE, ROOT)
    assert sorted(found) == [f"{{x}}{i}" for i in range(4)]
