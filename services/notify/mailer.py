"""Mail about an event: to each member who wants to know, about what others did.

The first change after a while is told at once. What follows within the window after a mail waits for the window's end
and is told in one mail, so that whoever saves every few seconds does not fill the mailboxes of all others. Nobody gets
more than a number of mails in an hour, and fewer about what one other person does: anybody can be added to many spaces.

The places in which mails are sent are shared by those who caused them, so that nobody's mail waits for the mails of
somebody else, or for an answer of SES to one of these.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Sequence
from typing import Final

from runtime.interruption import REMEMBERED_SECONDS
from runtime.logs import structlog
from runtime.pool import Pool, Share
from services.notify import metrics
from services.notify.events import CommitSummary, Event, waiting_from_text, waiting_to_text
from services.notify.letters import compose
from services.notify.ports import (
    ClaimStore,
    DigestStore,
    MailCounts,
    MailRefused,
    MailSender,
    MemberDirectory,
    PreferenceStore,
)
from services.notify.preferences import DEFAULT
from services.notify.records import MAX_POSTPONED, SECOND, Claim, Claimant, Clock, Roster, RosterMember
from syncline.model.accounts import MailMode
from syncline.model.errors import NoSuchSpace
from syncline.model.identifiers import SpaceId, UserId

LEASE_SECONDS: Final = 60
"""Longer than sending one mail can take, with all repetitions by the SDK."""
HOUR_MS: Final = 3600 * SECOND
MAIL_PLACES: Final = 8
"""Mails that one process prepares and sends at a time (pool `mail`). One sender alone has half of them."""
_TOLD_AT_ONCE: Final = MAIL_PLACES // 2
"""Members who are told of one event at a time: as many as one sender has places for."""

log = structlog.get_logger()


class HeldElsewhere(Exception):
    """Somebody else tells a member about some of this, or crashed while at it: come again when leases have run out."""


class Postponed(Exception):
    """Some of this waits for the next mail to a member: come again then, in `seconds`, to have it sent."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"the next mail may be sent in {seconds} s")
        self.seconds = seconds


class Mailer:
    """Sends mail about events.

    Each (space, sequence number, member) is claimed before it is told and finished afterwards, so that an event
    that comes twice is told once. A crash in between leaves the claim's lease to run out, and the event to come again.
    What is postponed is kept first, and its event comes again when the window is over: to see to the mail.
    """

    def __init__(
        self,
        *,
        directory: MemberDirectory,
        preferences: PreferenceStore,
        claims: ClaimStore,
        digests: DigestStore,
        counts: MailCounts,
        sender: MailSender,
        url: str,
        clock: Clock,
        window_ms: int,
        per_sender: int,
        per_person: int,
    ) -> None:
        """`window_ms`: for so long after a mail no other one goes to the same member about the same space.

        A person gets at most `per_person` mails in an hour, and `per_sender` about what one other person changed.
        """
        self._directory = directory
        self._preferences = preferences
        self._claims = claims
        self._digests = digests
        self._counts = counts
        self._per_sender = per_sender
        self._per_person = per_person
        self._window_ms = window_ms
        self._sender = sender
        self._url = url
        self._clock = clock
        self._places = Pool("mail", MAIL_PLACES, counted=True)

    async def tell(self, event: Event) -> None:
        """Return when everybody who wants to know was told.

        Otherwise raises Postponed, HeldElsewhere, or what kept a mail from being sent, after having told the others.
        """
        asked_at = self._clock()
        try:
            roster = await self._directory.members(event.space)
        except NoSuchSpace:
            return  # The space was deleted meanwhile.
        told = [commit for commit in event.commits if commit.changes]
        news = {member: [commit for commit in told if commit.user != member.user] for member in roster.members}
        if not any(news.values()):  # a personal space, mostly: nothing more to look up
            return
        modes = await self._preferences.modes(event.space)
        concerned = [member for member, commits in news.items() if commits]
        wanting = [member for member in concerned if modes.get(member.user, DEFAULT) is MailMode.INSTANT]
        metrics.MAILS.labels("suppressed").inc(len(concerned) - len(wanting))
        problems: list[BaseException] = []
        for at in range(0, len(wanting), _TOLD_AT_ONCE):
            some = wanting[at : at + _TOLD_AT_ONCE]
            telling = [
                self._tell(member, news[member], event=event, roster=roster, asked_at=asked_at) for member in some
            ]
            problems += [problem for problem in await asyncio.gather(*telling, return_exceptions=True) if problem]
        postponed = [problem for problem in problems if isinstance(problem, Postponed)]
        for problem in sorted(problems, key=lambda each: isinstance(each, HeldElsewhere)):
            if problem not in postponed:
                raise problem
        if postponed:
            raise max(postponed, key=lambda each: each.seconds)

    async def _tell(
        self,
        member: RosterMember,
        commits: Sequence[CommitSummary],
        *,
        event: Event,
        roster: Roster,
        asked_at: int,
    ) -> None:
        """Tell one member of the roster, for which the directory was asked at `asked_at`."""
        async with self._places.lent(1, Share.alone(event.sender), patience=None):
            if not await self._is_member_still(event.space, member.user, asked_at=asked_at):
                return
            claimant = Claimant(event.space, member.user, secrets.token_hex(8))
            seqs = sorted({commit.seq for commit in commits})
            now = self._clock()
            lease_until = now + LEASE_SECONDS * SECOND
            claims = await asyncio.gather(
                *(self._claims.claim(claimant, seq, now=now, lease_until=lease_until) for seq in seqs)
            )
            claimed = {seq for seq, claim in zip(seqs, claims, strict=True) if claim is Claim.CLAIMED}
            untold = [commit for commit in commits if commit.seq in claimed]
            quiet_until = 0
            if untold or await self._wait(seqs, claimant):
                quiet_until = await self._digests.begin_mail(claimant, now=now, lease_until=lease_until)
                if not quiet_until and (quiet_until := await self._full_until(member, commits, now=now)):
                    await self._digests.end_mail(claimant, told=(), quiet_until=quiet_until)
                if quiet_until:
                    await self._postpone(untold, claimant=claimant, truncated=event.truncated)
                else:
                    await self._send(member, untold, claimant=claimant, event=event, roster=roster)
            if Claim.HELD in claims:
                raise HeldElsewhere
            if quiet_until:
                raise Postponed(math.ceil((quiet_until - now) / SECOND))

    async def _is_member_still(self, space: SpaceId, user: UserId, *, asked_at: int) -> bool:
        """Return True unless somebody who was a member at `asked_at` has been removed. Others may be told for long."""
        if self._clock() - asked_at <= REMEMBERED_SECONDS * SECOND:
            return True
        return space in (await self._directory.check([space], user=user, devices=[])).spaces

    async def _full_until(self, member: RosterMember, commits: Sequence[CommitSummary], *, now: int) -> int:
        """Count a mail about these; 0, or if the member has enough of them, until when."""
        sender, person = f"{member.user}#{commits[0].user}", str(member.user)
        for subject, limit in ((sender, self._per_sender), (person, self._per_person)):
            until = await self._counts.count_mail(subject, limit=limit, window_ms=HOUR_MS, now=now)
            if until:
                metrics.MAILS.labels("limited").inc()
                return until
        return 0

    async def _wait(self, seqs: Sequence[int], claimant: Claimant) -> bool:
        """Return True if some of these sequence numbers may wait for the next mail.

        Other summaries that wait bring their own events back. The events of these numbers would come again for ever
        in a space where something always waits.
        """
        waiting = await self._digests.postponed(claimant.space, claimant.user)
        return len(waiting) == MAX_POSTPONED or not waiting.keys().isdisjoint(seqs)  # a full list may lack them

    async def _postpone(self, commits: Sequence[CommitSummary], *, claimant: Claimant, truncated: bool) -> None:
        """Keep these for the next mail: from then on they are told, as far as claims are concerned."""
        if not commits:
            return
        by_seq: dict[int, list[CommitSummary]] = {}
        for commit in commits:
            by_seq.setdefault(commit.seq, []).append(commit)
        waiting = {seq: waiting_to_text(of_seq, truncated=truncated) for seq, of_seq in by_seq.items()}
        await self._digests.postpone(claimant, waiting, now=self._clock())
        await self._claims.finish(claimant, waiting, now=self._clock())
        metrics.MAILS.labels("postponed").inc()

    async def _send(
        self, member: RosterMember, untold: Sequence[CommitSummary], *, claimant: Claimant, event: Event, roster: Roster
    ) -> None:
        """Send the mail that this attempt has begun, about what has waited for it and what is new."""
        waited = await self._digests.postponed(event.space, member.user)
        seqs = {commit.seq for commit in untold}
        earlier = [waiting_from_text(text) for seq, text in waited.items() if seq not in seqs]
        commits = [*(commit for of_seq, _ in earlier for commit in of_seq), *untold]
        if not commits:  # another attempt has told it just now
            await self._digests.end_mail(claimant, told=(), quiet_until=self._clock())
            return
        mail = compose(
            to=member,
            space=event.space,
            space_name=member.alias or roster.space_name,
            commits=commits,
            members=roster.members,
            truncated=event.truncated or any(truncated for _, truncated in earlier),
            url=self._url,
        )
        try:
            await self._sender.send(mail)
        except MailRefused as error:
            metrics.MAILS.labels("refused").inc()
            log.warning("mail refused", space=event.space, member=member.user, reason=str(error))
        except Exception:
            metrics.MAILS.labels("failed").inc()
            await self._claims.release(claimant, seqs)
            await self._digests.end_mail(claimant, told=(), quiet_until=self._clock())
            raise
        else:
            metrics.MAILS.labels("sent").inc()
            log.info("mail sent", space=event.space, member=member.user, commits=len(commits))
        await self._claims.finish(claimant, seqs, now=self._clock())
        await self._digests.end_mail(claimant, told=waited, quiet_until=self._clock() + self._window_ms)
