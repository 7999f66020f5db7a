"""The identity table in DynamoDB.

| item | pk | sk | holds |
|---|---|---|---|
| LOGIN | `E#{email}` | `LOGIN` | the account's id and password hash; that it is there makes the address taken |
| ATTEMPTS | `E#{email}`, `E#{subject}` | `FROM#{peer}`, `FROM` for all peers | attempts and when their counter ends |
| ACCOUNT | `U#{user}` | `ACCOUNT` | address and personal space |
| MEMBERSHIP | `U#{user}` | `S#{space}` | a grant as its holder lists it; changes in one transaction with the GRANT |
| ALIAS | `U#{user}` | `A#{SHA-256 of the folded alias, hex}` | the space that it means to this user, for ever |
| DONE | `U#{user}` | `R#{request, hex}` | the fingerprint of a mutation request that was carried out |
| DEVICE | `D#{device}` | `DEVICE` | a device and its refresh chain or key; the index `gsi1` tells which a user has |
| SPACE | `S#{space}` | `SPACE` | name, and how many owners there are |
| GRANT | `S#{space}` | `U#{user}` | role, address, alias, since when it writes |
| LINK | `S#{space}#L` | `{link}` | a public link; not beside the GRANTs, which are read as a whole |
| MADE | `U#{user}` | `L#{link}` | a link as its maker has made it, until it is revoked |
| TOKEN | `L#{SHA-256 of a link's token, hex}` | `TOKEN` | which link the token opens |
| WRITTEN | `WRITTEN#{hour since 1970}` | `{space}` | that credentials to write were issued for the space in this hour |
| UPLOADS | `S#{space}#U` | `UPLOADS` | what was measured of the objects of a space; not beside the GRANTs either |
| GATE | `G#{name}` | `GATE` | how often something was added to what is limited in number |
| KNOWN | `E#{email}`, `E#{subject}` | `KNOWN#{peer}` | that a right password came from this network |

Times are milliseconds since 1970, but `expires_at` is in seconds, since it is DynamoDB's time to live.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from botocore.exceptions import ClientError

from aws.dynamodb import found_item
from aws.errors import error_code, translated
from core.accounts import DeviceKind, Role
from core.errors import AccountExists, Unavailable
from core.identifiers import DeviceId, LinkId, NodeId, RequestId, SpaceId, UserId
from core.limits import ANSWER_DAYS
from services.auth.aliases import PERSONAL, fold
from services.auth.ports import AliasTaken, ChainMoved, GateMoved, GrantMoved
from services.auth.records import (
    DAY,
    HOUR,
    SECOND,
    Account,
    Chain,
    DeviceRecord,
    Done,
    Gate,
    GrantRecord,
    Key,
    Link,
    Login,
    Membership,
    SpaceRecord,
    SpaceUploads,
)
from services.auth.spaces import personal_space

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb.client import DynamoDBClient

Item: TypeAlias = dict[str, Any]
"""Attributes as DynamoDB has them: `{"role": {"S": "owner"}}`."""

_CONDITION_FAILED: Final = "ConditionalCheckFailed"
_CONFLICT: Final = "TransactionConflict"

_KEYS_PER_BATCH: Final = 100
_BATCH_ROUNDS: Final = 5
_FIRST_PAUSE_SECONDS: Final = 0.05
_COUNTER_ROUNDS: Final = 5

_KEPT_AFTER_EXPIRY_MS: Final = DAY

# Conditions.
_NEW: Final = "attribute_not_exists(pk)"
_THERE: Final = "attribute_exists(pk)"


class _Cancelled(Exception):
    """A transaction was not carried out; one code for each of its writes."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__(", ".join(reasons))
        self.reasons = reasons


class DynamoIdentityStore:
    """IdentityStore on the identity table."""

    def __init__(self, client: DynamoDBClient, *, table: str) -> None:
        self._client: Any = client  # items are built here, so their types say nothing that is not below
        self._table = table

    # ---- accounts

    async def create_account(self, login: Login, *, device: DeviceRecord) -> None:
        """See AccountStore."""
        account = login.account
        try:
            await self._transact(
                self._put(_login_item(login), _NEW),
                self._put(_account_item(account)),
                *self._puts_of_space(personal_space(account), owner=account, alias=PERSONAL),
                self._put(_device_item(device)),
            )
        except _Cancelled as cancelled:
            if cancelled.reasons[0] == _CONDITION_FAILED:
                raise AccountExists from None
            raise Unavailable("somebody else signs up with this address at this moment; try again") from None

    async def login(self, email: str) -> Login | None:
        """See AccountStore."""
        item = await self._get(_login_key(email))
        return _login(email, item) if item else None

    async def account(self, user: UserId) -> Account | None:
        """See AccountStore."""
        item = await self._get(_account_key(user))
        return _account(user, item) if item else None

    async def replace_password_hash(self, email: str, *, old: str, new: str) -> None:
        """See AccountStore."""
        with _translated(), _condition_may_fail():
            await self._client.update_item(
                TableName=self._table,
                Key=_login_key(email),
                UpdateExpression="SET password_hash = :new",
                ConditionExpression="password_hash = :old",
                ExpressionAttributeValues={":old": _s(old), ":new": _s(new)},
            )

    # ---- devices

    async def add_device(self, device: DeviceRecord, *, gates: Sequence[Gate] = ()) -> bool:
        """See DeviceStore."""
        try:
            await self._transact(self._put(_device_item(device), _NEW), *self._passes(gates))
        except _Cancelled as cancelled:
            if cancelled.reasons[0] == _CONDITION_FAILED:
                return False
            _raise_if_moved(cancelled, gates)
            raise Unavailable("this very request is under way already; try again") from None
        return True

    async def device(self, device: DeviceId) -> DeviceRecord | None:
        """See DeviceStore."""
        item = await self._get(_device_key(device))
        return _device(item) if item else None

    async def devices(self, user: UserId, *, including: DeviceId | None = None) -> list[DeviceRecord]:
        """See DeviceStore."""
        # The index lags, so it only tells which devices there are; how they are is read from the table itself.
        keys = [_device_key(including)] if including is not None else []
        async for item in self._query(
            IndexName="gsi1",
            KeyConditionExpression="gsi1pk = :user",
            ProjectionExpression="pk, sk",
            ExpressionAttributeValues={":user": _s(f"U#{user}")},
        ):
            key = {"pk": item["pk"], "sk": item["sk"]}
            if key not in keys[:1]:
                keys.append(key)
        return [_device(item) for item in await self._batch_get(keys)]

    async def advance_chain(self, device: DeviceId, *, expected: Chain, to: Chain, seen_at_ms: int) -> None:
        """See DeviceStore."""
        chain_unmoved, not_revoked = "refresh_current = :expected", "attribute_not_exists(revoked_at)"
        assert to.previous is not None, "a chain never goes back to its start"
        try:
            with _translated():
                await self._client.update_item(
                    TableName=self._table,
                    Key=_device_key(device),
                    UpdateExpression=(
                        "SET refresh_current = :current, refresh_previous = :previous, refresh_until = :until, "
                        "expires_at = :expires_at, last_seen_at = :seen"
                    ),
                    ConditionExpression=f"{chain_unmoved} AND {not_revoked}",
                    ExpressionAttributeValues={
                        ":expected": _b(expected.current),
                        ":current": _b(to.current),
                        ":previous": _b(to.previous),
                        ":until": _n(to.expires_at_ms),
                        ":expires_at": _expiry(to.expires_at_ms),
                        ":seen": _n(seen_at_ms),
                    },
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
        except ClientError as error:
            if not _is_condition(error):
                raise
            item = found_item(error)
            # The SDK repeats a call whose answer was lost: then what is found there is our own.
            if item and "revoked_at" not in item and _refresh_current(item) == to.current:
                return
            raise ChainMoved from None

    async def key_used(self, device: DeviceId, *, seen_at_ms: int, expires_at_ms: int) -> None:
        """See DeviceStore."""
        has_key, not_revoked = "attribute_exists(key_digest)", "attribute_not_exists(revoked_at)"
        not_seen_later = "last_seen_at <= :seen"
        with _translated(), _condition_may_fail():
            await self._client.update_item(
                TableName=self._table,
                Key=_device_key(device),
                UpdateExpression="SET last_seen_at = :seen, key_until = :until, expires_at = :expires_at",
                ConditionExpression=f"{has_key} AND {not_revoked} AND {not_seen_later}",
                ExpressionAttributeValues={
                    ":seen": _n(seen_at_ms),
                    ":until": _n(expires_at_ms),
                    ":expires_at": _expiry(expires_at_ms),
                },
            )

    async def revoke_device(self, device: DeviceId, *, at_ms: int) -> None:
        """See DeviceStore."""
        not_revoked = "attribute_not_exists(revoked_at)"
        with _translated(), _condition_may_fail():
            await self._client.update_item(
                TableName=self._table,
                Key=_device_key(device),
                UpdateExpression="SET revoked_at = :at",
                ConditionExpression=f"{_THERE} AND {not_revoked}",
                ExpressionAttributeValues={":at": _n(at_ms)},
            )

    async def forget_device(self, device: DeviceId, *, until_ms: int) -> None:
        """See DeviceStore."""
        with _translated(), _condition_may_fail():
            await self._client.update_item(
                TableName=self._table,
                Key=_device_key(device),
                UpdateExpression="SET expires_at = :expires_at REMOVE gsi1pk, gsi1sk",
                ConditionExpression=_THERE,
                ExpressionAttributeValues={":expires_at": _expiry(until_ms)},
            )

    # ---- spaces and grants

    async def create_space(self, space: SpaceRecord, *, owner: Account, alias: str, gates: Sequence[Gate] = ()) -> bool:
        """See SpaceStore."""
        puts = self._puts_of_space(space, owner=owner, alias=alias)
        try:
            await self._transact(*puts, *self._passes(gates))
        except _Cancelled as cancelled:
            if cancelled.reasons[0] == _CONDITION_FAILED:
                return False
            _raise_if_moved(cancelled, gates)
            if _CONDITION_FAILED in cancelled.reasons[len(puts) - 1 :]:
                raise AliasTaken from None
            raise Unavailable("this very request is under way already; try again") from None
        return True

    async def memberships(self, user: UserId) -> list[Membership]:
        """See SpaceStore."""
        query = self._query(
            KeyConditionExpression="pk = :user AND begins_with(sk, :spaces)",
            ExpressionAttributeValues={":user": _s(f"U#{user}"), ":spaces": _s("S#")},
            ConsistentRead=True,
        )
        return [_membership(item) async for item in query]

    async def members(self, space: SpaceId) -> tuple[SpaceRecord, list[GrantRecord]] | None:
        """See SpaceStore."""
        query = self._query(
            KeyConditionExpression="pk = :space",
            ExpressionAttributeValues={":space": _s(f"S#{space}")},
            ConsistentRead=True,
        )
        return _space_with_grants(space, [item async for item in query])

    async def standing(self, space: SpaceId, *users: UserId) -> tuple[SpaceRecord, dict[UserId, GrantRecord]] | None:
        """See SpaceStore."""
        keys = [_space_key(space), *(_grant_key(space, user) for user in dict.fromkeys(users))]
        found = _space_with_grants(space, await self._batch_get(keys))
        return (found[0], {grant.user: grant for grant in found[1]}) if found else None

    async def change_grant(
        self,
        space: SpaceRecord,
        *,
        member: Account,
        before: Role | None,
        after: Role | None,
        by: UserId,
        alias: str = "",
        writes_since_ms: int = 0,
        done: Done | None = None,
        gates: Sequence[Gate] = (),
    ) -> None:
        """See SpaceStore."""
        keys = _grant_key(space.space, member.user), _membership_key(space.space, member.user)
        alias_at: int | None = None
        if before is None:
            assert after is not None, "no grant stays none"
            assert alias, "a new grant comes with an alias"
            grant = GrantRecord(space.space, member.user, member.email, after, alias, writes_since_ms)
            writes = [
                self._put(_grant_item(grant), _NEW),
                self._put(_membership_item(space, grant, by=by)),
            ]
            alias_at = len(writes)
            writes.append(self._put_alias(member.user, alias, space.space))
        elif after is None:
            writes = [
                {"Delete": {"TableName": self._table, "Key": keys[0], **_role_is(before)}},
                {"Delete": {"TableName": self._table, "Key": keys[1]}},
            ]
        else:
            role = _role_set(before, after)
            writes = [
                {"Update": {"TableName": self._table, "Key": keys[0], **_and_since(role, writes_since_ms)}},
                {"Update": {"TableName": self._table, "Key": keys[1], **role}},
            ]
        owners = (after is Role.OWNER) - (before is Role.OWNER)
        if owners:
            one_remains = "owners > :fewest"
            writes.append(
                {
                    "Update": {
                        "TableName": self._table,
                        "Key": _space_key(space.space),
                        "UpdateExpression": "ADD owners :more",
                        "ConditionExpression": one_remains,
                        "ExpressionAttributeValues": {":more": _n(owners), ":fewest": _n(1 if owners < 0 else 0)},
                    }
                }
            )
        if by != member.user:
            check = {"TableName": self._table, "Key": _grant_key(space.space, by), **_role_is(Role.OWNER)}
            writes.append({"ConditionCheck": check})
        if done is not None:
            writes.append(self._put(_done_item(done), _NEW))
        try:
            await self._transact(*writes, *self._passes(gates))
        except _Cancelled as cancelled:
            _raise_if_moved(cancelled, gates)
            if alias_at is not None and cancelled.reasons[alias_at] == _CONDITION_FAILED:
                raise AliasTaken from None
            raise GrantMoved from None

    async def give_alias(self, space: SpaceId, user: UserId, alias: str) -> None:
        """See SpaceStore."""
        has_none = {
            "UpdateExpression": "SET #alias = :alias",
            "ConditionExpression": f"{_THERE} AND attribute_not_exists(#alias)",
            "ExpressionAttributeNames": {"#alias": "alias"},
            "ExpressionAttributeValues": {":alias": _s(alias)},
        }
        keys = _grant_key(space, user), _membership_key(space, user)
        try:
            await self._transact(
                *({"Update": {"TableName": self._table, "Key": key, **has_none}} for key in keys),
                self._put_alias(user, alias, space),
            )
        except _Cancelled as cancelled:
            if _CONDITION_FAILED in cancelled.reasons[:2]:
                return
            if cancelled.reasons[2] == _CONDITION_FAILED:
                raise AliasTaken from None
            raise Unavailable("somebody else reads these spaces for the first time; try again") from None

    # ---- access

    async def access(
        self, space: SpaceId, *, user: UserId, device: DeviceId | None
    ) -> tuple[GrantRecord | None, DeviceRecord | None]:
        """See AccessStore."""
        keys = [_grant_key(space, user)]
        if device is not None:
            keys.append(_device_key(device))
        grant, found = None, None
        for item in await self._batch_get(keys):
            if item["sk"]["S"] == "DEVICE":
                found = _device(item)
            else:
                grant = _grant(space, item)
        return grant, found

    # ---- attempts

    async def count_attempt(self, *, subject: str, peer: str | None, limit: int, window_ms: int, now_ms: int) -> int:
        """See AttemptStore."""
        running, below_limit = "ends_at > :now", "attempts < :limit"
        over = "ends_at <= :now"
        key, now, ends_at = _attempts_key(subject, peer), _n(now_ms), now_ms + window_ms
        for _ in range(_COUNTER_ROUNDS):
            try:
                with _translated():
                    await self._client.update_item(
                        TableName=self._table,
                        Key=key,
                        UpdateExpression="ADD attempts :one",
                        ConditionExpression=f"{running} AND {below_limit}",
                        ExpressionAttributeValues={":now": now, ":limit": _n(limit), ":one": _n(1)},
                        ReturnValuesOnConditionCheckFailure="ALL_OLD",
                    )
            except ClientError as error:
                if not _is_condition(error):
                    raise
                found = found_item(error)
            else:
                return 0
            if found and _int(found, "ends_at") > now_ms:
                return _int(found, "ends_at") - now_ms
            first = {**key, "attempts": _n(1), "ends_at": _n(ends_at), "expires_at": _expiry(ends_at)}
            try:
                with _translated():
                    await self._client.put_item(
                        TableName=self._table,
                        Item=first,
                        ConditionExpression=f"{_NEW} OR {over}",
                        ExpressionAttributeValues={":now": now},
                    )
            except ClientError as error:  # another process began the counter: count in that one
                if not _is_condition(error):
                    raise
            else:
                return 0
        raise Unavailable("too many attempts at once; try again")

    async def forget_attempts(self, *, subject: str, peer: str) -> None:
        """See AttemptStore."""
        # Not deleted: of many who sign in at once, those who come to an absent counter would all try to begin it.
        await asyncio.gather(*(self._reset(_attempts_key(subject, whence)) for whence in (peer, None)))

    async def take_back_attempt(self, *, subject: str, peer: str) -> None:
        """See AttemptStore."""
        with _translated(), _condition_may_fail():
            await self._client.update_item(
                TableName=self._table,
                Key=_attempts_key(subject, peer),
                UpdateExpression="ADD attempts :less",
                ConditionExpression="attempts > :none",
                ExpressionAttributeValues={":less": _n(-1), ":none": _n(0)},
            )

    async def know_network(self, *, subject: str, peer: str, until_ms: int) -> None:
        """See AttemptStore."""
        item = {**_known_key(subject, peer), "until": _n(until_ms), "expires_at": _expiry(until_ms)}
        with _translated():
            await self._client.put_item(TableName=self._table, Item=item)

    async def knows_network(self, *, subject: str, peer: str, now_ms: int) -> bool:
        """See AttemptStore."""
        item = await self._get(_known_key(subject, peer))
        return item is not None and _int(item, "until") > now_ms

    async def _reset(self, counter: Item) -> None:
        with _translated(), _condition_may_fail():
            await self._client.update_item(
                TableName=self._table,
                Key=counter,
                UpdateExpression="SET attempts = :none",
                ConditionExpression=_THERE,
                ExpressionAttributeValues={":none": _n(0)},
            )

    # ---- links

    async def add_link(self, link: Link, *, gates: Sequence[Gate] = ()) -> bool:
        """See LinkStore."""
        puts = self._put(_link_item(link), _NEW), self._put(_token_item(link), _NEW)
        try:
            await self._transact(*puts, self._put(_made_item(link)), *self._passes(gates))
        except _Cancelled as cancelled:
            if _CONDITION_FAILED in cancelled.reasons[: len(puts)]:
                return False
            _raise_if_moved(cancelled, gates)
            raise Unavailable("this very request is under way already; try again") from None
        return True

    async def link(self, space: SpaceId, link: LinkId) -> Link | None:
        """See LinkStore."""
        item = await self._get(_link_key(space, link))
        return _link(item) if item else None

    async def link_with_token(self, token: bytes) -> Link | None:
        """See LinkStore."""
        item = await self._get(_token_key(token))
        if item is None:
            return None
        found = await self.link(SpaceId(_text(item, "space")), LinkId(_text(item, "link")))
        return found if found and found.revoked_at_ms is None else None

    async def links(self, space: SpaceId) -> list[Link]:
        """See LinkStore."""
        query = self._query(
            KeyConditionExpression="pk = :links",
            ExpressionAttributeValues={":links": _link_key(space, LinkId(""))["pk"]},
            ConsistentRead=True,
        )
        return [_link(item) async for item in query]

    async def links_of(self, user: UserId) -> list[Link]:
        """See LinkStore."""
        query = self._query(
            KeyConditionExpression="pk = :user AND begins_with(sk, :links)",
            ExpressionAttributeValues={":user": _s(f"U#{user}"), ":links": _s("L#")},
            ConsistentRead=True,
        )
        return [_made(item) async for item in query]

    async def revoke_link(self, link: Link, *, at_ms: int) -> None:
        """See LinkStore."""
        revoked: Item = {
            "Update": {
                "TableName": self._table,
                "Key": _link_key(link.space, link.link),
                "UpdateExpression": "SET revoked_at = if_not_exists(revoked_at, :at), expires_at = :expires_at",
                "ConditionExpression": _THERE,
                "ExpressionAttributeValues": {":at": _n(at_ms), ":expires_at": _expiry(at_ms)},
            }
        }
        gone: list[Item] = [
            {"Delete": {"TableName": self._table, "Key": key}} for key in (_token_key(link.token), _made_key(link))
        ]
        try:
            await self._transact(revoked, *gone)
        except _Cancelled as cancelled:
            if _CONDITION_FAILED not in cancelled.reasons:
                raise Unavailable("the link is used or ended at this moment; try again") from None

    async def without_ended(self, made: Sequence[Link]) -> list[Link]:
        """See LinkStore."""
        found = map(_link, await self._batch_get([_link_key(one.space, one.link) for one in made]))
        there = {link.link for link in found if link.revoked_at_ms is None}
        await self._delete(*(_made_key(one) for one in made if one.link not in there))
        return [one for one in made if one.link in there]

    async def drop_link(self, link: Link) -> None:
        """See LinkStore."""
        # What leads to it goes last, so that what is left of an attempt can be dropped again.
        await self._delete(_token_key(link.token), _link_key(link.space, link.link), _made_key(link))

    async def count_download(self, space: SpaceId, link: LinkId) -> bool:
        """See LinkStore."""
        one_more, not_revoked = "downloads < max_downloads", "attribute_not_exists(revoked_at)"
        try:
            with _translated():
                await self._client.update_item(
                    TableName=self._table,
                    Key=_link_key(space, link),
                    UpdateExpression="ADD downloads :one",
                    ConditionExpression=f"{one_more} AND {not_revoked}",
                    ExpressionAttributeValues={":one": _n(1)},
                )
        except ClientError as error:
            if not _is_condition(error):
                raise
            return False
        return True

    # ---- requests

    async def done(self, user: UserId, request: RequestId) -> bytes | None:
        """See RequestStore."""
        item = await self._get(_done_key(user, request))
        return bytes(item["fingerprint"]["B"]) if item else None

    async def note(self, done: Done) -> None:
        """See RequestStore."""
        with _translated(), _condition_may_fail():
            await self._client.put_item(TableName=self._table, Item=_done_item(done), ConditionExpression=_NEW)

    # ---- uploads

    async def note_writing(self, space: SpaceId, *, hour: int) -> None:
        """See UploadStore."""
        item = {**_written_key(hour, space), "expires_at": _expiry((hour + 1) * HOUR)}
        with _translated():
            await self._client.put_item(TableName=self._table, Item=item)

    async def written(self, *, hour: int, after: str, limit: int) -> list[SpaceId]:
        """See UploadStore."""
        beyond: Item = {":after": _s(after)} if after else {}
        with _translated():
            page = await self._client.query(
                TableName=self._table,
                ConsistentRead=True,
                Limit=limit,
                KeyConditionExpression="pk = :hour AND sk > :after" if after else "pk = :hour",
                ExpressionAttributeValues={":hour": _s(_written_pk(hour)), **beyond},
            )
        return [SpaceId(_text(item, "sk")) for item in page["Items"]]  # of some 100 bytes each: one page holds them

    async def uploads(self, space: SpaceId) -> SpaceUploads | None:
        """See UploadStore."""
        item = await self._get(_uploads_key(space))
        return _uploads(item) if item else None

    async def set_uploads(self, space: SpaceId, uploads: SpaceUploads) -> bool:
        """See UploadStore."""
        try:
            with _translated():
                await self._client.put_item(
                    TableName=self._table,
                    Item=_uploads_item(space, uploads),
                    ConditionExpression="attribute_not_exists(measured_at) OR measured_at <= :at",
                    ExpressionAttributeValues={":at": _n(uploads.measured_at_ms)},
                )
        except ClientError as error:
            if not _is_condition(error):
                raise
            return False
        return True

    # ---- gates

    async def gates(self, *names: str) -> list[Gate]:
        """See GateStore."""
        items = await self._batch_get([_gate_key(name) for name in names])
        versions = {_text(item, "pk").removeprefix("G#"): _int(item, "passed") for item in items}
        return [Gate(name, versions.get(name, 0)) for name in names]

    def _passes(self, gates: Sequence[Gate]) -> list[Item]:
        unmoved, first = "passed = :passed", "attribute_not_exists(passed)"
        return [
            {
                "Update": {
                    "TableName": self._table,
                    "Key": _gate_key(gate.name),
                    "UpdateExpression": "ADD passed :one",
                    "ConditionExpression": unmoved if gate.version else first,
                    "ExpressionAttributeValues": {":one": _n(1)}
                    | ({":passed": _n(gate.version)} if gate.version else {}),
                }
            }
            for gate in gates
        ]

    # ---- the ways to DynamoDB

    def _put(self, item: Item, condition: str | None = None) -> Item:
        put: Item = {"TableName": self._table, "Item": item}
        return {"Put": put if condition is None else {**put, "ConditionExpression": condition}}

    def _puts_of_space(self, space: SpaceRecord, *, owner: Account, alias: str) -> list[Item]:
        grant = GrantRecord(space.space, owner.user, owner.email, Role.OWNER, alias)
        return [
            self._put(_space_item(space), _NEW),
            self._put(_grant_item(grant)),
            self._put(_membership_item(space, grant, by=owner.user)),
            self._put_alias(owner.user, alias, space.space),
        ]

    def _put_alias(self, user: UserId, alias: str, space: SpaceId) -> Item:
        of_this_space = "#space = :space"
        put = self._put({**_alias_key(user, alias), "space": _s(space)}, f"{_NEW} OR {of_this_space}")
        put["Put"] |= {
            "ExpressionAttributeNames": {"#space": "space"},
            "ExpressionAttributeValues": {":space": _s(space)},
        }
        return put

    async def _transact(self, *writes: Item) -> None:
        """All or none; _Cancelled if a condition failed or another transaction was at one of the items."""
        try:
            with _translated():
                await self._client.transact_write_items(TransactItems=list(writes))
        except ClientError as error:
            if error_code(error) != "TransactionCanceledException":
                raise
            reasons = [reason.get("Code", "None") for reason in error.response.get("CancellationReasons", [])]
            if _CONDITION_FAILED in reasons or _CONFLICT in reasons:
                raise _Cancelled(reasons) from None
            if set(reasons) & {"ThrottlingError", "ProvisionedThroughputExceeded"}:
                raise Unavailable("the identity table does not answer; try again") from error
            raise

    async def _delete(self, *keys: Item) -> None:
        for key in keys:
            with _translated():
                await self._client.delete_item(TableName=self._table, Key=key)

    async def _get(self, key: Item) -> Item | None:
        with _translated():
            answer = await self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True)
        item: Item | None = answer.get("Item")
        return item

    async def _batch_get(self, keys: Sequence[Item]) -> list[Item]:
        found: list[Item] = []
        for at in range(0, len(keys), _KEYS_PER_BATCH):
            left: Mapping[str, Any] = {self._table: {"Keys": keys[at : at + _KEYS_PER_BATCH], "ConsistentRead": True}}
            pause = _FIRST_PAUSE_SECONDS
            for _ in range(_BATCH_ROUNDS):
                with _translated():
                    answer = await self._client.batch_get_item(RequestItems=left)
                found += answer["Responses"].get(self._table, [])
                left = answer.get("UnprocessedKeys") or {}
                if not left:
                    break
                await asyncio.sleep(pause)
                pause *= 2
            else:
                raise Unavailable("the identity table does not answer; try again")
        return found

    async def _query(self, **query: Any) -> AsyncIterator[Item]:
        start: Mapping[str, Any] = {}
        while True:
            with _translated():
                page = await self._client.query(TableName=self._table, **query, **start)
            for item in page["Items"]:
                yield item
            if "LastEvaluatedKey" not in page:
                return
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}


# ---- conditions and faults


def _raise_if_moved(cancelled: _Cancelled, gates: Sequence[Gate]) -> None:
    """Raise GateMoved if one of the gates, the last writes of the transaction, was not as it was read."""
    if gates and set(cancelled.reasons[-len(gates) :]) & {_CONDITION_FAILED, _CONFLICT}:
        raise GateMoved from None


def _translated() -> AbstractContextManager[None]:
    return translated("the identity table")


def _is_condition(error: ClientError) -> bool:
    return error_code(error) == "ConditionalCheckFailedException"


@contextmanager
def _condition_may_fail() -> Iterator[None]:
    """Where a failed condition means that there is nothing to do."""
    try:
        yield
    except ClientError as error:
        if not _is_condition(error):
            raise


def _role_is(role: Role) -> Item:
    return {
        "ConditionExpression": "#role = :role",
        "ExpressionAttributeNames": {"#role": "role"},
        "ExpressionAttributeValues": {":role": _role(role)},
    }


def _role_set(before: Role, after: Role) -> Item:
    """An update of a role, if it is still the one that it was."""
    condition = _role_is(before)
    values = {**condition["ExpressionAttributeValues"], ":after": _role(after)}
    return {**condition, "UpdateExpression": "SET #role = :after", "ExpressionAttributeValues": values}


def _and_since(update: Item, writes_since_ms: int) -> Item:
    """The update of a grant, which says as well since when it writes."""
    values = {**update["ExpressionAttributeValues"], ":since": _n(writes_since_ms)}
    expression = f"{update['UpdateExpression']}, writes_since = :since"
    return {**update, "UpdateExpression": expression, "ExpressionAttributeValues": values}


# ---- attributes


def _s(text: str) -> Item:
    return {"S": text}


def _n(number: int) -> Item:
    return {"N": str(number)}


def _b(raw: bytes) -> Item:
    return {"B": raw}


def _role(role: Role) -> Item:
    return _s(role.name.lower())


def _expiry(at_ms: int) -> Item:
    """Time to live, a while after the last moment at which the item means something."""
    return _n((at_ms + _KEPT_AFTER_EXPIRY_MS) // SECOND)


def _int(item: Mapping[str, Any], name: str) -> int:
    return int(item[name]["N"])


def _text(item: Mapping[str, Any], name: str) -> str:
    return str(item[name]["S"])


def _key(pk: str, sk: str) -> Item:
    return {"pk": _s(pk), "sk": _s(sk)}


# ---- keys


def _login_key(email: str) -> Item:
    return _key(f"E#{email}", "LOGIN")


def _attempts_key(subject: str, peer: str | None) -> Item:
    return _key(f"E#{subject}", "FROM" if peer is None else f"FROM#{peer}")


def _known_key(subject: str, peer: str) -> Item:
    return _key(f"E#{subject}", f"KNOWN#{peer}")


def _gate_key(name: str) -> Item:
    return _key(f"G#{name}", "GATE")


def _account_key(user: UserId) -> Item:
    return _key(f"U#{user}", "ACCOUNT")


def _membership_key(space: SpaceId, user: UserId) -> Item:
    return _key(f"U#{user}", f"S#{space}")


def _alias_key(user: UserId, alias: str) -> Item:
    # Folding can make a name longer than a key may be.
    return _key(f"U#{user}", f"A#{hashlib.sha256(fold(alias).encode()).hexdigest()}")


def _device_key(device: DeviceId) -> Item:
    return _key(f"D#{device}", "DEVICE")


def _space_key(space: SpaceId) -> Item:
    return _key(f"S#{space}", "SPACE")


def _grant_key(space: SpaceId, user: UserId) -> Item:
    return _key(f"S#{space}", f"U#{user}")


def _link_key(space: SpaceId, link: LinkId) -> Item:
    return _key(f"S#{space}#L", link)


def _made_key(link: Link) -> Item:
    return _key(f"U#{link.user}", f"L#{link.link}")


def _done_key(user: UserId, request: RequestId) -> Item:
    return _key(f"U#{user}", f"R#{request.hex()}")


def _token_key(token: bytes) -> Item:
    return _key(f"L#{token.hex()}", "TOKEN")


def _written_pk(hour: int) -> str:
    return f"WRITTEN#{hour}"


def _written_key(hour: int, space: SpaceId) -> Item:
    return _key(_written_pk(hour), space)


def _uploads_key(space: SpaceId) -> Item:
    return _key(f"S#{space}#U", "UPLOADS")


# ---- records to items and back


def _login_item(login: Login) -> Item:
    account = login.account
    return {
        **_login_key(account.email),
        "user": _s(account.user),
        "personal_space": _s(account.personal_space),
        "created_at": _n(account.created_at_ms),
        "password_hash": _s(login.password_hash),
    }


def _login(email: str, item: Item) -> Login:
    account = Account(
        UserId(_text(item, "user")), email, SpaceId(_text(item, "personal_space")), _int(item, "created_at")
    )
    return Login(account, _text(item, "password_hash"))


def _account_item(account: Account) -> Item:
    return {
        **_account_key(account.user),
        "email": _s(account.email),
        "personal_space": _s(account.personal_space),
        "created_at": _n(account.created_at_ms),
    }


def _account(user: UserId, item: Item) -> Account:
    return Account(user, _text(item, "email"), SpaceId(_text(item, "personal_space")), _int(item, "created_at"))


def _device_item(device: DeviceRecord) -> Item:
    chain = device.chain
    item = {
        **_device_key(device.device),
        "gsi1pk": _s(f"U#{device.user}"),
        "gsi1sk": _s(f"D#{device.device}"),
        "user": _s(device.user),
        "name": _s(device.name),
        "created_at": _n(device.created_at_ms),
        "last_seen_at": _n(device.last_seen_at_ms),
        "kind": _s(device.kind.name.lower()),
        "expires_at": _expiry(device.expires_at_ms),
    }
    if device.key is not None:
        item |= {"key_digest": _b(device.key.digest), "key_until": _n(device.key.expires_at_ms)}
    if chain is not None:
        item |= {
            "refresh_family": _b(chain.family),
            "refresh_current": _b(chain.current),
            "refresh_until": _n(chain.expires_at_ms),
        }
        if chain.previous is not None:
            item["refresh_previous"] = _b(chain.previous)
    if device.revoked_at_ms is not None:
        item["revoked_at"] = _n(device.revoked_at_ms)
    return item


def _device(item: Mapping[str, Any]) -> DeviceRecord:
    chain, key = None, None
    if "refresh_family" in item:
        previous = item["refresh_previous"]["B"] if "refresh_previous" in item else None
        chain = Chain(item["refresh_family"]["B"], item["refresh_current"]["B"], previous, _int(item, "refresh_until"))
    if "key_digest" in item:
        key = Key(item["key_digest"]["B"], _int(item, "key_until"))
    return DeviceRecord(
        DeviceId(_text(item, "pk").removeprefix("D#")),
        UserId(_text(item, "user")),
        _text(item, "name"),
        _int(item, "created_at"),
        _int(item, "last_seen_at"),
        _int(item, "revoked_at") if "revoked_at" in item else None,
        chain,
        DeviceKind[_text(item, "kind").upper()] if "kind" in item else DeviceKind.CLIENT,  # before there were others
        key,
    )


def _refresh_current(item: Mapping[str, Any]) -> bytes | None:
    return item["refresh_current"]["B"] if "refresh_current" in item else None


def _space_item(space: SpaceRecord) -> Item:
    return {
        **_space_key(space.space),
        "name": _s(space.name),
        "personal": {"BOOL": space.personal},
        "owners": _n(space.owners),
        "created_at": _n(space.created_at_ms),
    }


def _space_with_grants(space: SpaceId, items: Iterable[Item]) -> tuple[SpaceRecord, list[GrantRecord]] | None:
    found: SpaceRecord | None = None
    grants = []
    for item in items:
        if _text(item, "sk") == "SPACE":
            found = SpaceRecord(
                space, _text(item, "name"), item["personal"]["BOOL"], _int(item, "owners"), _int(item, "created_at")
            )
        else:
            grants.append(_grant(space, item))
    return (found, grants) if found else None


def _grant_item(grant: GrantRecord) -> Item:
    item = {**_grant_key(grant.space, grant.user), "email": _s(grant.email), "role": _role(grant.role)}
    if grant.writes_since_ms:
        item["writes_since"] = _n(grant.writes_since_ms)
    return item if grant.alias is None else {**item, "alias": _s(grant.alias)}


def _grant(space: SpaceId, item: Item) -> GrantRecord:
    return GrantRecord(
        space,
        UserId(_text(item, "sk").removeprefix("U#")),
        _text(item, "email"),
        Role[_text(item, "role").upper()],
        _alias(item),
        _int(item, "writes_since") if "writes_since" in item else 0,
    )


def _membership_item(space: SpaceRecord, grant: GrantRecord, *, by: UserId) -> Item:
    item = {
        **_membership_key(space.space, grant.user),
        "name": _s(space.name),
        "personal": {"BOOL": space.personal},
        "role": _role(grant.role),
        "by": _s(by),
    }
    return item if grant.alias is None else {**item, "alias": _s(grant.alias)}


def _membership(item: Item) -> Membership:
    return Membership(
        SpaceId(_text(item, "sk").removeprefix("S#")),
        _text(item, "name"),
        item["personal"]["BOOL"],
        Role[_text(item, "role").upper()],
        _alias(item),
        UserId(_text(item, "by")) if "by" in item else None,
    )


def _alias(item: Item) -> str | None:
    return _text(item, "alias") if "alias" in item else None


def _link_item(link: Link) -> Item:
    item = {
        **_link_key(link.space, link.link),
        "node": _b(link.node),
        "user": _s(link.user),
        "created_at": _n(link.created_at_ms),
        "token_digest": _b(link.token),
        "max_downloads": _n(link.max_downloads),
        "downloads": _n(link.downloads),
        **_link_expiry(link),
    }
    if link.expires_at_ms is not None:
        item["until"] = _n(link.expires_at_ms)
    if link.password_hash is not None:
        item["password_hash"] = _s(link.password_hash)
    if link.revoked_at_ms is not None:
        item["revoked_at"] = _n(link.revoked_at_ms)
    return item


def _made_item(link: Link) -> Item:
    return {**_link_item(link), **_made_key(link), "space": _s(link.space)}


def _made(item: Mapping[str, Any]) -> Link:
    key = _link_key(SpaceId(_text(item, "space")), LinkId(_text(item, "sk").removeprefix("L#")))
    return _link({**item, **key})


def _done_item(done: Done) -> Item:
    kept_until = done.at_ms + ANSWER_DAYS * DAY
    return {
        **_done_key(done.user, done.request),
        "fingerprint": _b(done.fingerprint),
        "expires_at": _expiry(kept_until),
    }


def _token_item(link: Link) -> Item:
    return {**_token_key(link.token), "space": _s(link.space), "link": _s(link.link), **_link_expiry(link)}


def _link_expiry(link: Link) -> Item:
    return {} if link.expires_at_ms is None else {"expires_at": _expiry(link.expires_at_ms)}


def _link(item: Mapping[str, Any]) -> Link:
    return Link(
        LinkId(_text(item, "sk")),
        SpaceId(_text(item, "pk").removeprefix("S#").removesuffix("#L")),
        NodeId(item["node"]["B"]),
        UserId(_text(item, "user")),
        _int(item, "created_at"),
        item["token_digest"]["B"],
        _int(item, "until") if "until" in item else None,
        _text(item, "password_hash") if "password_hash" in item else None,
        _int(item, "max_downloads"),
        _int(item, "downloads"),
        _int(item, "revoked_at") if "revoked_at" in item else None,
    )


def _uploads_item(space: SpaceId, uploads: SpaceUploads) -> Item:
    return {
        **_uploads_key(space),
        "refused": {"BOOL": uploads.refused},
        "unsealed_bytes": _n(uploads.unsealed_bytes),
        "unsealed_objects": _n(uploads.unsealed_objects),
        "stored_bytes": _n(uploads.stored_bytes),
        "quota_bytes": _n(uploads.quota_bytes),
        "measured_at": _n(uploads.measured_at_ms),
    }


def _uploads(item: Mapping[str, Any]) -> SpaceUploads:
    return SpaceUploads(
        item["refused"]["BOOL"],
        _int(item, "unsealed_bytes"),
        _int(item, "unsealed_objects"),
        _int(item, "stored_bytes"),
        _int(item, "quota_bytes"),
        _int(item, "measured_at") if "measured_at" in item else 0,
    )
