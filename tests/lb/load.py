"""A mixed load of people at work, through the SDK, that notes everything it was told.

Each person works on a thread of their own in the space of a team of ten: reads, version checks, commits, uploads,
downloads through the gateway; a second thread watches that space. Seeded: who does what in which order is always the
same, only when is not.
"""

from __future__ import annotations

import hashlib
import http.client
import random
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from syncline.model.accounts import Access, Role
from syncline.model.blocks import Digest
from syncline.model.doorbell import Doorbell
from syncline.model.identifiers import ROOT, RequestId, SpaceId, new_request_id, new_text_id
from syncline.model.tree import Content, CreateNode, NodeKind
from syncline.model.verdicts import Verdict
from syncline.sdk.account import Accounts, sign_up
from syncline.sdk.session import Session
from syncline.sdk.space import Space
from syncline.sdk.watch import Listening, Watch
from syncline.transfer.jobs import Uploaded, UploadJob
from syncline.transfer.objects import open_objects
from syncline.transfer.upload import Uploader
from tests.support.passwords import STRONG

USERS = 50
TEAM = 10
PAUSE_SECONDS = 2.0
"""Between two operations of a person, on average."""
LARGEST_FILE = 96 * 1024
DOWNLOAD_ATTEMPTS = 3
DOWNLOAD_SECONDS = 30.0
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A commit that the service said it has applied."""

    space: SpaceId
    request: RequestId
    seq: int


@dataclass
class Notes:
    """The answers that all people got together."""

    operations: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    attempted: set[RequestId] = field(default_factory=set)
    downloads_begun_again: int = 0
    slowest: tuple[float, str] = (0.0, "")
    lock: threading.Lock = field(default_factory=threading.Lock)

    def done(self, operation: str, seconds: float) -> None:
        with self.lock:
            self.operations[operation] += 1
            self.slowest = max(self.slowest, (round(seconds, 2), operation))

    def failed(self, operation: str, error: BaseException) -> None:
        with self.lock:
            self.failures.append(f"{operation}: {type(error).__name__}: {error}")


class Watcher:
    """Watches a space, as a client does that pulls on `Listening` and on each doorbell."""

    def __init__(self, space: Space, notes: Notes) -> None:
        self.rung = 0
        """The last sequence number that a doorbell told."""
        self.connections = 0
        self._watch: Watch = space.watch()
        self._notes = notes
        self._thread = threading.Thread(target=self._listen, name="watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._watch.close()
        self._thread.join()

    def _listen(self) -> None:
        try:
            for event in self._watch:
                match event:
                    case Listening():
                        self.connections += 1
                    case Doorbell(seq=seq):
                        self.rung = max(self.rung, seq)
        except Exception as error:
            self._notes.failed("watch", error)


class Person:
    """One signed-in device, and what it knows to be in the team's space."""

    def __init__(
        self, session: Session, space: SpaceId, notes: Notes, *, number: int, seed: int, scratch: Path
    ) -> None:
        self.session = session
        self.space = Space(session, space)
        self.watcher = Watcher(self.space, notes)
        self._accounts = Accounts(session)
        self._uploader = Uploader(self.space, open_objects(self.space, Access.WRITE), workers=2)
        self._notes = notes
        self._random = random.Random(seed * 1000 + number)
        self._name = f"{number:02}-{new_text_id()[:8]}"
        self._scratch = scratch / f"{self._name}.bin"
        self._made = 0
        self._files: dict[str, Digest] = {}
        self._cursor = b""

    def work(self, stop: threading.Event) -> None:
        """One operation after the other until `stop`."""
        operations: dict[Callable[[], None], int] = {
            self.look: 3,
            self.list_root: 1,
            self.find: 2,
            self.ask_auth: 2,
            self.pull: 3,
            self.check: 2,
            self.commit: 4,
            self.upload: 1,
            self.download: 2,
        }
        while not stop.wait(self._random.expovariate(1 / PAUSE_SECONDS)):
            (operation,) = self._random.choices(list(operations), list(operations.values()))
            began = time.monotonic()
            try:
                operation()
            except Exception as error:
                self._notes.failed(operation.__name__, error)
            else:
                self._notes.done(operation.__name__, time.monotonic() - began)

    def look(self) -> None:
        self.space.get_space()

    def list_root(self) -> None:
        names = {node.name for node in self.space.list_nodes()}
        missing = self._files.keys() - names
        assert not missing, f"a listing lacks {sorted(missing)}"

    def find(self) -> None:
        if self._files:
            name = self._random.choice(list(self._files))
            found = self.space.get_node(name)
            assert found.node.content
            assert found.node.content.digest == self._files[name]

    def ask_auth(self) -> None:
        assert self.space.id in {grant.space for grant in self._accounts.spaces()}

    def pull(self) -> None:
        for page in self.space.changes(self._cursor):
            self._cursor = page.cursor or self._cursor

    def check(self) -> None:
        for answer in self.space.check_versions(self._files.items()):
            assert not answer.differing, f"a check says {answer.differing}"

    def commit(self) -> None:
        self._create(NodeKind.DIRECTORY)

    def upload(self) -> None:
        self._scratch.write_bytes(self._random.randbytes(self._random.randrange(1, LARGEST_FILE)))
        (result,) = self._uploader.upload([UploadJob(key=None, path=self._scratch)])
        assert isinstance(result, Uploaded), result
        self._files[self._create(NodeKind.FILE, result.content)] = result.content.digest

    def download(self) -> None:
        """Begin again what broke off, as any HTTP client may: there is no other way once bytes have arrived."""
        if not self._files:
            return
        name = self._random.choice(list(self._files))
        for attempt in range(1, DOWNLOAD_ATTEMPTS + 1):
            try:
                body = self._get(name)
                break
            except (OSError, http.client.HTTPException):
                if attempt == DOWNLOAD_ATTEMPTS:
                    raise
                with self._notes.lock:
                    self._notes.downloads_begun_again += 1
        assert hashlib.sha256(body).digest() == self._files[name]

    def _get(self, name: str) -> bytes:
        address = urllib.parse.urlsplit(self.session.account.endpoint)
        assert address.hostname
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=DOWNLOAD_SECONDS)
        try:
            authorization = {"authorization": f"Bearer {self.session.token()}"}
            connection.request("GET", f"/v1/spaces/{self.space.id}/content/{name}", headers=authorization)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        assert answer.status == 200, f"{answer.status} {body[:200]!r}"
        return body

    def _create(self, kind: NodeKind, content: Content | None = None) -> str:
        self._made += 1
        name, request = f"{self._name}-{self._made:04}", new_request_id()
        with self._notes.lock:
            self._notes.attempted.add(request)
        committed = self.space.commit([CreateNode(ROOT, name, kind, content)], request)
        verdicts = [result.verdict for result in committed.results]
        assert verdicts == [Verdict.ACCEPTED], verdicts
        with self._notes.lock:
            self._notes.acknowledged.append(Acknowledged(self.space.id, request, committed.seq))
        return name


class Load:
    """People in teams, ready to work. What they are told is in `notes`."""

    def __init__(self, people: list[Person], notes: Notes) -> None:
        self.people = people
        self.notes = notes

    @property
    def spaces(self) -> set[SpaceId]:
        return {person.space.id for person in self.people}

    @contextmanager
    def running(self, *, seconds: float = 0.0) -> Iterator[None]:
        """Everybody works while the block lasts, and for `seconds` at least."""
        stop, began = threading.Event(), time.monotonic()
        threads = [threading.Thread(target=person.work, args=(stop,), daemon=True) for person in self.people]
        for thread in threads:
            thread.start()
        try:
            yield
            stop.wait(max(0.0, began + seconds - time.monotonic()))
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def listening(self, *, connections: int = 1) -> None:
        """Return when everybody's watch has connected so often. Raise AssertionError if that takes too long."""
        _until(
            lambda: all(person.watcher.connections >= connections for person in self.people),
            lambda: f"watches connected {sorted(person.watcher.connections for person in self.people)} times",
        )

    def ring(self) -> None:
        """One more commit in each space; return when everybody's watch was told of it, else AssertionError."""
        last: dict[SpaceId, int] = {}
        for person in self.people:
            if person.space.id not in last:
                person.commit()
                last[person.space.id] = person.space.get_space().head
        _until(
            lambda: all(person.watcher.rung >= last[person.space.id] for person in self.people),
            lambda: f"not told: {sum(person.watcher.rung < last[person.space.id] for person in self.people)} watches",
        )


@contextmanager
def people(endpoint: str, scratch: Path, *, seed: int, users: int = USERS) -> Iterator[Load]:
    """Sign `users` up, put them into teams and have them watch."""
    notes = Notes()

    def enter(number: int) -> Session:
        return sign_up(
            scratch / f"home-{number}",
            endpoint=endpoint,
            email=f"{number}-{new_text_id()}@example.com",
            password=STRONG,
            device_name="load",
        )

    with ThreadPoolExecutor(8) as pool:
        sessions = list(pool.map(enter, range(users)))
        teams = [sessions[at : at + TEAM] for at in range(0, users, TEAM)]
        spaces = list(pool.map(_team_space, teams))
    load = Load(
        [
            Person(session, spaces[number // TEAM], notes, number=number, seed=seed, scratch=scratch)
            for number, session in enumerate(sessions)
        ],
        notes,
    )
    for person in load.people:
        person.watcher.start()
    try:
        load.listening()
        yield load
    finally:
        for person in load.people:
            person.watcher.stop()
            person.session.close()


def _team_space(members: list[Session]) -> SpaceId:
    owner, *others = members
    accounts = Accounts(owner)
    space = accounts.create_space("team").space
    for other in others:
        accounts.set_member(space, other.account.email, Role.EDITOR)
    return space


def _until(condition: Callable[[], bool], otherwise: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, otherwise()
        time.sleep(0.05)
