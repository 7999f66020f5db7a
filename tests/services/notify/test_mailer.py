"""Members get mail about an event, once, whatever happens in between."""

import asyncio
import random
import re

import pytest

from services.notify.events import Event, parse, parse_mail
from services.notify.mailer import HOUR_MS, LEASE_SECONDS, HeldElsewhere, Mailer, Postponed
from services.notify.ports import MailRefused
from services.notify.records import MINUTE_MS, SECOND_MS
from syncline.model.accounts import MailMode
from syncline.model.errors import Unavailable
from syncline.model.identifiers import new_request_id
from syncline.model.limits import REVOCATION_SECONDS
from tests.services.notify.fakes import Person, commit, event, fake_auth, proof
from tests.support.notify import InMemoryMailSender, InMemoryNotifyStore

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

    def __init__(self, *, window_ms=0, per_sender=1000, per_person=1000):
        self.auth = fake_auth()
        self.store = InMemoryNotifyStore()
        self.sender = Moody()
        self.now = 1_000_000
        self.mailer = Mailer(
            directory=self.auth,
            preferences=self.store,
            claims=self.store,
            schedule=self.store,
            counts=self.store,
            sender=self.sender,
            url="http://127.0.0.1:8080",
            clock=lambda: self.now,
            window_ms=window_ms,
            per_sender=per_sender,
            per_person=per_person,
        )

    async def tell(self, body):
        await self.mailer.tell(parse(body))

    async def send_proof(self, body):
        asked = parse_mail(body)
        assert not isinstance(asked, Event)
        await self.mailer.send_account_mail(asked)


@pytest.fixture
def world():
    return World()


async def test_everybody_but_the_author_gets_one_mail(world):
    space = world.auth.space(ANN, BOB, CAT)
    await world.tell(event(space, commit(1, ANN, "a.txt"), commit(2, ANN, "b.txt")))
    assert world.sender.recipients == [BOB.email, CAT.email]
    assert "changed 2 items" in world.sender.sent[0].subject


async def test_whoever_is_removed_while_others_are_told_gets_no_mail(world):
    """The mails of one event take a while in a large space."""
    people = [Person(f"{number}@example.com") for number in range(50)]
    space = world.auth.space(ANN, *people)
    first = asyncio.Event()
    go_on = asyncio.Event()
    send = world.sender.send

    async def sending(mail):
        first.set()
        await go_on.wait()
        await send(mail)

    world.sender.send = sending
    telling = asyncio.create_task(world.tell(event(space, commit(1, ANN, "secret.txt"))))
    await first.wait()
    world.auth.members_of[space] = [ANN, people[-1]]
    world.now += REVOCATION_SECONDS * SECOND_MS
    go_on.set()
    await telling
    assert people[-1].email in world.sender.recipients
    assert len(world.sender.recipients) < len(people) / 2, "those whose mail was under way, and who is left"


async def test_who_is_suspended_gets_no_mail_and_is_named_as_an_author(world):
    space = world.auth.space(ANN, BOB, CAT)
    world.auth.suspended = {BOB.user}
    await world.tell(event(space, commit(1, ANN, "a.txt")))
    assert world.sender.recipients == [CAT.email]
    await world.tell(event(space, commit(2, BOB, "b.txt")))
    assert world.sender.recipients == [ANN.email, CAT.email, CAT.email]
    assert all(BOB.email in mail.text for mail in world.sender.sent[1:])


async def test_mails_that_go_out_at_once_ask_nobody_again(world):
    await world.tell(event(world.auth.space(ANN, BOB, CAT), commit(1, ANN, "a.txt")))
    assert world.auth.questions == []


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


async def test_what_others_hold_waits_with_the_rest_for_their_lease(world):
    """The others have begun a mail, and the window is against two at once."""
    space = world.auth.space(ANN, BOB)
    world.sender.mood = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await world.tell(event(space, commit(1, ANN, "1.txt")))
    world.sender.mood = None
    body = event(space, commit(1, ANN, "1.txt"), commit(2, ANN, "2.txt"))
    with pytest.raises(HeldElsewhere):
        await world.tell(body)
    assert world.sender.sent == []
    world.now += LEASE_SECONDS * SECOND_MS
    await world.tell(body)
    assert len(world.sender.sent) == 1
    assert "1.txt" in world.sender.sent[0].text
    assert "2.txt" in world.sender.sent[0].text


# -- the window after a mail

WINDOW_MS = 5 * MINUTE_MS


@pytest.fixture
def windowed():
    return World(window_ms=WINDOW_MS)


async def saves(world, space, seqs):
    """One event for each, told as the queue does; the events to be told again, and when."""
    again = {}
    for seq in seqs:
        body = event(space, commit(seq, ANN, f"{seq}.txt"))
        try:
            await world.tell(body)
        except Postponed as postponed:
            again[body] = postponed.seconds
        world.now += 10 * SECOND_MS
    return again


async def test_many_saves_in_a_row_are_two_mails(windowed):
    space = windowed.auth.space(ANN, BOB)
    began = windowed.now
    again = await saves(windowed, space, range(1, 21))
    assert len(windowed.sender.sent) == 1
    assert "1.txt" in windowed.sender.sent[0].text
    assert len(again) == 19
    assert set(again.values()) == {300 - 10 * number for number in range(1, 20)}
    windowed.now = began + WINDOW_MS
    for body in again:
        await windowed.tell(body)
    assert [mail.to for mail in windowed.sender.sent] == [BOB.email] * 2
    assert "changed 19 items" in windowed.sender.sent[1].subject
    windowed.now += 10 * WINDOW_MS
    for body in again:
        await windowed.tell(body)
    assert len(windowed.sender.sent) == 2


async def test_the_window_is_of_one_member_in_one_space(windowed):
    here, there = windowed.auth.space(ANN, BOB), windowed.auth.space(ANN, BOB, CAT)
    await windowed.tell(event(here, commit(1, ANN, "a")))
    await windowed.tell(event(there, commit(1, ANN, "a")))
    assert windowed.sender.recipients == [BOB.email, BOB.email, CAT.email]
    with pytest.raises(Postponed):
        await windowed.tell(event(there, commit(2, BOB, "b")))
    assert windowed.sender.recipients == [ANN.email, BOB.email, BOB.email, CAT.email]


async def test_what_comes_when_the_window_is_over_takes_along_what_waits(windowed):
    space = windowed.auth.space(ANN, BOB)
    again = await saves(windowed, space, (1, 2, 3))
    windowed.now += WINDOW_MS
    await windowed.tell(event(space, commit(4, ANN, "4.txt")))
    assert len(windowed.sender.sent) == 2
    assert all(f"{seq}.txt" in windowed.sender.sent[1].text for seq in (2, 3, 4))
    for body in again:  # the messages come again, and there is nothing left to tell
        await windowed.tell(body)
    assert len(windowed.sender.sent) == 2


async def test_in_a_space_that_is_never_quiet_no_event_comes_again_for_what_others_wait_for(windowed):
    """The queue hands out in any order what is due, while saves go on; each message takes a second."""
    space = windowed.auth.space(ANN, BOB)
    due = {event(space, commit(seq, ANN, f"{seq}.txt")): windowed.now + seq * 5 * SECOND_MS for seq in range(1, 601)}
    receives = dict.fromkeys(due, 0)
    order = random.Random(1)
    while due:
        windowed.now = max(windowed.now + SECOND_MS, min(due.values()))
        body = order.choice([body for body, at in due.items() if at <= windowed.now])
        del due[body]
        receives[body] += 1
        assert receives[body] <= 3
        try:
            await windowed.tell(body)
        except Postponed as postponed:
            due[body] = windowed.now + (postponed.seconds + 1) * SECOND_MS
    subjects = [re.search(r"changed (\d+) item", mail.subject) for mail in windowed.sender.sent]
    assert sum(int(found.group(1)) for found in subjects if found) == 600
    assert len(subjects) <= 12  # in ten windows


async def test_a_mail_about_what_waited_says_that_there_was_more(windowed):
    space = windowed.auth.space(ANN, BOB)
    await windowed.tell(event(space, commit(1, ANN, "1.txt")))
    with pytest.raises(Postponed):
        await windowed.tell(event(space, commit(2, ANN, "2.txt"), truncated=True))
    with pytest.raises(Postponed):
        await windowed.tell(event(space, commit(3, ANN, "3.txt")))
    windowed.now += WINDOW_MS
    await windowed.tell(event(space, commit(3, ANN, "3.txt")))
    assert ["further changes" in mail.text for mail in windowed.sender.sent] == [False, True]


async def test_a_failure_at_the_end_of_the_window_loses_nothing(windowed):
    space = windowed.auth.space(ANN, BOB)
    again = await saves(windowed, space, (1, 2, 3))
    windowed.now += WINDOW_MS
    windowed.sender.mood = Unavailable("slow down")
    for body in again:
        with pytest.raises(Unavailable):
            await windowed.tell(body)
    windowed.sender.mood = None
    for body in again:
        await windowed.tell(body)
    assert len(windowed.sender.sent) == 2
    assert all(f"{seq}.txt" in windowed.sender.sent[1].text for seq in (2, 3))


async def test_a_crash_at_the_end_of_the_window_is_made_good_when_the_lease_has_run_out(windowed):
    space = windowed.auth.space(ANN, BOB)
    (body,) = await saves(windowed, space, (1, 2))
    windowed.now += WINDOW_MS
    windowed.sender.mood = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError):
        await windowed.tell(body)
    windowed.sender.mood = None
    with pytest.raises(Postponed) as postponed:
        await windowed.tell(body)
    assert postponed.value.seconds == LEASE_SECONDS
    windowed.now += LEASE_SECONDS * SECOND_MS
    await windowed.tell(body)
    assert "2.txt" in windowed.sender.sent[1].text


async def test_of_many_at_once_in_a_window_one_begins_the_mail(windowed):
    space = windowed.auth.space(ANN, BOB)
    bodies = [event(space, commit(seq, ANN, f"{seq}.txt")) for seq in range(1, 11)]
    outcomes = await asyncio.gather(*map(windowed.tell, bodies), return_exceptions=True)
    assert len(windowed.sender.sent) == 1
    assert sum(isinstance(outcome, Postponed) for outcome in outcomes) == 9


# -- mails in an hour


async def told_or_postponed(world, body):
    """None if everybody was told, else in how many seconds to come again."""
    try:
        await world.tell(body)
    except Postponed as postponed:
        return postponed.seconds
    return None


async def test_one_person_cannot_fill_the_mailbox_of_another_by_many_spaces():
    world = World(per_sender=5)
    events = [event(world.auth.space(ANN, BOB), commit(1, ANN, f"{number}.txt")) for number in range(12)]
    waits = [await told_or_postponed(world, one) for one in events]
    assert waits == [None] * 5 + [3600] * 7
    assert world.sender.recipients == [BOB.email] * 5
    # Others' mail still comes, and nothing that waited is lost.
    assert await told_or_postponed(world, event(world.auth.space(CAT, BOB), commit(1, CAT, "c.txt"))) is None
    for hour in (1, 2):
        world.now += HOUR_MS
        for one in events:
            await told_or_postponed(world, one)
        assert len(world.sender.sent) == min(6 + 5 * hour, 13)
    texts = "".join(mail.text for mail in world.sender.sent)
    assert all(f"{number}.txt" in texts for number in range(12))


async def test_a_person_gets_so_many_mails_in_an_hour_whoever_sends_them():
    world = World(per_person=3)
    events = [event(world.auth.space(author, BOB), commit(1, author, "x")) for author in (ANN, CAT) * 3]
    waits = [await told_or_postponed(world, one) for one in events]
    assert waits == [None] * 3 + [3600] * 3
    assert await told_or_postponed(world, event(world.auth.space(ANN, CAT), commit(1, ANN, "x"))) is None


# ---- proofs of addresses


async def test_a_proof_is_mailed_once_however_often_its_request_comes(world):
    body = proof(ANN)
    for _ in range(3):
        await world.send_proof(body)
    await world.send_proof(proof(ANN))
    assert world.sender.recipients == [ANN.email] * 2


async def test_a_proof_is_mailed_by_one_of_two_attempts(world):
    body = proof(ANN)
    outcomes = await asyncio.gather(world.send_proof(body), world.send_proof(body), return_exceptions=True)
    assert world.sender.recipients == [ANN.email]
    assert {type(outcome) for outcome in outcomes} <= {type(None), HeldElsewhere}


async def test_a_proof_that_could_not_be_mailed_is_mailed_later(world):
    body = proof(ANN)
    world.sender.mood = Unavailable("mail cannot be sent now")
    with pytest.raises(Unavailable):
        await world.send_proof(body)
    world.sender.mood = None
    await world.send_proof(body)
    assert world.sender.recipients == [ANN.email]


async def test_a_proof_to_an_address_that_is_none_is_not_tried_again(world):
    body = proof(ANN)
    world.sender.mood = MailRefused("invalid")
    await world.send_proof(body)
    world.sender.mood = None
    await world.send_proof(body)
    assert world.sender.sent == []


async def test_an_expired_proof_is_not_mailed(world):
    await world.send_proof(proof(ANN, expires_at_ms=world.now))
    assert world.sender.sent == []


async def test_an_invitation_is_mailed_once_however_often_its_request_comes(world):
    body = proof(ANN, kind="invitation")
    for _ in range(3):
        await world.send_proof(body)
    assert [mail.subject for mail in world.sender.sent] == ["You are invited to Syncline"]


async def test_an_invitation_to_a_space_is_mailed_once_however_often_its_request_comes(world):
    body = proof(ANN, kind="space invitation", by=BOB.email, space_name="Harbour", role="viewer")
    for _ in range(3):
        await world.send_proof(body)
    assert [mail.subject for mail in world.sender.sent] == [f"{BOB.email} invites you to Harbour"]


async def test_a_reset_is_mailed_once_and_not_at_all_for_an_address_without_an_account(world):
    body = proof(ANN, kind="reset")
    for _ in range(3):
        await world.send_proof(body)
    await world.send_proof(proof(BOB, kind="reset", token=None))
    assert [(mail.to, mail.subject) for mail in world.sender.sent] == [
        (ANN.email, "Choose a new password for Syncline")
    ]


async def test_a_changed_password_is_told_once(world):
    body = proof(ANN, kind="password", by_reset=False, changed_at_ms=world.now)
    for _ in range(3):
        await world.send_proof(body)
    assert [mail.subject for mail in world.sender.sent] == ["Your Syncline password was changed"]
