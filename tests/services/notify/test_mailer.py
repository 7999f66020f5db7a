"""Who gets mail about an event, once, whatever happens in between."""

import asyncio

import pytest

from core.errors import Unavailable
from core.identifiers import new_request_id
from services.notify.events import parse
from services.notify.in_memory import InMemoryMailSender, InMemoryNotifyStore
from services.notify.mailer import LEASE_SECONDS, HeldElsewhere, Mailer
from services.notify.ports import MailRefused
from services.notify.records import MailMode
from tests.services.notify.fakes import Person, commit, event, fake_auth

ANN, BOB, CAT = Person("ann@example.com"), Person("bob@example.com"), Person("cat@example.com")


class Moody(InMemoryMailSender):
    """Raises `mood` for the addresses in `against`, if there is one."""

    def __init__(self):
        super().__init__()
        self.mood: BaseException | None = None
        self.against = {ANN.email, BOB.email, CAT.email}

    async def send(self, mail):
        if self.mood is not None and mail.to in self.against:
            raise self.mood
        await super().send(mail)

    @property
    def recipients(self):
        return sorted(mail.to for mail in self.sent)


class World:
    """A mailer and what is around it."""

    def __init__(self):
        self.auth = fake_auth()
        self.store = InMemoryNotifyStore()
        self.sender = Moody()
        self.now = 1_000_000
        self.mailer = Mailer(
            directory=self.auth,
            preferences=self.store,
            claims=self.store,
            sender=self.sender,
            url="http://127.0.0.1:8080",
            clock=lambda: self.now,
        )

    async def tell(self, body):
        await self.mailer.tell(parse(body))


@pytest.fixture
def world():
    return World()


async def test_everybody_but_the_author_gets_one_mail(world):
    space = world.auth.space(ANN, BOB, CAT)
    await world.tell(event(space, commit(1, ANN, "a.txt"), commit(2, ANN, "b.txt")))
    assert world.sender.recipients == [BOB.email, CAT.email]
    assert "changed 2 items" in world.sender.sent[0].subject


async def test_a_mail_calls_the_space_what_its_reader_calls_it(world):
    ben = Person("ben@example.com", alias="Team (abcdef)")
    space = world.auth.space(ANN, BOB, ben)
    await world.tell(event(space, commit(1, ANN, "a.txt")))
    assert {mail.to: mail.subject for mail in world.sender.sent} == {
        BOB.email: "ann@example.com changed 1 item in Team",
        ben.email: "ann@example.com changed 1 item in Team (abcdef)",
    }


async def test_nobody_hears_of_their_own_changes(world):
    space = world.auth.space(ANN, BOB)
    await world.tell(event(space, commit(1, ANN, "of-ann"), commit(2, BOB, "of-bob"), commit(2, ANN, "also-of-ann")))
    texts = {mail.to: mail.text for mail in world.sender.sent}
    assert "of-bob" in texts[ANN.email]
    assert "of-ann" not in texts[ANN.email]
    assert "of-ann" in texts[BOB.email]
    assert "of-bob" not in texts[BOB.email]


async def test_a_personal_space_costs_one_question(world):
    space = world.auth.space(ANN)
    world.store = None
    await world.tell(event(space, commit(1, ANN, "a.txt")))
    assert world.sender.sent == []
    assert world.auth.asked == ["members"]


async def test_whoever_is_left_hears_of_an_author_who_has_gone(world):
    space = world.auth.space(BOB)
    await world.tell(event(space, commit(1, ANN, "a.txt")))
    assert world.sender.recipients == [BOB.email]


async def test_a_space_that_is_gone_is_no_problem(world):
    await world.tell(event("z" * 26, commit(1, ANN, "a.txt")))
    assert world.sender.sent == []


async def test_off_means_off(world):
    space = world.auth.space(ANN, BOB, CAT)
    await world.store.set_mode(space, BOB.user, MailMode.OFF, request=new_request_id(), now=0)
    await world.tell(event(space, commit(1, ANN, "a.txt")))
    assert world.sender.recipients == [CAT.email]
    await world.store.set_mode(space, BOB.user, MailMode.INSTANT, request=new_request_id(), now=0)
    await world.tell(event(space, commit(2, ANN, "a.txt")))
    assert world.sender.recipients == [BOB.email, CAT.email, CAT.email]


async def test_duplicates_and_overlaps_are_told_once(world):
    space = world.auth.space(ANN, BOB)
    first, second, third = (commit(seq, ANN, f"{seq}.txt") for seq in (1, 2, 3))
    await world.tell(event(space, first, second))
    await world.tell(event(space, first, second))
    await world.tell(event(space, second, third))
    assert len(world.sender.sent) == 2
    assert "1.txt" in world.sender.sent[0].text
    assert "3.txt" in world.sender.sent[1].text
    assert "2.txt" not in world.sender.sent[1].text


async def test_of_many_at_once_one_tells(world):
    space = world.auth.space(ANN, BOB)
    body = event(space, commit(1, ANN, "a.txt"))
    outcomes = await asyncio.gather(*(world.tell(body) for _ in range(10)), return_exceptions=True)
    assert len(world.sender.sent) == 1
    assert all(outcome is None or isinstance(outcome, HeldElsewhere) for outcome in outcomes)


async def test_a_crash_before_the_end_is_made_good_when_the_lease_has_run_out(world):
    space = world.auth.space(ANN, BOB)
    body = event(space, commit(1, ANN, "a.txt"))
    world.sender.mood = asyncio.CancelledError()  # nothing that comes after is done, as in a crash
    with pytest.raises(asyncio.CancelledError):
        await world.tell(body)
    world.sender.mood = None
    with pytest.raises(HeldElsewhere):
        await world.tell(body)
    assert world.sender.sent == []
    world.now += LEASE_SECONDS * 1000
    await world.tell(body)
    assert world.sender.recipients == [BOB.email]


async def test_a_failure_is_made_good_at_once_and_for_those_concerned_only(world):
    space = world.auth.space(ANN, BOB, CAT)
    body = event(space, commit(1, ANN, "a.txt"))
    world.sender.mood, world.sender.against = Unavailable("slow down"), {BOB.email}
    with pytest.raises(Unavailable):
        await world.tell(body)
    assert world.sender.recipients == [CAT.email]
    world.sender.mood = None
    await world.tell(body)
    assert world.sender.recipients == [BOB.email, CAT.email]


async def test_a_refused_address_keeps_nobody_waiting(world):
    space = world.auth.space(ANN, BOB, CAT)
    world.sender.mood, world.sender.against = MailRefused("no such address"), {BOB.email}
    await world.tell(event(space, commit(1, ANN, "a.txt")))
    assert world.sender.recipients == [CAT.email]


async def test_what_others_hold_does_not_keep_the_rest(world):
    space = world.auth.space(ANN, BOB)
    world.sender.mood = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await world.tell(event(space, commit(1, ANN, "1.txt")))
    world.sender.mood = None
    with pytest.raises(HeldElsewhere):
        await world.tell(event(space, commit(1, ANN, "1.txt"), commit(2, ANN, "2.txt")))
    assert len(world.sender.sent) == 1
    assert "1.txt" not in world.sender.sent[0].text
