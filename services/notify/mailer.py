"""Mail about an event: to each member who wants it, about the changes of others.

The first change after a quiet time is mailed at once. Changes within the window after a mail wait for the end of the
window and are mailed together, so that a person who saves every few seconds does not flood the others' mailboxes. The
number of mails to one person in an hour is limited, and the number of mails about one other person's changes has a
lower limit, because anybody can be added to many spaces.

The concurrent sends are shared among the senders who caused them, so that no sender's mails wait for another sender's.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections.abc import Collection, Sequence
from typing import Final

from runtime.interruption import REMEMBERED_SECONDS
from runtime.logs import structlog
from runtime.pool import Pool, Share
from services.notify import metrics
from services.notify.events import (
    AccountMailAsked,
    CommitSummary,
    Event,
    FactorAsked,
    InvitationAsked,
    PasswordAsked,
    ProofAsked,
    ResetAsked,
    SpaceInvitationAsked,
    waiting_from_text,
    waiting_to_text,
)
from services.notify.letters import (
    compose,
    compose_factor_change,
    compose_invitation,
    compose_password_change,
    compose_proof,
    compose_reset,
    compose_space_invitation,
)
from services.notify.ports import (
    ClaimStore,
    MailCounts,
    MailRefused,
    MailScheduleStore,
    MailSender,
    MemberDirectory,
    PreferenceStore,
)
from services.notify.preferences import DEFAULT
from services.notify.records import MAX_POSTPONED_ENTRIES, SECOND_MS, Claim, Claimant, Clock, Mail, Roster, RosterMember
from syncline.model.accounts import MailMode
from syncline.model.errors import NoSuchSpace
from syncline.model.identifiers import SpaceId, UserId

LEASE_SECONDS: Final = 60
"""Duration of a claim's lease in seconds: longer than sending one mail can take, including the SDK's retries."""
_ONLY: Final = 1
"""The sequence number with which a mail about an account is claimed."""
HOUR_MS: Final = 3600 * SECOND_MS
MAILS_AT_ONCE: Final = 8
"""Maximum number of mails that one process sends concurrently (pool `mail`). One sender alone may have half of them."""
_MEMBERS_AT_ONCE: Final = MAILS_AT_ONCE // 2
"""Maximum number of members who are mailed concurrently about one event: as many mails as one sender may have in
progress.
"""

log = structlog.get_logger()


class HeldElsewhere(Exception):
    """Another attempt to mail has claimed the mails about some of the changes, and may have crashed. Try again when the
    leases of its claims have expired.
    """


class Postponed(Exception):
    """Some changes wait for the next mail to a member: process the event again in `seconds`, to have that mail sent."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"the next mail may be sent in {seconds} s")
        self.seconds = seconds


class Mailer:
    """Sends mail about events.

    Each (space, sequence number, member) is claimed before the mail and finished after it, so that a repeated event is
    mailed once. After a crash in between, the lease of the claim expires, and the event is delivered again. A postponed
    change is stored first; its event is delivered again at the end of the window and triggers the mail.
    """

    def __init__(
        self,
        *,
        directory: MemberDirectory,
        preferences: PreferenceStore,
        claims: ClaimStore,
        schedule: MailScheduleStore,
        counts: MailCounts,
        sender: MailSender,
        url: str,
        clock: Clock,
        window_ms: int,
        per_sender: int,
        per_person: int,
    ) -> None:
        """- `window_ms` is the time in milliseconds after a mail in which no other mail goes to the same member about
          the same space.
        - `per_person` is the maximum number of mails to one person in an hour, and `per_sender` the maximum number of
          those about the changes of one other person.
        - `url` is the address of Syncline for people, to which the mails link.

        The other arguments are the ports that the mailer uses.
        """
        self._directory = directory
        self._preferences = preferences
        self._claims = claims
        self._schedule = schedule
        self._counts = counts
        self._per_sender = per_sender
        self._per_person = per_person
        self._window_ms = window_ms
        self._sender = sender
        self._url = url
        self._clock = clock
        self._places = Pool("mail", MAILS_AT_ONCE, counted=True)

    async def tell(self, event: Event) -> None:
        """Mail all members who chose to get mail about the changes in the event, and return when all are mailed.
        Members who are suspended get none. If one of these errors is raised, all other members have been mailed:

        - Postponed if changes wait for a member's next mail;
        - HeldElsewhere if another attempt is mailing a member about the same changes;
        - the error of a mail that could not be sent.
        """
        asked_at = self._clock()
        try:
            roster = await self._directory.members(event.space)
        except NoSuchSpace:
            return  # The space was deleted in the meantime.
        told = [commit for commit in event.commits if commit.changes]
        news = {member: [commit for commit in told if commit.user != member.user] for member in roster.members}
        if not any(news.values()):  # mostly a personal space: nothing more to look up
            return
        modes = await self._preferences.modes(event.space)
        concerned = [member for member, commits in news.items() if commits and not member.suspended]
        wanting = [member for member in concerned if modes.get(member.user, DEFAULT) is MailMode.INSTANT]
        metrics.MAILS.labels("suppressed").inc(len(concerned) - len(wanting))
        problems: list[BaseException] = []
        for at in range(0, len(wanting), _MEMBERS_AT_ONCE):
            some = wanting[at : at + _MEMBERS_AT_ONCE]
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

    async def send_account_mail(self, asked: AccountMailAsked) -> None:
        """Send a mail about an account, once however often the request is delivered. What has expired is not sent, nor
        is a reset for an address without an account. Raise HeldElsewhere if another attempt is sending the mail, and
        the error of a mail that could not be sent.
        """
        if isinstance(asked, ResetAsked) and asked.token is None:
            return
        async with self._places.lent(1, Share.alone(asked.sender), patience=None):
            now = self._clock()
            if asked.expires_at_ms <= now:
                log.warning("account mail expired unsent", sender=asked.sender)
                return
            # The claim is that of an entry of a journal: the id of the request stands for a space, which has one entry.
            claimant = Claimant(SpaceId(asked.ident), UserId(asked.sender), secrets.token_hex(8))
            claim = await self._claims.claim(claimant, _ONLY, now=now, lease_until=now + LEASE_SECONDS * SECOND_MS)
            if claim is Claim.HELD:
                raise HeldElsewhere
            if claim is Claim.DONE:
                return
            await self._send_claimed(self._account_mail(asked), claimant=claimant, seqs=[_ONLY])
            await self._claims.finish(claimant, [_ONLY], now=self._clock())

    def _account_mail(self, asked: AccountMailAsked) -> Mail:
        match asked:
            case ProofAsked():
                return compose_proof(asked, url=self._url)
            case InvitationAsked():
                return compose_invitation(asked, url=self._url)
            case SpaceInvitationAsked():
                return compose_space_invitation(asked, url=self._url)
            case ResetAsked():
                return compose_reset(asked, url=self._url)
            case PasswordAsked():
                return compose_password_change(asked, url=self._url)
            case FactorAsked():
                return compose_factor_change(asked, url=self._url)

    async def _tell(
        self,
        member: RosterMember,
        commits: Sequence[CommitSummary],
        *,
        event: Event,
        roster: Roster,
        asked_at: int,
    ) -> None:
        """Mail one member about those of `commits` that others have made. `roster` is the directory's answer to a
        request at `asked_at`, in milliseconds since 1970. Raise HeldElsewhere if another attempt is mailing the member
        about the same changes, and Postponed if changes wait for the member's next mail.
        """
        async with self._places.lent(1, Share.alone(event.sender), patience=None):
            if not await self._is_member_still(event.space, member.user, asked_at=asked_at):
                return
            claimant = Claimant(event.space, member.user, secrets.token_hex(8))
            seqs = sorted({commit.seq for commit in commits})
            now = self._clock()
            lease_until = now + LEASE_SECONDS * SECOND_MS
            claims = await asyncio.gather(
                *(self._claims.claim(claimant, seq, now=now, lease_until=lease_until) for seq in seqs)
            )
            claimed = {seq for seq, claim in zip(seqs, claims, strict=True) if claim is Claim.CLAIMED}
            untold = [commit for commit in commits if commit.seq in claimed]
            quiet_until = 0
            if untold or await self._wait(seqs, claimant):
                quiet_until = await self._schedule.begin_mail(claimant, now=now, lease_until=lease_until)
                if not quiet_until and (quiet_until := await self._full_until(member, commits, now=now)):
                    await self._schedule.end_mail(claimant, told=(), quiet_until=quiet_until)
                if quiet_until:
                    await self._postpone(untold, claimant=claimant, truncated=event.truncated)
                else:
                    await self._send(member, untold, claimant=claimant, event=event, roster=roster)
            if Claim.HELD in claims:
                raise HeldElsewhere
            if quiet_until:
                raise Postponed(math.ceil((quiet_until - now) / SECOND_MS))

    async def _is_member_still(self, space: SpaceId, user: UserId, *, asked_at: int) -> bool:
        """Return False if a person who was a member at `asked_at`, in milliseconds since 1970, has been removed since.
        Mailing the other members before may take long.
        """
        if self._clock() - asked_at <= REMEMBERED_SECONDS * SECOND_MS:
            return True
        return space in (await self._directory.check([space], user=user, devices=[])).spaces

    async def _full_until(self, member: RosterMember, commits: Sequence[CommitSummary], *, now: int) -> int:
        """Count a mail to a member about these commits at `now`, and return 0. If the member has got as many mails as
        the limits per hour allow, return the time at which a further one may be sent. Times are milliseconds since
        1970.
        """
        sender, person = f"{member.user}#{commits[0].user}", str(member.user)
        for subject, limit in ((sender, self._per_sender), (person, self._per_person)):
            until = await self._counts.count_mail(subject, limit=limit, window_ms=HOUR_MS, now=now)
            if until:
                metrics.MAILS.labels("limited").inc()
                return until
        return 0

    async def _wait(self, seqs: Sequence[int], claimant: Claimant) -> bool:
        """Return True if some of the changes of this event are stored for the member's next mail, or may be stored: the
        list of stored changes may be cut. `seqs` has the sequence numbers of the changes.

        Waiting changes of other events have their own events delivered again. If the present event also waited for the
        changes of other events, the present event would be delivered for ever in a space where some changes always
        wait.
        """
        waiting = await self._schedule.postponed(claimant.space, claimant.user)
        return len(waiting) == MAX_POSTPONED_ENTRIES or not waiting.keys().isdisjoint(
            seqs
        )  # a full list may lack some of them

    async def _postpone(self, commits: Sequence[CommitSummary], *, claimant: Claimant, truncated: bool) -> None:
        """Store `commits`, the summaries of changes, for the next mail to the member whom `claimant` names, and finish
        the claims of these changes. `truncated` is True if the event has further commits that `commits` lacks.
        """
        if not commits:
            return
        by_seq: dict[int, list[CommitSummary]] = {}
        for commit in commits:
            by_seq.setdefault(commit.seq, []).append(commit)
        waiting = {seq: waiting_to_text(of_seq, truncated=truncated) for seq, of_seq in by_seq.items()}
        await self._schedule.postpone(claimant, waiting, now=self._clock())
        await self._claims.finish(claimant, waiting, now=self._clock())
        metrics.MAILS.labels("postponed").inc()

    async def _send(
        self, member: RosterMember, untold: Sequence[CommitSummary], *, claimant: Claimant, event: Event, roster: Roster
    ) -> None:
        """Send the mail that this attempt has begun, about the stored changes and the new ones."""
        waited = await self._schedule.postponed(event.space, member.user)
        seqs = {commit.seq for commit in untold}
        earlier = [waiting_from_text(text) for seq, text in waited.items() if seq not in seqs]
        commits = [*(commit for of_seq, _ in earlier for commit in of_seq), *untold]
        if not commits:  # another attempt has just mailed them
            await self._schedule.end_mail(claimant, told=(), quiet_until=self._clock())
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
            await self._send_claimed(mail, claimant=claimant, seqs=seqs)
        except Exception:
            await self._schedule.end_mail(claimant, told=(), quiet_until=self._clock())
            raise
        await self._claims.finish(claimant, seqs, now=self._clock())
        await self._schedule.end_mail(claimant, told=waited, quiet_until=self._clock() + self._window_ms)

    async def _send_claimed(self, mail: Mail, *, claimant: Claimant, seqs: Collection[int]) -> None:
        """Send a mail whose entries `seqs` are claimed by `claimant`. The caller finishes the claims, also if the
        address is refused for ever. Release the claims and raise the error of a mail that could not be sent now.
        """
        space, member = claimant.space, claimant.user
        try:
            await self._sender.send(mail)
        except MailRefused as error:
            metrics.MAILS.labels("refused").inc()
            log.warning("mail refused", space=space, member=member, reason=str(error))
        except Exception:
            metrics.MAILS.labels("failed").inc()
            await self._claims.release(claimant, seqs)
            raise
        else:
            metrics.MAILS.labels("sent").inc()
            log.info("mail sent", space=space, member=member, entries=len(seqs))
