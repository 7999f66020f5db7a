"""The notify table in DynamoDB.

| item | pk | sk | holds |
|---|---|---|---|
| PREFERENCE | `S#{space}#P` | `{user}` | how the user wants to be mailed about the space |
| REQUEST | `U#{user}` | `R#{request, hex}` | what a request to change a preference has chosen |
| CLAIM | `M#{space}#{user}` | `{seq:020}` | which attempt tells the user about it, until when; or when it was done |
| MAIL | `M#{space}#{user}` | `MAIL` | until when no further mail is sent, and which attempt has begun one |
| COUNT | `C#{subject}` | `MAILS` | how many mails there were in the window that ends at `window_end` |
| WAITING | `W#{space}#{user}` | `{seq:020}` | what the next mail will tell of this |
| DOORBELLS | `DOORBELLS` | `{queue}` | until when an instance's queue is in use |

Times are milliseconds since 1970, but `expires_at` is in seconds, since it is DynamoDB's time to live.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import AbstractContextManager, aclosing
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from botocore.exceptions import ClientError

from aws.dynamodb import found_item
from aws.errors import error_code, translated
from core.accounts import MailMode
from core.errors import Unavailable
from core.identifiers import RequestId, SpaceId, UserId
from core.limits import ANSWER_DAYS
from services.notify.records import DAY, MAX_POSTPONED, SECOND, Choice, Claim, Claimant

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb.client import DynamoDBClient

Item: TypeAlias = dict[str, Any]
"""Attributes as DynamoDB has them: `{"mode": {"S": "off"}}`."""

_CLAIMS_KEPT_MS: Final = 14 * DAY
_MAILS_KEPT_MS: Final = 14 * DAY
_LEASES_KEPT_MS: Final = DAY


class DynamoNotifyStore:
    """NotifyStore on the notify table."""

    def __init__(self, client: DynamoDBClient, *, table: str) -> None:
        self._client: Any = client  # items are built here, so their types say nothing that is not below
        self._table = table

    # ---- preferences

    async def mode(self, space: SpaceId, user: UserId) -> MailMode | None:
        """See PreferenceStore."""
        with _translated():
            answer = await self._client.get_item(
                TableName=self._table, Key=_preference_key(space, user), ConsistentRead=True
            )
        return _mode(answer["Item"]) if "Item" in answer else None

    async def modes(self, space: SpaceId) -> Mapping[UserId, MailMode]:
        """See PreferenceStore."""
        return {UserId(_text(item, "sk")): _mode(item) async for item in self._all(f"S#{space}#P")}

    async def set_mode(self, space: SpaceId, user: UserId, mode: MailMode, *, request: RequestId, now: int) -> Choice:
        """See PreferenceStore."""
        preference = {**_preference_key(space, user), "mode": _s(mode.name.lower())}
        chosen = {
            **_request_key(user, request),
            "space": _s(space),
            "mode": _s(mode.name.lower()),
            "expires_at": _expiry(now + ANSWER_DAYS * DAY),
        }
        new = "attribute_not_exists(pk)"
        try:
            with _translated():
                await self._client.transact_write_items(
                    TransactItems=[
                        {"Put": {"TableName": self._table, "Item": chosen, "ConditionExpression": new}},
                        {"Put": {"TableName": self._table, "Item": preference}},
                    ]
                )
        except ClientError as error:
            if error_code(error) != "TransactionCanceledException":
                raise
            return await self._chosen(user, request)
        return Choice(space, mode)

    async def _chosen(self, user: UserId, request: RequestId) -> Choice:
        """What a request has chosen; Unavailable if it did not, so that another writer must have been in its way."""
        with _translated():
            answer = await self._client.get_item(
                TableName=self._table, Key=_request_key(user, request), ConsistentRead=True
            )
        if "Item" not in answer:
            raise Unavailable("this preference is being changed at this moment; try again")
        return Choice(SpaceId(_text(answer["Item"], "space")), _mode(answer["Item"]))

    # ---- claims

    async def claim(self, claimant: Claimant, seq: int, *, now: int, lease_until: int) -> Claim:
        """See ClaimStore."""
        not_done, lease_over = "attribute_not_exists(done_at)", "lease_until <= :now"
        item = {
            **_claim_key(claimant, seq),
            "attempt": _s(claimant.attempt),
            "lease_until": _n(lease_until),
            "expires_at": _expiry(now + _CLAIMS_KEPT_MS),
        }
        found = await self._put_if(item, f"{not_done} AND {lease_over}", {":now": _n(now)})
        if found is None:
            return Claim.CLAIMED
        if "done_at" in found:
            return Claim.DONE
        # The SDK repeats a call whose answer was lost: then what is found there is our own.
        return Claim.CLAIMED if found.get("attempt") == _s(claimant.attempt) else Claim.HELD

    async def finish(self, claimant: Claimant, seqs: Collection[int], *, now: int) -> None:
        """See ClaimStore."""
        values = {":now": _n(now), ":expiry": _expiry(now + _CLAIMS_KEPT_MS)}
        await asyncio.gather(
            *(
                self._update(_claim_key(claimant, seq), "SET done_at = :now, expires_at = :expiry", values)
                for seq in seqs
            )
        )

    async def release(self, claimant: Claimant, seqs: Collection[int]) -> None:
        """See ClaimStore."""
        ours = "attempt = :attempt AND attribute_not_exists(done_at)"
        values = {":attempt": _s(claimant.attempt), ":over": _n(0)}
        await asyncio.gather(
            *(
                self._update(_claim_key(claimant, seq), "SET lease_until = :over", values, condition=ours)
                for seq in seqs
            )
        )

    # ---- what waits for a mail

    async def begin_mail(self, claimant: Claimant, *, now: int, lease_until: int) -> int:
        """See DigestStore."""
        over, ours = "quiet_until <= :now", "attempt = :attempt"
        item = {
            **_mail_key(claimant.space, claimant.user),
            "attempt": _s(claimant.attempt),
            "quiet_until": _n(lease_until),
            "expires_at": _expiry(lease_until + _MAILS_KEPT_MS),
        }
        found = await self._put_if(item, f"{over} OR {ours}", {":now": _n(now), ":attempt": _s(claimant.attempt)})
        if found is None:
            return 0
        return int(found["quiet_until"]["N"]) if "quiet_until" in found else lease_until

    async def end_mail(self, claimant: Claimant, *, told: Collection[int], quiet_until: int) -> None:
        """See DigestStore."""
        # First of all what was told: if the rest is lost, the lease of the attempt runs out.
        space, user = claimant.space, claimant.user
        await asyncio.gather(*(self._delete(_waiting_key(space, user, seq)) for seq in told))
        await self._update(
            _mail_key(space, user),
            "SET quiet_until = :until REMOVE attempt",
            {":until": _n(quiet_until), ":attempt": _s(claimant.attempt)},
            condition="attempt = :attempt",
        )

    async def postpone(self, claimant: Claimant, waiting: Mapping[int, str], *, now: int) -> None:
        """See DigestStore."""
        expires_at = _expiry(now + _MAILS_KEPT_MS)
        items = [
            {**_waiting_key(claimant.space, claimant.user, seq), "news": _s(text), "expires_at": expires_at}
            for seq, text in waiting.items()
        ]
        with _translated():
            await asyncio.gather(*(self._client.put_item(TableName=self._table, Item=item) for item in items))

    async def postponed(self, space: SpaceId, user: UserId) -> Mapping[int, str]:
        """See DigestStore."""
        found: dict[int, str] = {}
        async with aclosing(self._all(f"W#{space}#{user}")) as items:
            async for item in items:
                found[int(_text(item, "sk"))] = _text(item, "news")
                if len(found) == MAX_POSTPONED:
                    break
        return found

    # ---- how many mails there were

    async def count_mail(self, subject: str, *, limit: int, window_ms: int, now: int) -> int:
        """See MailCounts."""
        key = _count_key(subject)
        first = {**key, "mails": _n(1), "window_end": _n(now + window_ms), "expires_at": _expiry(now + window_ms)}
        while True:
            found = await self._put_if(first, "window_end <= :now", {":now": _n(now)})
            if found is None:
                return 0
            ends_at = int(found["window_end"]["N"])
            try:
                with _translated():
                    await self._client.update_item(
                        TableName=self._table,
                        Key=key,
                        UpdateExpression="ADD mails :one",
                        ConditionExpression="window_end = :end AND mails < :limit",
                        ExpressionAttributeValues={":one": _n(1), ":end": _n(ends_at), ":limit": _n(limit)},
                        ReturnValuesOnConditionCheckFailure="ALL_OLD",
                    )
            except ClientError as error:
                if error_code(error) != "ConditionalCheckFailedException":
                    raise
                if (found_item(error) or {}).get("window_end") == _n(ends_at):
                    return ends_at
                continue  # another process began a window meanwhile
            return 0

    # ---- doorbell queues

    async def hold_queue(self, name: str, *, until: int) -> None:
        """See LeaseStore."""
        item = {**_queue_key(name), "lease_until": _n(until), "expires_at": _expiry(until + _LEASES_KEPT_MS)}
        with _translated():
            await self._client.put_item(TableName=self._table, Item=item)

    async def drop_queue(self, name: str) -> None:
        """See LeaseStore."""
        await self._delete(_queue_key(name))

    async def held_queues(self, *, now: int) -> Collection[str]:
        """See LeaseStore."""
        return {_text(item, "sk") async for item in self._all("DOORBELLS") if int(item["lease_until"]["N"]) > now}

    # ---- the ways to DynamoDB

    async def _put_if(self, item: Item, condition: str, values: Item) -> Mapping[str, Any] | None:
        """Put an item where none is, or over one of which the condition holds; None, or else what is there."""
        try:
            with _translated():
                await self._client.put_item(
                    TableName=self._table,
                    Item=item,
                    ConditionExpression=f"attribute_not_exists(pk) OR ({condition})",
                    ExpressionAttributeValues=values,
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
        except ClientError as error:
            if error_code(error) != "ConditionalCheckFailedException":
                raise
            return found_item(error) or {}
        return None

    async def _update(self, key: Item, update: str, values: Item, *, condition: str | None = None) -> None:
        """Update an item; where a condition fails there is nothing to do."""
        extra = {} if condition is None else {"ConditionExpression": condition}
        try:
            with _translated():
                await self._client.update_item(
                    TableName=self._table,
                    Key=key,
                    UpdateExpression=update,
                    ExpressionAttributeValues=values,
                    **extra,
                )
        except ClientError as error:
            if error_code(error) != "ConditionalCheckFailedException":
                raise

    async def _delete(self, key: Item) -> None:
        with _translated():
            await self._client.delete_item(TableName=self._table, Key=key)

    async def _all(self, pk: str) -> AsyncGenerator[Item, None]:
        start: Item = {}
        while True:
            with _translated():
                page = await self._client.query(
                    TableName=self._table,
                    KeyConditionExpression="pk = :pk",
                    ExpressionAttributeValues={":pk": _s(pk)},
                    ConsistentRead=True,
                    **start,
                )
            for item in page["Items"]:
                yield item
            if "LastEvaluatedKey" not in page:
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}


def _translated() -> AbstractContextManager[None]:
    return translated("the notify table")


# ---- keys


def _key(pk: str, sk: str) -> Item:
    return {"pk": _s(pk), "sk": _s(sk)}


def _preference_key(space: SpaceId, user: UserId) -> Item:
    return _key(f"S#{space}#P", user)


def _request_key(user: UserId, request: RequestId) -> Item:
    return _key(f"U#{user}", f"R#{request.hex()}")


def _claim_key(claimant: Claimant, seq: int) -> Item:
    return _key(f"M#{claimant.space}#{claimant.user}", f"{seq:020}")


def _mail_key(space: SpaceId, user: UserId) -> Item:
    return _key(f"M#{space}#{user}", "MAIL")


def _waiting_key(space: SpaceId, user: UserId, seq: int) -> Item:
    return _key(f"W#{space}#{user}", f"{seq:020}")


def _count_key(subject: str) -> Item:
    return _key(f"C#{subject}", "MAILS")


def _queue_key(name: str) -> Item:
    return _key("DOORBELLS", name)


# ---- attributes


def _s(text: str) -> Item:
    return {"S": text}


def _n(number: int) -> Item:
    return {"N": str(number)}


def _expiry(at_ms: int) -> Item:
    return _n(at_ms // SECOND)


def _text(item: Mapping[str, Any], name: str) -> str:
    return str(item[name]["S"])


def _mode(item: Mapping[str, Any]) -> MailMode:
    return MailMode[_text(item, "mode").upper()]
