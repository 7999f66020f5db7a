"""The obligations of every adapter of PreferenceStore, ClaimStore and LeaseStore."""

import asyncio
from collections import Counter

from services.notify.records import Choice, Claim, Claimant
from syncline.model.accounts import MailMode
from syncline.model.identifiers import SpaceId, UserId, new_request_id, new_text_id
from tests.contract.notify.conftest import Outside

MINUTE = 60_000
NOW = 1_764_000_000_000


def space() -> SpaceId:
    return SpaceId(new_text_id())


def claimant(where: SpaceId, user: str = "u" * 26) -> Claimant:
    return Claimant(where, UserId(user), new_text_id())


async def claim(outside: Outside, who: Claimant, seq: int, *, now: int = NOW) -> Claim:
    return await outside.store.claim(who, seq, now=now, lease_until=now + MINUTE)


# -- preferences


async def test_nothing_is_chosen_at_first(outside):
    where = space()
    assert await outside.store.mode(where, UserId("ann")) is None
    assert await outside.store.modes(where) == {}


async def test_the_last_choice_holds_for_one_user_and_space(outside):
    here, there, ann, bob = space(), space(), UserId("ann"), UserId("bob")
    for user, mode in ((ann, MailMode.OFF), (bob, MailMode.OFF), (bob, MailMode.INSTANT)):
        chosen = await outside.store.set_mode(here, user, mode, request=new_request_id(), now=NOW)
        assert chosen == Choice(here, mode)
    assert await outside.store.mode(here, ann) is MailMode.OFF
    assert await outside.store.mode(here, bob) is MailMode.INSTANT
    assert await outside.store.mode(there, ann) is None
    assert await outside.store.modes(here) == {ann: MailMode.OFF, bob: MailMode.INSTANT}
    assert await outside.store.modes(there) == {}


async def test_a_request_chooses_once(outside):
    here, there, ann, bob = space(), space(), UserId(new_text_id()), UserId(new_text_id())
    request = new_request_id()
    first = await outside.store.set_mode(here, ann, MailMode.OFF, request=request, now=NOW)
    await outside.store.set_mode(here, ann, MailMode.INSTANT, request=new_request_id(), now=NOW)
    for where, mode in ((here, MailMode.OFF), (here, MailMode.INSTANT), (there, MailMode.OFF)):
        assert await outside.store.set_mode(where, ann, mode, request=request, now=NOW) == first
    assert await outside.store.mode(here, ann) is MailMode.INSTANT
    assert await outside.store.mode(there, ann) is None
    assert await outside.store.set_mode(there, bob, MailMode.OFF, request=request, now=NOW) == Choice(
        there, MailMode.OFF
    )


# -- claims


async def test_of_many_attempts_one_gets_the_claim(outside):
    where = space()
    claims = await asyncio.gather(*(claim(outside, claimant(where), 1) for _ in range(10)))
    assert sorted(claims, key=str) == [Claim.CLAIMED] + 9 * [Claim.HELD]


async def test_the_same_attempt_may_claim_again(outside):
    who = claimant(space())
    assert await claim(outside, who, 1) is Claim.CLAIMED
    assert await claim(outside, who, 1) is Claim.CLAIMED


async def test_claims_are_apart(outside):
    where, elsewhere = space(), space()
    assert await claim(outside, claimant(where), 1) is Claim.CLAIMED
    assert await claim(outside, claimant(where), 2) is Claim.CLAIMED
    assert await claim(outside, claimant(where, "v" * 26), 1) is Claim.CLAIMED
    assert await claim(outside, claimant(elsewhere), 1) is Claim.CLAIMED


async def test_what_is_done_stays_done(outside):
    where = space()
    who = claimant(where)
    await claim(outside, who, 1)
    await outside.store.finish(who, [1], now=NOW + 1)
    assert await claim(outside, who, 1) is Claim.DONE
    assert await claim(outside, claimant(where), 1, now=NOW + 100 * MINUTE) is Claim.DONE
    await outside.store.release(who, [1])
    assert await claim(outside, claimant(where), 1) is Claim.DONE


async def test_a_lease_runs_out(outside):
    where = space()
    await claim(outside, claimant(where), 1)
    assert await claim(outside, claimant(where), 1, now=NOW + MINUTE - 1) is Claim.HELD
    assert await claim(outside, claimant(where), 1, now=NOW + MINUTE) is Claim.CLAIMED


async def test_what_is_released_is_free_at_once(outside):
    where = space()
    first, second = claimant(where), claimant(where)
    await claim(outside, first, 1)
    await claim(outside, first, 2)
    await outside.store.release(first, [1])
    assert await claim(outside, second, 1) is Claim.CLAIMED
    assert await claim(outside, second, 2) is Claim.HELD


async def test_nobody_releases_what_another_claimed(outside):
    where = space()
    first, second = claimant(where), claimant(where)
    await claim(outside, first, 1)
    await claim(outside, second, 1, now=NOW + MINUTE)
    await outside.store.release(first, [1, 2])
    assert await claim(outside, claimant(where), 1, now=NOW + MINUTE) is Claim.HELD
    assert await claim(outside, claimant(where), 2) is Claim.CLAIMED


# -- doorbell queues


async def test_queues_are_held_until_their_time_is_over(outside):
    names = [new_text_id() for _ in range(3)]
    for name, until in zip(names, (NOW, NOW + 1, NOW + MINUTE), strict=True):
        await outside.store.hold_queue(name, until=until)
    assert set(names) & set(await outside.store.held_queues(now=NOW)) == set(names[1:])
    await outside.store.hold_queue(names[0], until=NOW + MINUTE)
    await outside.store.drop_queue(names[2])
    await outside.store.drop_queue(names[2])
    assert set(names) & set(await outside.store.held_queues(now=NOW)) == set(names[:2])
    for name in names:
        await outside.store.drop_queue(name)


# -- what waits for a mail


async def begin(outside: Outside, who: Claimant, *, now: int = NOW) -> int:
    return await outside.store.begin_mail(who, now=now, lease_until=now + MINUTE)


async def test_of_many_attempts_one_begins_a_mail(outside):
    where = space()
    begun = await asyncio.gather(*(begin(outside, claimant(where)) for _ in range(10)))
    assert sorted(begun) == [0] + 9 * [NOW + MINUTE]


async def test_a_mail_is_begun_again_by_the_same_attempt_and_after_its_lease(outside):
    where = space()
    who, other = claimant(where), claimant(where)
    assert await begin(outside, who) == 0
    assert await begin(outside, who) == 0
    assert await begin(outside, other, now=NOW + MINUTE - 1) == NOW + MINUTE
    assert await begin(outside, other, now=NOW + MINUTE) == 0
    await outside.store.end_mail(who, told=(), quiet_until=0)  # too late: it is the other's
    assert await begin(outside, claimant(where), now=NOW + MINUTE) == NOW + 2 * MINUTE


async def test_after_a_mail_it_is_quiet(outside):
    where = space()
    who = claimant(where)
    assert await begin(outside, who) == 0
    await outside.store.end_mail(who, told=(), quiet_until=NOW + 5 * MINUTE)
    assert await begin(outside, who, now=NOW + 5 * MINUTE - 1) == NOW + 5 * MINUTE
    assert await begin(outside, claimant(where, "v" * 26)) == 0
    assert await begin(outside, claimant(space())) == 0
    assert await begin(outside, claimant(where), now=NOW + 5 * MINUTE) == 0


async def test_what_waits_is_there_until_it_is_told(outside):
    where = space()
    who = claimant(where)
    await outside.store.postpone(who, {10: "ten", 9: "nine"}, now=NOW)
    await outside.store.postpone(claimant(where), {11: "eleven", 10: "ten"}, now=NOW)
    assert list((await outside.store.postponed(where, who.user)).items()) == [(9, "nine"), (10, "ten"), (11, "eleven")]
    assert await outside.store.postponed(where, UserId("v" * 26)) == {}
    await begin(outside, who)
    await outside.store.end_mail(who, told=[9, 10], quiet_until=NOW)
    assert await outside.store.postponed(where, who.user) == {11: "eleven"}
    assert await claim(outside, who, 9) is Claim.CLAIMED


# -- how many mails there were


async def test_of_many_that_count_at_once_as_many_are_let_through_as_may_be(outside):
    subject = new_text_id()

    async def count(now: int = NOW, limit: int = 5) -> object:
        return await outside.store.count_mail(subject, limit=limit, window_ms=MINUTE, now=now)

    counted = await asyncio.gather(*(count() for _ in range(12)))
    assert Counter(counted) == {0: 5, NOW + MINUTE: 7}
    assert await count(NOW + MINUTE - 1) == NOW + MINUTE
    assert await count(NOW + MINUTE - 1, limit=6) == 0
    assert [await count(NOW + MINUTE, limit=2) for _ in range(3)] == [0, 0, NOW + 2 * MINUTE]
    assert await outside.store.count_mail(new_text_id(), limit=1, window_ms=MINUTE, now=NOW) == 0
