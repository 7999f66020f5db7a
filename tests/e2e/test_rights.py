"""Rights that end and are given anew between two syncs, within the seconds for which the services remember them."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from stack.demo import DemoDevice
from stack.up import Stack
from syncline.model.accounts import Role
from syncline.model.errors import SynclineError
from syncline.model.identifiers import ROOT, SpaceId, new_request_id
from syncline.model.tree import CreateNode, DeleteNode, NodeKind
from syncline.model.verdicts import Verdict
from syncline.sdk.account import Accounts
from syncline.sdk.session import Session
from syncline.sdk.space import Space
from tests.e2e.dav import Person
from tests.e2e.test_watch import watching

NewDevice = Callable[..., DemoDevice]

FILES = {"deleted": "deleted", "renamed": "renamed", "edited": "edited", "gone/a": "a", "gone/b": "b"}


class Owner:
    """A person with a shared space, who gives and takes rights within milliseconds."""

    def __init__(self, device: DemoDevice, session: Session) -> None:
        self.device = device
        self.account = Accounts(session)
        self.space: SpaceId = self.account.create_space("Project").space

    def give(self, member: DemoDevice, role: Role) -> None:
        self.account.set_member(self.space, member.email, role)

    def take(self, member: DemoDevice) -> None:
        self.account.remove_member(self.space, member.email)

    def has_everything(self) -> bool:
        """True if everything of the beginning is there, to whoever looks."""
        self.device.sync()
        return {name: text_of(self.device, name) for name in FILES} == FILES


def text_of(device: DemoDevice, name: str) -> str | None:
    file = device.folder / name
    return file.read_text() if file.exists() else None


@pytest.fixture
def ann(new_device: NewDevice) -> Iterator[Owner]:
    """The owner of a space with files."""
    device = new_device("ann")
    with Session.open(device.root / "home") as session:
        owner = Owner(device, session)
        (device.folder / "gone").mkdir()
        for name, text in FILES.items():
            (device.folder / name).write_text(text)
        device.sync("--space", "Project")
        yield owner


@pytest.fixture
def ben(ann: Owner, new_device: NewDevice) -> DemoDevice:
    """An editor, who has just synced."""
    device = new_device("ben")
    ann.give(device, Role.EDITOR)
    device.sync("--space", "Project")
    return device


def demoted(ann: Owner, ben: DemoDevice) -> None:
    ann.give(ben, Role.VIEWER)


def removed(ann: Owner, ben: DemoDevice) -> None:
    ann.take(ben)


def change_everything(device: DemoDevice) -> None:
    (device.folder / "deleted").unlink()
    (device.folder / "renamed").rename(device.folder / "other name")
    (device.folder / "edited").write_text("edited without the right")
    shutil.rmtree(device.folder / "gone")
    (device.folder / "new").write_text("new")


ENDED = pytest.mark.parametrize("ended", [demoted, removed])


@ENDED
def test_what_was_done_meanwhile_is_taken_back(
    ann: Owner, ben: DemoDevice, ended: Callable[[Owner, DemoDevice], None]
) -> None:
    ended(ann, ben)
    change_everything(ben)
    ann.give(ben, Role.EDITOR)
    figures = ben.sync()
    assert figures["deleted_remote"] == 0
    assert ann.has_everything()
    assert text_of(ann.device, "new") == "new"
    texts = [path.read_text() for path in ann.device.folder.iterdir() if path.is_file()]
    assert "edited without the right" in texts
    # From now on it counts, at once.
    (ben.folder / "deleted").unlink()
    assert ben.sync()["deleted_remote"] == 1
    ann.device.sync()
    assert text_of(ann.device, "deleted") is None


@ENDED
def test_what_is_done_afterwards_is_refused_at_once(
    ann: Owner, ben: DemoDevice, ended: Callable[[Owner, DemoDevice], None]
) -> None:
    # Nothing of it needs credentials for S3, which are refused by themselves.
    (ben.folder / "deleted").unlink()
    (ben.folder / "renamed").rename(ben.folder / "other name")
    shutil.rmtree(ben.folder / "gone")
    (ben.folder / "directory").mkdir()
    ended(ann, ben)
    ben.run("sync", str(ben.folder), expect=1 if ended is removed else 4)
    assert ann.has_everything()
    assert not (ann.device.folder / "directory").exists()


@ENDED
def test_a_watch_that_missed_it(ann: Owner, ben: DemoDevice, ended: Callable[[Owner, DemoDevice], None]) -> None:
    with watching(ben) as watch:
        (ben.folder / "first").write_text("first")
        watch.until(lambda: any("1 uploaded" in line for line in watch.told))
        watch.child.send_signal(signal.SIGSTOP)
        ended(ann, ben)
        change_everything(ben)
        ann.give(ben, Role.EDITOR)
        watch.child.send_signal(signal.SIGCONT)
        watch.until(lambda: all(text_of(ben, name) == text for name, text in FILES.items()))
    assert ann.has_everything()
    assert text_of(ann.device, "new") == "new"


@contextmanager
def refusing(*reasons: str) -> Iterator[None]:
    with pytest.raises(SynclineError) as caught:
        yield
    assert caught.value.reason in reasons


@ENDED
def test_a_client_that_says_nothing_of_its_right(
    ann: Owner, ben: DemoDevice, ended: Callable[[Owner, DemoDevice], None]
) -> None:
    with Session.open(ben.root / "home") as session:
        mine = Space(session, ann.space)
        (made,) = mine.commit([CreateNode(ROOT, "mine", NodeKind.DIRECTORY, None)], new_request_id()).results
        assert made.verdict is Verdict.ACCEPTED
        assert made.node is not None
        ended(ann, ben)
        with refusing("NO_SUCH_SPACE" if ended is removed else "PERMISSION_DENIED"):
            mine.commit([DeleteNode(made.node.id, 0)], new_request_id())
        ann.give(ben, Role.EDITOR)
        (gone,) = mine.commit([DeleteNode(made.node.id, 0)], new_request_id()).results
        assert gone.verdict is Verdict.ACCEPTED


def test_by_webdav_and_by_the_api(stack: Stack) -> None:
    ann, ben = Person(stack.endpoint), Person(stack.endpoint)
    space = ann.call("POST", "/v1/spaces", {"name": "Project"}, token=ann.token)["space_id"]
    member = f"/v1/spaces/{space}/members/{ben.email}"

    def give(role: str) -> None:
        ann.call("PUT", member, {"role": role}, token=ann.token)

    give("editor")
    assert ben.put("Project/a", b"a").status == 201
    assert ben.put("Project/b", b"b").status == 201
    give("viewer")
    assert ben.dav("DELETE", "Project/a").problem() == (403, "PERMISSION_DENIED")
    assert ben.dav("MOVE", "Project/a", destination="/dav/Project/c").status == 403
    assert ben.put("Project/b", b"other").status == 403
    give("editor")
    assert ben.put("Project/b", b"bb").status == 204
    ann.call("DELETE", member, token=ann.token)
    assert ben.dav("DELETE", "Project/a").status == 404
    give("editor")
    keys = ben.call("GET", "/v1/devices", token=ben.token)["devices"]
    (key,) = [one["device_id"] for one in keys if one["name"] == "mount"]
    assert ben.put("Project/b", b"bbb").status == 204
    ben.call("DELETE", f"/v1/devices/{key}", token=ben.token)
    assert ben.dav("DELETE", "Project/a").status == 401
    assert ann.listing("Project") == ["/dav/Project/a", "/dav/Project/b"]
    assert ann.dav("GET", "Project/b").body == b"bbb"
