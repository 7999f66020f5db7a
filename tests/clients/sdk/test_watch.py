# ruff: noqa: N802 - rpcs have the names of the contract

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from syncline.model.accounts import MailMode
from syncline.model.doorbell import Doorbell
from syncline.model.errors import NoSuchSpace, RateExceeded, SynclineError, TokenExpired, Unavailable
from syncline.model.identifiers import SpaceId, new_text_id
from syncline.notify.v1 import notify_pb2, notify_pb2_grpc
from syncline.sdk import session as session_module
from syncline.sdk import watch as watch_module
from syncline.sdk.account import Accounts
from syncline.sdk.session import Session
from syncline.sdk.space import Space
from syncline.sdk.watch import Listening, Watch
from tests.clients.sdk.conftest import enter
from tests.clients.sdk.servicers import refuse, running

SPACE = SpaceId(new_text_id())
HEARTBEAT = notify_pb2.WatchResponse(heartbeat=notify_pb2.Heartbeat())


def bell(seq: int) -> notify_pb2.WatchResponse:
    return notify_pb2.WatchResponse(doorbell=notify_pb2.Doorbell(space_id=SPACE, seq=seq))


class Notify(notify_pb2_grpc.NotifyServiceServicer):
    """Each Watch sends what the next of `streams` sends; after the last one, a heartbeat and nothing more."""

    def __init__(self) -> None:
        self.streams: list[Callable[[], Iterator[Any]]] = []
        self.opened = 0
        self.ended = threading.Event()
        self.mode = notify_pb2.MAIL_MODE_INSTANT

    def Watch(self, request: notify_pb2.WatchRequest, context: grpc.ServicerContext) -> Iterator[Any]:
        assert list(request.space_ids) == [SPACE]
        self.opened += 1
        try:
            if self.opened <= len(self.streams):
                yield from self.streams[self.opened - 1]()
                return
            context.add_callback(self.ended.set)
            yield HEARTBEAT
            self.ended.wait(60)
        except SynclineError as error:
            refuse(context, error)
        except ConnectionResetError:  # the client sees a status that no server of ours made
            context.abort(grpc.StatusCode.INTERNAL, "Stream removed (RST_STREAM with error code 2)")

    def GetPreference(self, request: Any, context: grpc.ServicerContext) -> notify_pb2.GetPreferenceResponse:
        return notify_pb2.GetPreferenceResponse(mode=self.mode)

    def SetPreference(self, request: Any, context: grpc.ServicerContext) -> notify_pb2.SetPreferenceResponse:
        self.mode = request.mode
        return notify_pb2.SetPreferenceResponse(mode=self.mode)


def sends(*messages: Any) -> Callable[[], Iterator[Any]]:
    def stream() -> Iterator[Any]:
        for message in messages:
            if isinstance(message, Exception):
                raise message
            yield message

    return stream


@pytest.fixture
def notify() -> Notify:
    return Notify()


@pytest.fixture
def session(notify: Notify, home: Path) -> Iterator[Session]:
    with running(notify=notify) as services, enter(services, home) as session:
        yield session


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "_FIRST_DELAY_SECONDS", 0.01)
    monkeypatch.setattr(watch_module, "_MAX_DELAY_SECONDS", 0.05)


def events(watch: Watch, count: int) -> list[Listening | Doorbell]:
    found: list[Listening | Doorbell] = []
    with watch:
        for event in watch:
            found.append(event)
            if len(found) == count:
                break
    return found


def test_the_first_heartbeat_says_that_we_are_listening(notify: Notify, session: Session) -> None:
    notify.streams = [sends(HEARTBEAT, bell(3), HEARTBEAT, bell(4))]
    assert events(Space(session, SPACE).watch(), 3) == [Listening(), Doorbell(SPACE, 3), Doorbell(SPACE, 4)]


def test_after_each_reconnection_we_are_listening_anew(notify: Notify, session: Session) -> None:
    """Ended with OK, broken, and refused for a while."""
    notify.streams = [
        sends(HEARTBEAT, bell(1)),
        sends(HEARTBEAT, Unavailable("the server went away")),
        sends(Unavailable("not yet")),
        sends(HEARTBEAT, bell(2)),
    ]
    assert events(Watch(session, [SPACE]), 5) == [
        Listening(),
        Doorbell(SPACE, 1),
        Listening(),
        Listening(),
        Doorbell(SPACE, 2),
    ]


def test_the_end_of_its_access_token_does_not_end_it(notify: Notify, session: Session) -> None:
    notify.streams = [sends(HEARTBEAT, bell(1), TokenExpired()), sends(TokenExpired()), sends(HEARTBEAT, bell(2))]
    told = events(Watch(session, [SPACE]), 4)
    assert told == [Listening(), Doorbell(SPACE, 1), Listening(), Doorbell(SPACE, 2)]


def test_it_goes_on_when_the_process_behind_a_balancer_is_killed(notify: Notify, session: Session) -> None:
    notify.streams = [sends(HEARTBEAT, ConnectionResetError())]
    assert events(Watch(session, [SPACE]), 2) == [Listening()] * 2


def test_a_limit_does_not_end_it(notify: Notify, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it lasts: a watch has nothing better to do."""
    monkeypatch.setattr(session_module, "RATE_PATIENCE_SECONDS", 0.05)
    late = RateExceeded("you have 64 streams of this kind open; close some", retry_after_seconds="0.020")
    notify.streams = [sends(late)] * 20
    assert events(Watch(session, [SPACE]), 1) == [Listening()]
    assert notify.opened == 21


def test_closing_ends_it_while_a_limit_is_waited_for(notify: Notify, session: Session) -> None:
    notify.streams = [sends(RateExceeded(retry_after_seconds="500"))]
    waiting = threading.Event()
    session.on_wait = lambda error, seconds: waiting.set()
    watch, found = Watch(session, [SPACE]), list[Any]()
    thread = threading.Thread(target=lambda: found.extend(watch))
    thread.start()
    assert waiting.wait(60)
    watch.close()
    thread.join(60)
    assert (thread.is_alive(), found) == (False, [])


def test_what_makes_it_pointless_is_raised(notify: Notify, session: Session) -> None:
    notify.streams = [sends(HEARTBEAT, NoSuchSpace())]
    with pytest.raises(NoSuchSpace):
        events(Watch(session, [SPACE]), 10)


def test_a_silent_line_is_opened_anew(notify: Notify, session: Session) -> None:
    assert events(Watch(session, [SPACE], silence=0.1), 3) == [Listening()] * 3
    assert notify.opened == 3


def test_closing_from_another_thread_ends_it(notify: Notify, session: Session) -> None:
    watch = Watch(session, [SPACE])
    found = []
    listening = threading.Event()

    def listen() -> None:
        for event in watch:
            found.append(event)
            listening.set()

    thread = threading.Thread(target=listen)
    thread.start()
    assert listening.wait(60)
    watch.close()
    thread.join(60)
    assert not thread.is_alive()
    assert found == [Listening()]
    assert notify.ended.wait(60)


def test_a_watch_that_was_closed_does_not_begin(notify: Notify, session: Session) -> None:
    watch = Watch(session, [SPACE])
    watch.close()
    assert list(watch) == []
    assert notify.opened == 0


def test_how_one_is_mailed(notify: Notify, session: Session) -> None:
    accounts = Accounts(session)
    assert accounts.mail_mode(SPACE) is MailMode.INSTANT
    assert accounts.set_mail_mode(SPACE, MailMode.OFF) is MailMode.OFF
    assert accounts.mail_mode(SPACE) is MailMode.OFF
