"""Mail about an event: one to each member who wants to know, about what others did."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Final

from core.errors import NoSuchSpace
from runtime.logs import structlog
from services.notify import metrics
from services.notify.events import Commit, Event
from services.notify.letters import compose
from services.notify.ports import ClaimStore, Directory, MailRefused, MailSender, PreferenceStore
from services.notify.preferences import DEFAULT
from services.notify.records import SECOND, Claim, Claimant, Clock, MailMode, Member, Roster

LEASE_SECONDS: Final = 60
"""Longer than sending one mail can take, with all repetitions by the SDK."""
_AT_ONCE: Final = 8

log = structlog.get_logger()


class HeldElsewhere(Exception):
    """Somebody else tells a member about some of this, or crashed while at it: come again when leases have run out."""


class Mailer:
    """Sends mail about events.

    Each (space, sequence number, member) is claimed before it is told and finished afterwards, so that an event
    that comes twice is told once. A crash in between leaves the claim's lease to run out, and the event to come again.
    """

    def __init__(
        self,
        *,
        directory: Directory,
        preferences: PreferenceStore,
        claims: ClaimStore,
        sender: MailSender,
        url: str,
        clock: Clock,
    ) -> None:
        self._directory = directory
        self._preferences = preferences
        self._claims = claims
        self._sender = sender
        self._url = url
        self._clock = clock
        self._sending = asyncio.Semaphore(_AT_ONCE)

    async def tell(self, event: Event) -> None:
        """Return when everybody who wants to know was told.

        Otherwise raises HeldElsewhere, or what kept a mail from being sent, after having told the others.
        """
        try:
            roster = await self._directory.members(event.space)
        except NoSuchSpace:
            return  # it was deleted meanwhile
        told = [commit for commit in event.commits if commit.changes]
        news = {member: [commit for commit in told if commit.user != member.user] for member in roster.members}
        if not any(news.values()):  # a personal space, mostly: nothing more to look up
            return
        modes = await self._preferences.modes(event.space)
        concerned = [member for member, commits in news.items() if commits]
        wanting = [member for member in concerned if modes.get(member.user, DEFAULT) is MailMode.INSTANT]
        metrics.MAILS.labels("suppressed").inc(len(concerned) - len(wanting))
        telling = [self._tell(member, news[member], event=event, roster=roster) for member in wanting]
        problems = [problem for problem in await asyncio.gather(*telling, return_exceptions=True) if problem]
        for problem in sorted(problems, key=lambda each: isinstance(each, HeldElsewhere)):
            raise problem

    async def _tell(self, member: Member, commits: Sequence[Commit], *, event: Event, roster: Roster) -> None:
        async with self._sending:
            claimant = Claimant(event.space, member.user, secrets.token_hex(8))
            seqs = sorted({commit.seq for commit in commits})
            now = self._clock()
            lease_until = now + LEASE_SECONDS * SECOND
            claims = await asyncio.gather(
                *(self._claims.claim(claimant, seq, now=now, lease_until=lease_until) for seq in seqs)
            )
            claimed = {seq for seq, claim in zip(seqs, claims, strict=True) if claim is Claim.CLAIMED}
            if claimed:
                untold = [commit for commit in commits if commit.seq in claimed]
                await self._send(member, untold, claimant=claimant, event=event, roster=roster)
            if Claim.HELD in claims:
                raise HeldElsewhere

    async def _send(
        self, member: Member, commits: Sequence[Commit], *, claimant: Claimant, event: Event, roster: Roster
    ) -> None:
        mail = compose(
            to=member,
            space=event.space,
            space_name=member.alias or roster.space_name,
            commits=commits,
            members=roster.members,
            truncated=event.truncated,
            url=self._url,
        )
        seqs = {commit.seq for commit in commits}
        try:
            await self._sender.send(mail)
        except MailRefused as error:
            metrics.MAILS.labels("refused").inc()
            log.warning("mail refused", space=event.space, member=member.user, reason=str(error))
        except Exception:
            metrics.MAILS.labels("failed").inc()
            await self._claims.release(claimant, seqs)
            raise
        else:
            metrics.MAILS.labels("sent").inc()
            log.info("mail sent", space=event.space, member=member.user, commits=len(commits))
        await self._claims.finish(claimant, seqs, now=self._clock())
