"""The notify table in DynamoDB.

| item | pk | sk | holds |
|---|---|---|---|
| PREFERENCE | `S#{space}#P` | `{user}` | the mail mode that the user chose for the space |
| REQUEST | `U#{user}` | `R#{request, hex}` | the choice that a request to change a preference has made |
| CLAIM | `M#{space}#{user}` | `{seq:020}` | the attempt that mails the user about it, and the end of its lease; or the time at which it was finished |
| MAIL | `M#{space}#{user}` | `MAIL` | the time until which no further mail is sent, and the attempt that has begun one |
| COUNT | `C#{subject}` | `MAILS` | the number of mails in the window that ends at `window_end` |
| WAITING | `W#{space}#{user}` | `{seq:020}` | the summaries of changes for the next mail |
| DOORBELLS | `DOORBELLS` | `{queue}` | the end of the lease of an instance's queue |

Times are milliseconds since 1970, but `expires_at` is in seconds, because it is DynamoDB's time to live.
"""  # noqa: E501 - a table

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Final

from aws.dynamodb import NEW, Cancelled, ConditionFailed, Item, Table, attribute, expiry, key_of, number_of, text_of
from services.notify.records import DAY_MS, MAX_POSTPONED_ENTRIES, Choice, Claim, Claimant
from syncline.model.accounts import MailMode
from syncline.model.errors import Unavailable
from syncline.model.identifiers import RequestId, SpaceId, UserId
from syncline.model.limits import ANSWER_DAYS

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb.client import DynamoDBClient

_CLAIMS_KEPT_MS: Final = 14 * DAY_MS
_MAILS_KEPT_MS: Final = 14 * DAY_MS
_LEASES_KEPT_MS: Final = DAY_MS


class DynamoNotifyStore:
    """Implements NotifyStore on the notify table."""

    def __init__(self, client: DynamoDBClient, *, table: str) -> None:
        self._table = Table(client, table, called="the notify table")

    # ---- preferences

    async def mode(self, space: SpaceId, user: UserId) -> MailMode | None:
        item = await self._table.get(_preference_key(space, user))
        return _mode(item) if item else None

    async def modes(self, space: SpaceId) -> Mapping[UserId, MailMode]:
        return {UserId(text_of(item, "sk")): _mode(item) async for item in self._all(f"S#{space}#P")}

    async def set_mode(self, space: SpaceId, user: UserId, mode: MailMode, *, request: RequestId, now: int) -> Choice:
        preference = {**_preference_key(space, user), "mode": attribute(mode.name.lower())}
        chosen = {
            **_request_key(user, request),
            "space": attribute(space),
            "mode": attribute(mode.name.lower()),
            "expires_at": expiry(now + ANSWER_DAYS * DAY_MS),
        }
        try:
            await self._table.transact(self._table.putting(chosen, NEW), self._table.putting(preference))
        except Cancelled:
            return await self._chosen(user, request)
        return Choice(space, mode)

    async def _chosen(self, user: UserId, request: RequestId) -> Choice:
        """Return the mail mode that a request to change a preference has set. Raise Unavailable if the request was not
        carried out, which means that a concurrent writer prevented it.
        """
        item = await self._table.get(_request_key(user, request))
        if item is None:
            raise Unavailable("this preference is being changed at this moment; try again")
        return Choice(SpaceId(text_of(item, "space")), _mode(item))

    # ---- claims

    async def claim(self, claimant: Claimant, seq: int, *, now: int, lease_until: int) -> Claim:
        not_done, lease_over = "attribute_not_exists(done_at)", "lease_until <= :now"
        item = {
            **_claim_key(claimant, seq),
            "attempt": attribute(claimant.attempt),
            "lease_until": attribute(lease_until),
            "expires_at": expiry(now + _CLAIMS_KEPT_MS),
        }
        found = await self._put_if(item, f"{not_done} AND {lease_over}", {":now": attribute(now)})
        if found is None:
            return Claim.CLAIMED
        if "done_at" in found:
            return Claim.DONE
        # The SDK repeats a call whose answer was lost: the stored item is then the one that this call wrote.
        return Claim.CLAIMED if found.get("attempt") == attribute(claimant.attempt) else Claim.HELD

    async def finish(self, claimant: Claimant, seqs: Collection[int], *, now: int) -> None:
        values = {":now": attribute(now), ":expiry": expiry(now + _CLAIMS_KEPT_MS)}
        await asyncio.gather(
            *(
                self._update(_claim_key(claimant, seq), "SET done_at = :now, expires_at = :expiry", values)
                for seq in seqs
            )
        )

    async def release(self, claimant: Claimant, seqs: Collection[int]) -> None:
        ours = "attempt = :attempt AND attribute_not_exists(done_at)"
        values = {":attempt": attribute(claimant.attempt), ":over": attribute(0)}
        await asyncio.gather(
            *(
                self._update(_claim_key(claimant, seq), "SET lease_until = :over", values, condition=ours)
                for seq in seqs
            )
        )

    # ---- what waits for a mail

    async def begin_mail(self, claimant: Claimant, *, now: int, lease_until: int) -> int:
        over, ours = "quiet_until <= :now", "attempt = :attempt"
        item = {
            **_mail_key(claimant.space, claimant.user),
            "attempt": attribute(claimant.attempt),
            "quiet_until": attribute(lease_until),
            "expires_at": expiry(lease_until + _MAILS_KEPT_MS),
        }
        found = await self._put_if(
            item, f"{over} OR {ours}", {":now": attribute(now), ":attempt": attribute(claimant.attempt)}
        )
        if found is None:
            return 0
        return number_of(found, "quiet_until") if "quiet_until" in found else lease_until

    async def end_mail(self, claimant: Claimant, *, told: Collection[int], quiet_until: int) -> None:
        # The told numbers are stored first: if the rest fails, the lease of the attempt expires.
        space, user = claimant.space, claimant.user
        await asyncio.gather(*(self._table.delete(_waiting_key(space, user, seq)) for seq in told))
        await self._update(
            _mail_key(space, user),
            "SET quiet_until = :until REMOVE attempt",
            {":until": attribute(quiet_until), ":attempt": attribute(claimant.attempt)},
            condition="attempt = :attempt",
        )

    async def postpone(self, claimant: Claimant, waiting: Mapping[int, str], *, now: int) -> None:
        expires_at = expiry(now + _MAILS_KEPT_MS)
        items = [
            {**_waiting_key(claimant.space, claimant.user, seq), "news": attribute(text), "expires_at": expires_at}
            for seq, text in waiting.items()
        ]
        await asyncio.gather(*(self._table.put(item) for item in items))

    async def postponed(self, space: SpaceId, user: UserId) -> Mapping[int, str]:
        found: dict[int, str] = {}
        async with aclosing(self._all(f"W#{space}#{user}")) as items:
            async for item in items:
                found[int(text_of(item, "sk"))] = text_of(item, "news")
                if len(found) == MAX_POSTPONED_ENTRIES:
                    break
        return found

    # ---- how many mails there were

    async def count_mail(self, subject: str, *, limit: int, window_ms: int, now: int) -> int:
        key = _count_key(subject)
        first = {
            **key,
            "mails": attribute(1),
            "window_end": attribute(now + window_ms),
            "expires_at": expiry(now + window_ms),
        }
        while True:
            found = await self._put_if(first, "window_end <= :now", {":now": attribute(now)})
            if found is None:
                return 0
            ends_at = number_of(found, "window_end")
            try:
                await self._table.update(
                    key,
                    update="ADD mails :one",
                    condition="window_end = :end AND mails < :limit",
                    values={":one": attribute(1), ":end": attribute(ends_at), ":limit": attribute(limit)},
                )
            except ConditionFailed as failed:
                if (failed.found or {}).get("window_end") == attribute(ends_at):
                    return ends_at
                continue  # another process has begun a window in the meantime
            return 0

    # ---- doorbell queues

    async def hold_queue(self, name: str, *, until: int) -> None:
        item = {**_queue_key(name), "lease_until": attribute(until), "expires_at": expiry(until + _LEASES_KEPT_MS)}
        await self._table.put(item)

    async def drop_queue(self, name: str) -> None:
        await self._table.delete(_queue_key(name))

    async def held_queues(self, *, now: int) -> Collection[str]:
        return {text_of(item, "sk") async for item in self._all("DOORBELLS") if number_of(item, "lease_until") > now}

    # ---- writes of more than one method

    async def _put_if(self, item: Item, condition: str, values: Item) -> Mapping[str, Any] | None:
        """Put an item if none exists, or if the condition holds for the existing one; return None, or the existing item
        if nothing was put.
        """
        try:
            await self._table.put(item, f"{NEW} OR ({condition})", values)
        except ConditionFailed as failed:
            return failed.found or {}
        return None

    async def _update(self, key: Item, update: str, values: Item, *, condition: str | None = None) -> None:
        """Update an item; do nothing if the condition fails."""
        with suppress(ConditionFailed):
            await self._table.update(key, update=update, values=values, condition=condition)

    def _all(self, pk: str) -> AsyncGenerator[Item, None]:
        return self._table.query(KeyConditionExpression="pk = :pk", ExpressionAttributeValues={":pk": attribute(pk)})


# ---- keys


def _preference_key(space: SpaceId, user: UserId) -> Item:
    return key_of(f"S#{space}#P", user)


def _request_key(user: UserId, request: RequestId) -> Item:
    return key_of(f"U#{user}", f"R#{request.hex()}")


def _claim_key(claimant: Claimant, seq: int) -> Item:
    return key_of(f"M#{claimant.space}#{claimant.user}", f"{seq:020}")


def _mail_key(space: SpaceId, user: UserId) -> Item:
    return key_of(f"M#{space}#{user}", "MAIL")


def _waiting_key(space: SpaceId, user: UserId, seq: int) -> Item:
    return key_of(f"W#{space}#{user}", f"{seq:020}")


def _count_key(subject: str) -> Item:
    return key_of(f"C#{subject}", "MAILS")


def _queue_key(name: str) -> Item:
    return key_of("DOORBELLS", name)


# ---- values to items and back


def _mode(item: Mapping[str, Any]) -> MailMode:
    return MailMode[text_of(item, "mode").upper()]
