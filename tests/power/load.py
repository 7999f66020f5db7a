"""People at work while the power goes: `python -m tests.power.load ENDPOINT DIRECTORY`, until it is killed.

Each acknowledgement becomes a line of DIRECTORY/acknowledged, written when the answer has come: an account, a member, a
directory, a file whose bytes went to S3. The first run makes the owner of the space, later ones go on in it.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syncline.model.accounts import Access, Role
from syncline.model.identifiers import ROOT, SpaceId, new_request_id, new_text_id
from syncline.model.tree import Content, CreateNode, NodeKind
from syncline.model.verdicts import Verdict
from syncline.sdk.account import Accounts, sign_up
from syncline.sdk.session import Session
from syncline.sdk.space import Space
from syncline.transfer.jobs import Uploaded, UploadJob
from syncline.transfer.objects import open_objects
from syncline.transfer.upload import Uploader
from tests.support.passwords import STRONG

PASSWORD = STRONG
COMMITTERS, UPLOADERS = 2, 2
SMALL, LARGE = 4 * 1024, 3 * 1024 * 1024


@dataclass(frozen=True)
class Place:
    """The place that the runs of a load share."""

    directory: Path

    @property
    def owner(self) -> Path:
        return self.directory / "owner"

    @property
    def acknowledged(self) -> Path:
        return self.directory / "acknowledged"

    def lines(self) -> Iterator[dict[str, Any]]:
        """Everything that was ever acknowledged."""
        for line in self.acknowledged.read_text().splitlines():
            yield json.loads(line)

    def space(self) -> SpaceId:
        return next(SpaceId(line["space"]) for line in self.lines() if line["kind"] == "space")


class Notes:
    """Appends lines, each by one write, so that a kill leaves none half written."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, kind: str, **fields: str) -> None:
        os.write(self._file, json.dumps({"kind": kind, **fields}).encode() + b"\n")


def prepare(endpoint: str, place: Place) -> None:
    """Make the owner and the space, all of it acknowledged when this returns."""
    notes = Notes(place.acknowledged)
    with _sign_up(endpoint, place.owner, notes) as owner:
        notes.add("space", space=Accounts(owner).create_space("team").space)


def _sign_up(endpoint: str, home: Path, notes: Notes) -> Session:
    email = f"{new_text_id()}@example.com"
    session = sign_up(home, endpoint=endpoint, email=email, password=PASSWORD, device_name="load")
    notes.add("account", email=email)
    return session


def _invite(endpoint: str, place: Place, notes: Notes) -> Callable[[], None]:
    accounts, space = Accounts(Session.open(place.owner)), place.space()

    def invite() -> None:
        with _sign_up(endpoint, place.directory / new_text_id(), notes) as session:
            email = session.account.email
        accounts.set_member(space, email, Role.EDITOR)
        notes.add("member", email=email)

    return invite


def _commit(place: Place, notes: Notes) -> Callable[[], None]:
    space = Space(Session.open(place.owner), place.space())

    def commit() -> None:
        notes.add("directory", name=_create(space, NodeKind.DIRECTORY))

    return commit


def _upload(place: Place, notes: Notes) -> Callable[[], None]:
    space = Space(Session.open(place.owner), place.space())
    uploader = Uploader(space, open_objects(space, Access.WRITE), workers=2)
    scratch = place.directory / f"scratch-{new_text_id()}"

    def upload() -> None:
        scratch.write_bytes(os.urandom(random.choice((SMALL, LARGE))))
        (result,) = uploader.upload([UploadJob(key=None, path=scratch)])
        assert isinstance(result, Uploaded), result
        name = _create(space, NodeKind.FILE, result.content)
        notes.add("file", name=name, digest=result.content.digest.hex())

    return upload


def _create(space: Space, kind: NodeKind, content: Content | None = None) -> str:
    name = new_text_id()
    committed = space.commit([CreateNode(ROOT, name, kind, content)], new_request_id())
    assert [result.verdict for result in committed.results] == [Verdict.ACCEPTED]
    return name


def main() -> None:
    endpoint, place = sys.argv[1], Place(Path(sys.argv[2]))
    notes = Notes(place.acknowledged)
    workers = [
        _invite(endpoint, place, notes),
        *(_commit(place, notes) for _ in range(COMMITTERS)),
        *(_upload(place, notes) for _ in range(UPLOADERS)),
    ]

    def work(step: Callable[[], None]) -> None:
        while True:
            step()

    threads = [threading.Thread(target=work, args=(step,)) for step in workers]
    print("working", flush=True)
    for thread in threads:
        thread.start()


if __name__ == "__main__":
    main()
