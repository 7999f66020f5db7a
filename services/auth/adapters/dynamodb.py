"""The identity table in DynamoDB.

| item | pk | sk | holds |
|---|---|---|---|
| LOGIN | `E#{email}` | `LOGIN` | the account's id and password hash; the existence of the item reserves the address |
| ATTEMPTS | `E#{email}`, `E#{subject}` | `FROM#{peer}`, `FROM` for all peers | the number of attempts, and the time at which the counter ends |
| ACCOUNT | `U#{user}` | `ACCOUNT` | address and personal space |
| MEMBERSHIP | `U#{user}` | `S#{space}` | a grant as its holder lists it; changes in one transaction with the GRANT |
| ALIAS | `U#{user}` | `A#{SHA-256 of the folded alias, hex}` | the space that the alias means to this user, permanently |
| DONE | `U#{user}` | `R#{request, hex}` | the fingerprint of a mutation request that was carried out |
| DEVICE | `D#{device}` | `DEVICE` | a device and its refresh chain or key; the index `gsi1` lists the devices of a user |
| KEY | `D#{device}` | `K#{device of a program}` | marks that the first device has made the key of the second one |
| SPACE | `S#{space}` | `SPACE` | name, and the number of owners |
| GRANT | `S#{space}` | `U#{user}` | role, address, alias, and the time since which the member may write |
| LINK | `S#{space}#L` | `{link}` | a public link; in a partition of its own, since the GRANTs are read as a whole |
| MADE | `U#{user}` | `L#{link}` | a link in the form in which it was made, until it is revoked |
| TOKEN | `L#{SHA-256 of a link's token, hex}` | `TOKEN` | the link that the token opens |
| COUNTED | `L#{link}` | `R#{request, hex}` | marks that a download was counted for this request |
| WRITTEN | `WRITTEN#{hour since 1970}` | `{space}` | marks that credentials to write were issued for the space in this hour |
| UPLOADS | `S#{space}#U` | `UPLOADS` | the last measure of the objects of a space; in a partition of its own as well |
| GATE | `G#{name}` | `GATE` | the version of a limited list, which each addition increments |
| ENDING | `ENDINGS` | `{ending}` | the end of a device, and of what it has made, that was begun and is not finished |
| KNOWN | `E#{email}`, `E#{subject}` | `KNOWN#{peer}` | marks that a correct password came from this network |

Times are milliseconds since 1970, but `expires_at` is in seconds, since it is DynamoDB's time to live.
"""  # noqa: E501 - a table

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from aws.dynamodb import (
    CONDITION_FAILED,
    CONFLICT,
    NEW,
    RETRIES,
    THERE,
    Cancelled,
    ConditionFailed,
    Item,
    Table,
    attribute,
    bytes_of,
    expiry,
    flag_of,
    key_of,
    number_of,
    text_of,
)
from services.auth.aliases import PERSONAL, fold_alias
from services.auth.ports import AliasTaken, ChainMoved, GateMoved, GrantMoved, MakerEnded
from services.auth.records import (
    DAY_MS,
    HOUR_MS,
    Account,
    Chain,
    DeviceEnding,
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
from syncline.model.accounts import DeviceKind, Role
from syncline.model.errors import AccountExists, Unavailable
from syncline.model.identifiers import DeviceId, LinkId, NodeId, RequestId, SpaceId, UserId
from syncline.model.limits import ANSWER_DAYS

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb.client import DynamoDBClient

_MAX_COUNTER_ATTEMPTS: Final = 5
_ENDINGS: Final = "ENDINGS"

_KEPT_AFTER_EXPIRY_MS: Final = DAY_MS


class DynamoIdentityStore:
    """Implements IdentityStore on the identity table."""

    def __init__(self, client: DynamoDBClient, *, table: str) -> None:
        self._table = Table(client, table, called="the identity table")

    # ---- accounts

    async def create_account(self, login: Login, *, device: DeviceRecord) -> None:
        account = login.account
        try:
            await self._table.transact(
                self._table.putting(_login_item(login), NEW),
                self._table.putting(_account_item(account)),
                *self._puts_of_space(personal_space(account), owner=account, alias=PERSONAL),
                self._table.putting(_device_item(device)),
            )
        except Cancelled as cancelled:
            if cancelled.reasons[0] == CONDITION_FAILED:
                raise AccountExists from None
            raise Unavailable("another sign-up with this address is in progress; try again") from None

    async def login(self, email: str) -> Login | None:
        item = await self._table.get(_login_key(email))
        return _login(email, item) if item else None

    async def account(self, user: UserId) -> Account | None:
        item = await self._table.get(_account_key(user))
        return _account(user, item) if item else None

    async def replace_password_hash(self, email: str, *, old: str, new: str) -> None:
        with suppress(ConditionFailed):
            await self._table.update(
                _login_key(email),
                update="SET password_hash = :new",
                condition="password_hash = :old",
                values={":old": attribute(old), ":new": attribute(new)},
            )

    # ---- devices

    async def add_device(self, device: DeviceRecord, *, gates: Sequence[Gate] = ()) -> bool:
        puts = [self._table.putting(_device_item(device), NEW)]
        if device.made_by is not None:
            puts.append(self._table.putting(_made_key_item(device.made_by, device)))
        maker = self._checks_maker(device.made_by)
        try:
            await self._table.transact(*puts, *maker, *self._passes(gates))
        except Cancelled as cancelled:
            if cancelled.reasons[0] == CONDITION_FAILED:
                return False
            _raise_if_maker_ended(cancelled, maker, at=len(puts))
            _raise_if_moved(cancelled, gates)
            raise Unavailable("the same request is in progress already; try again") from None
        return True

    async def device(self, device: DeviceId) -> DeviceRecord | None:
        item = await self._table.get(_device_key(device))
        return _device(item) if item else None

    async def devices(self, user: UserId, *, including: DeviceId | None = None) -> list[DeviceRecord]:
        # The index lags, so it is used only to find the devices; their state is read from the table itself.
        keys = [_device_key(including)] if including is not None else []
        async for item in self._table.query(
            consistent=False,
            IndexName="gsi1",
            KeyConditionExpression="gsi1pk = :user",
            ProjectionExpression="pk, sk",
            ExpressionAttributeValues={":user": attribute(f"U#{user}")},
        ):
            key = {"pk": item["pk"], "sk": item["sk"]}
            if key not in keys[:1]:
                keys.append(key)
        return [_device(item) for item in await self._table.get_all(keys)]

    async def keys_of(self, maker: DeviceId) -> list[DeviceRecord]:
        query = self._table.query(
            KeyConditionExpression="pk = :maker AND begins_with(sk, :keys)",
            ExpressionAttributeValues={":maker": _device_key(maker)["pk"], ":keys": attribute("K#")},
        )
        keys = [_device_key(DeviceId(text_of(item, "sk").removeprefix("K#"))) async for item in query]
        return [_device(item) for item in await self._table.get_all(keys)]

    async def advance_chain(self, device: DeviceId, *, expected: Chain, to: Chain, seen_at_ms: int) -> None:
        chain_unmoved, not_revoked = "refresh_current = :expected", "attribute_not_exists(revoked_at)"
        assert to.previous is not None, "a chain never goes back to its start"
        try:
            await self._table.update(
                _device_key(device),
                update="SET refresh_current = :current, refresh_previous = :previous, refresh_until = :until, "
                "expires_at = :expires_at, last_seen_at = :seen",
                condition=f"{chain_unmoved} AND {not_revoked}",
                values={
                    ":expected": attribute(expected.current),
                    ":current": attribute(to.current),
                    ":previous": attribute(to.previous),
                    ":until": attribute(to.expires_at_ms),
                    ":expires_at": _expiry(to.expires_at_ms),
                    ":seen": attribute(seen_at_ms),
                },
            )
        except ConditionFailed as failed:
            item = failed.found
            # The SDK repeats a call whose answer was lost: the stored item is then the one that this call wrote.
            if item and "revoked_at" not in item and _refresh_current(item) == to.current:
                return
            raise ChainMoved from None

    async def key_used(self, device: DeviceId, *, seen_at_ms: int, expires_at_ms: int) -> None:
        has_key, not_revoked = "attribute_exists(key_digest)", "attribute_not_exists(revoked_at)"
        not_seen_later = "last_seen_at <= :seen"
        with suppress(ConditionFailed):
            await self._table.update(
                _device_key(device),
                update="SET last_seen_at = :seen, key_until = :until, expires_at = :expires_at",
                condition=f"{has_key} AND {not_revoked} AND {not_seen_later}",
                values={
                    ":seen": attribute(seen_at_ms),
                    ":until": attribute(expires_at_ms),
                    ":expires_at": _expiry(expires_at_ms),
                },
            )

    async def revoke_device(self, device: DeviceId, *, at_ms: int) -> None:
        not_revoked = "attribute_not_exists(revoked_at)"
        with suppress(ConditionFailed):
            await self._table.update(
                _device_key(device),
                update="SET revoked_at = :at",
                condition=f"{THERE} AND {not_revoked}",
                values={":at": attribute(at_ms)},
            )

    async def forget_device(self, device: DeviceId, *, until_ms: int) -> None:
        with suppress(ConditionFailed):
            await self._table.update(
                _device_key(device),
                update="SET expires_at = :expires_at REMOVE gsi1pk, gsi1sk",
                condition=THERE,
                values={":expires_at": _expiry(until_ms)},
            )

    # ---- spaces and grants

    async def create_space(self, space: SpaceRecord, *, owner: Account, alias: str, gates: Sequence[Gate] = ()) -> bool:
        puts = self._puts_of_space(space, owner=owner, alias=alias)
        try:
            await self._table.transact(*puts, *self._passes(gates))
        except Cancelled as cancelled:
            if cancelled.reasons[0] == CONDITION_FAILED:
                return False
            _raise_if_moved(cancelled, gates)
            if CONDITION_FAILED in cancelled.reasons[len(puts) - 1 :]:
                raise AliasTaken from None
            raise Unavailable("the same request is in progress already; try again") from None
        return True

    async def memberships(self, user: UserId) -> list[Membership]:
        query = self._table.query(
            KeyConditionExpression="pk = :user AND begins_with(sk, :spaces)",
            ExpressionAttributeValues={":user": attribute(f"U#{user}"), ":spaces": attribute("S#")},
        )
        return [_membership(item) async for item in query]

    async def members(self, space: SpaceId) -> tuple[SpaceRecord, list[GrantRecord]] | None:
        query = self._table.query(
            KeyConditionExpression="pk = :space",
            ExpressionAttributeValues={":space": attribute(f"S#{space}")},
        )
        return _space_with_grants(space, [item async for item in query])

    async def standing(self, space: SpaceId, *users: UserId) -> tuple[SpaceRecord, dict[UserId, GrantRecord]] | None:
        keys = [_space_key(space), *(_grant_key(space, user) for user in dict.fromkeys(users))]
        found = _space_with_grants(space, await self._table.get_all(keys))
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
        keys = _grant_key(space.space, member.user), _membership_key(space.space, member.user)
        alias_at: int | None = None
        if before is None:
            assert after is not None, "no grant stays none"
            assert alias, "a new grant comes with an alias"
            grant = GrantRecord(space.space, member.user, member.email, after, alias, writes_since_ms)
            writes = [
                self._table.putting(_grant_item(grant), NEW),
                self._table.putting(_membership_item(space, grant, by=by)),
            ]
            alias_at = len(writes)
            writes.append(self._put_alias(member.user, alias, space.space))
        elif after is None:
            writes = [self._table.deleting(keys[0], **_role_is(before)), self._table.deleting(keys[1])]
        else:
            condition = _role_is(before)
            values = {**condition["values"], ":after": _role(after)}
            since = {**values, ":since": attribute(writes_since_ms)}
            writes = [
                self._table.updating(
                    keys[0], update="SET #role = :after, writes_since = :since", **{**condition, "values": since}
                ),
                self._table.updating(keys[1], update="SET #role = :after", **{**condition, "values": values}),
            ]
        owners = (after is Role.OWNER) - (before is Role.OWNER)
        if owners:
            one_remains = "owners > :fewest"
            writes.append(
                self._table.updating(
                    _space_key(space.space),
                    update="ADD owners :more",
                    condition=one_remains,
                    values={":more": attribute(owners), ":fewest": attribute(1 if owners < 0 else 0)},
                )
            )
        if by != member.user:
            writes.append(self._table.checking(_grant_key(space.space, by), **_role_is(Role.OWNER)))
        if done is not None:
            writes.append(self._table.putting(_done_item(done), NEW))
        try:
            await self._table.transact(*writes, *self._passes(gates))
        except Cancelled as cancelled:
            _raise_if_moved(cancelled, gates)
            if alias_at is not None and cancelled.reasons[alias_at] == CONDITION_FAILED:
                raise AliasTaken from None
            raise GrantMoved from None

    async def give_alias(self, space: SpaceId, user: UserId, alias: str) -> None:
        has_none = f"{THERE} AND attribute_not_exists(#alias)"
        keys = _grant_key(space, user), _membership_key(space, user)
        try:
            await self._table.transact(
                *(
                    self._table.updating(
                        key,
                        update="SET #alias = :alias",
                        condition=has_none,
                        values={":alias": attribute(alias)},
                        names={"#alias": "alias"},
                    )
                    for key in keys
                ),
                self._put_alias(user, alias, space),
            )
        except Cancelled as cancelled:
            if CONDITION_FAILED in cancelled.reasons[:2]:
                return
            if cancelled.reasons[2] == CONDITION_FAILED:
                raise AliasTaken from None
            raise Unavailable("a concurrent request assigns aliases to these spaces; try again") from None

    # ---- access

    async def access(
        self, space: SpaceId, *, user: UserId, device: DeviceId | None
    ) -> tuple[GrantRecord | None, DeviceRecord | None]:
        grants, found = await self.accesses([(space, user)], [device] if device is not None else [])
        return grants.get((space, user)), found.get(device) if device is not None else None

    async def accesses(
        self, grants: Collection[tuple[SpaceId, UserId]], devices: Collection[DeviceId]
    ) -> tuple[Mapping[tuple[SpaceId, UserId], GrantRecord], Mapping[DeviceId, DeviceRecord]]:
        keys = [*itertools.starmap(_grant_key, set(grants)), *map(_device_key, set(devices))]
        granted: dict[tuple[SpaceId, UserId], GrantRecord] = {}
        found: dict[DeviceId, DeviceRecord] = {}
        for item in await self._table.get_all(keys):
            if text_of(item, "sk") == "DEVICE":
                device = _device(item)
                found[device.device] = device
            else:
                grant = _grant(SpaceId(text_of(item, "pk").removeprefix("S#")), item)
                granted[grant.space, grant.user] = grant
        return granted, found

    # ---- attempts

    async def count_attempt(self, *, subject: str, peer: str | None, limit: int, window_ms: int, now_ms: int) -> int:
        running, below_limit = "ends_at > :now", "attempts < :limit"
        over = "ends_at <= :now"
        key, now, ends_at = _attempts_key(subject, peer), attribute(now_ms), now_ms + window_ms
        for _ in range(_MAX_COUNTER_ATTEMPTS):
            try:
                await self._table.update(
                    key,
                    update="ADD attempts :one",
                    condition=f"{running} AND {below_limit}",
                    values={":now": now, ":limit": attribute(limit), ":one": attribute(1)},
                )
            except ConditionFailed as failed:
                found = failed.found
            else:
                return 0
            if found and number_of(found, "ends_at") > now_ms:
                return number_of(found, "ends_at") - now_ms
            first = {**key, "attempts": attribute(1), "ends_at": attribute(ends_at), "expires_at": _expiry(ends_at)}
            with suppress(ConditionFailed):  # another process has created the counter: count in that one
                await self._table.put(first, f"{NEW} OR {over}", {":now": now})
                return 0
        raise Unavailable("too many attempts at once; try again")

    async def forget_attempts(self, *, subject: str, peer: str) -> None:
        # The counters are reset, not deleted: otherwise many concurrent sign-ins would race to create a missing
        # counter.
        await asyncio.gather(*(self._reset(_attempts_key(subject, whence)) for whence in (peer, None)))

    async def take_back_attempt(self, *, subject: str, peer: str) -> None:
        with suppress(ConditionFailed):
            await self._table.update(
                _attempts_key(subject, peer),
                update="ADD attempts :less",
                condition="attempts > :none",
                values={":less": attribute(-1), ":none": attribute(0)},
            )

    async def know_network(self, *, subject: str, peer: str, until_ms: int) -> None:
        item = {**_known_key(subject, peer), "until": attribute(until_ms), "expires_at": _expiry(until_ms)}
        await self._table.put(item)

    async def knows_network(self, *, subject: str, peer: str, now_ms: int) -> bool:
        item = await self._table.get(_known_key(subject, peer))
        return item is not None and number_of(item, "until") > now_ms

    async def _reset(self, counter: Item) -> None:
        with suppress(ConditionFailed):
            await self._table.update(
                counter,
                update="SET attempts = :none",
                condition=THERE,
                values={":none": attribute(0)},
            )

    # ---- links

    async def add_link(self, link: Link, *, gates: Sequence[Gate] = ()) -> bool:
        puts = self._table.putting(_link_item(link), NEW), self._table.putting(_token_item(link), NEW)
        maker = self._checks_maker(link.made_by)
        try:
            await self._table.transact(*puts, self._table.putting(_made_item(link)), *maker, *self._passes(gates))
        except Cancelled as cancelled:
            if CONDITION_FAILED in cancelled.reasons[: len(puts)]:
                return False
            _raise_if_maker_ended(cancelled, maker, at=len(puts) + 1)
            _raise_if_moved(cancelled, gates)
            raise Unavailable("the same request is in progress already; try again") from None
        return True

    async def link(self, space: SpaceId, link: LinkId) -> Link | None:
        item = await self._table.get(_link_key(space, link))
        return _link(item) if item else None

    async def link_with_token(self, token: bytes) -> Link | None:
        item = await self._table.get(_token_key(token))
        if item is None:
            return None
        found = await self.link(SpaceId(text_of(item, "space")), LinkId(text_of(item, "link")))
        return found if found and found.revoked_at_ms is None else None

    async def links(self, space: SpaceId) -> list[Link]:
        query = self._table.query(
            KeyConditionExpression="pk = :links",
            ExpressionAttributeValues={":links": _link_key(space, LinkId(""))["pk"]},
        )
        return [_link(item) async for item in query]

    async def links_of(self, user: UserId) -> list[Link]:
        query = self._table.query(
            KeyConditionExpression="pk = :user AND begins_with(sk, :links)",
            ExpressionAttributeValues={":user": attribute(f"U#{user}"), ":links": attribute("L#")},
        )
        return [_made(item) async for item in query]

    async def revoke_link(self, link: Link, *, at_ms: int) -> None:
        revoked = self._table.updating(
            _link_key(link.space, link.link),
            update="SET revoked_at = if_not_exists(revoked_at, :at), expires_at = :expires_at",
            condition=THERE,
            values={":at": attribute(at_ms), ":expires_at": _expiry(at_ms)},
        )
        gone = [self._table.deleting(key) for key in (_token_key(link.token), _made_key(link))]
        try:
            await self._table.transact(revoked, *gone)
        except Cancelled as cancelled:
            if CONDITION_FAILED not in cancelled.reasons:
                raise Unavailable("the link is being used or ended; try again") from None

    async def without_ended(self, made: Sequence[Link]) -> list[Link]:
        found = map(_link, await self._table.get_all([_link_key(one.space, one.link) for one in made]))
        there = {link.link for link in found if link.revoked_at_ms is None}
        await self._delete(*(_made_key(one) for one in made if one.link not in there))
        return [one for one in made if one.link in there]

    async def drop_link(self, link: Link) -> None:
        # The items that lead to the link are deleted last, so that a failed attempt can be repeated.
        await self._delete(_token_key(link.token), _link_key(link.space, link.link), _made_key(link))

    async def count_download(self, space: SpaceId, link: LinkId, request: RequestId, *, now_ms: int) -> bool:
        one_more, not_revoked = "downloads < max_downloads", "attribute_not_exists(revoked_at)"
        counting = self._table.updating(
            _link_key(space, link),
            update="ADD downloads :one",
            condition=f"{one_more} AND {not_revoked}",
            values={":one": attribute(1)},
        )
        counted = {**_counted_key(link, request), "expires_at": _expiry(now_ms + ANSWER_DAYS * DAY_MS)}
        for pause in RETRIES.pauses():
            try:
                await self._table.transact(counting, self._table.putting(counted, NEW))
            except Cancelled as cancelled:
                of_link, of_request = cancelled.reasons
                if of_request == CONDITION_FAILED:
                    return True
                if of_link == CONDITION_FAILED and of_request != CONFLICT:
                    return False
                # concurrent downloads of the link, or repetitions of this one, are being counted
                await asyncio.sleep(pause)
            else:
                return True
        raise Unavailable("too many downloads of this link begin at once; try again")

    # ---- ends of devices

    async def begin_ending(self, ending: DeviceEnding) -> None:
        await self._table.put(_ending_item(ending))

    async def endings(self) -> list[DeviceEnding]:
        query = self._table.query(
            KeyConditionExpression="pk = :endings", ExpressionAttributeValues={":endings": attribute(_ENDINGS)}
        )
        return [_ending(item) async for item in query]

    async def take_ending(self, ending: DeviceEnding, *, due_at_ms: int) -> DeviceEnding | None:
        taken = replace(ending, due_at_ms=due_at_ms, attempts=ending.attempts + 1)
        not_taken = "due_at = :due"
        try:
            await self._table.put(_ending_item(taken), not_taken, {":due": attribute(ending.due_at_ms)})
        except ConditionFailed:
            return None
        return taken

    async def forget_ending(self, ending: DeviceEnding) -> None:
        await self._delete(key_of(_ENDINGS, ending.ident))

    # ---- requests

    async def done(self, user: UserId, request: RequestId) -> bytes | None:
        item = await self._table.get(_done_key(user, request))
        return bytes_of(item, "fingerprint") if item else None

    async def note(self, done: Done) -> None:
        with suppress(ConditionFailed):
            await self._table.put(_done_item(done), NEW)

    # ---- uploads

    async def note_writing(self, space: SpaceId, *, hour: int) -> None:
        item = {**_written_key(hour, space), "expires_at": _expiry((hour + 1) * HOUR_MS)}
        await self._table.put(item)

    async def written(self, *, hour: int, after: str, limit: int) -> list[SpaceId]:
        beyond: Item = {":after": attribute(after)} if after else {}
        query = self._table.query(
            limit,
            KeyConditionExpression="pk = :hour AND sk > :after" if after else "pk = :hour",
            ExpressionAttributeValues={":hour": attribute(_written_pk(hour)), **beyond},
        )
        return [SpaceId(text_of(item, "sk")) async for item in query]

    async def uploads(self, space: SpaceId) -> SpaceUploads | None:
        item = await self._table.get(_uploads_key(space))
        return _uploads(item) if item else None

    async def set_uploads(self, space: SpaceId, uploads: SpaceUploads) -> bool:
        not_newer = "attribute_not_exists(measured_at) OR measured_at <= :at"
        try:
            await self._table.put(_uploads_item(space, uploads), not_newer, {":at": attribute(uploads.measured_at_ms)})
        except ConditionFailed:
            return False
        return True

    # ---- gates

    async def gates(self, *names: str) -> list[Gate]:
        items = await self._table.get_all([_gate_key(name) for name in names])
        versions = {text_of(item, "pk").removeprefix("G#"): number_of(item, "passed") for item in items}
        return [Gate(name, versions.get(name, 0)) for name in names]

    def _passes(self, gates: Sequence[Gate]) -> list[Item]:
        unmoved, first = "passed = :passed", "attribute_not_exists(passed)"
        return [
            self._table.updating(
                _gate_key(gate.name),
                update="ADD passed :one",
                condition=unmoved if gate.version else first,
                values={":one": attribute(1)} | ({":passed": attribute(gate.version)} if gate.version else {}),
            )
            for gate in gates
        ]

    # ---- writes of more than one method

    def _puts_of_space(self, space: SpaceRecord, *, owner: Account, alias: str) -> list[Item]:
        grant = GrantRecord(space.space, owner.user, owner.email, Role.OWNER, alias)
        return [
            self._table.putting(_space_item(space), NEW),
            self._table.putting(_grant_item(grant)),
            self._table.putting(_membership_item(space, grant, by=owner.user)),
            self._put_alias(owner.user, alias, space.space),
        ]

    def _put_alias(self, user: UserId, alias: str, space: SpaceId) -> Item:
        of_this_space = "#space = :space"
        return self._table.putting(
            {**_alias_key(user, alias), "space": attribute(space)},
            f"{NEW} OR {of_this_space}",
            {":space": attribute(space)},
            {"#space": "space"},
        )

    def _checks_maker(self, maker: DeviceId | None) -> list[Item]:
        """Return the condition for adding a key or link that a device makes: that the device is not revoked. Code that
        ends all keys and links of a device thus finds every one added before the revocation, and none is added
        afterwards.
        """
        not_revoked = "attribute_not_exists(revoked_at)"
        return [] if maker is None else [self._table.checking(_device_key(maker), f"{THERE} AND {not_revoked}")]

    async def _delete(self, *keys: Item) -> None:
        for key in keys:
            await self._table.delete(key)


# ---- conditions


def _raise_if_moved(cancelled: Cancelled, gates: Sequence[Gate]) -> None:
    """Raise GateMoved if one of the gates, the last writes of the transaction, changed after it was read."""
    if gates and set(cancelled.reasons[-len(gates) :]) & {CONDITION_FAILED, CONFLICT}:
        raise GateMoved from None


def _raise_if_maker_ended(cancelled: Cancelled, maker: Sequence[Item], *, at: int) -> None:
    """Raise MakerEnded if the condition on the maker, which is the write `at` of the transaction, did not hold."""
    if maker and cancelled.reasons[at] == CONDITION_FAILED:
        raise MakerEnded from None


def _role_is(role: Role) -> Item:
    """Return the arguments of a write on the condition that the item's role is `role`."""
    return {"condition": "#role = :role", "values": {":role": _role(role)}, "names": {"#role": "role"}}


# ---- attributes


def _role(role: Role) -> Item:
    return attribute(role.name.lower())


def _expiry(at_ms: int) -> Item:
    """Return the time-to-live attribute for an item that has a meaning until `at_ms`."""
    return expiry(at_ms + _KEPT_AFTER_EXPIRY_MS)


# ---- keys


def _login_key(email: str) -> Item:
    return key_of(f"E#{email}", "LOGIN")


def _attempts_key(subject: str, peer: str | None) -> Item:
    return key_of(f"E#{subject}", "FROM" if peer is None else f"FROM#{peer}")


def _known_key(subject: str, peer: str) -> Item:
    return key_of(f"E#{subject}", f"KNOWN#{peer}")


def _gate_key(name: str) -> Item:
    return key_of(f"G#{name}", "GATE")


def _account_key(user: UserId) -> Item:
    return key_of(f"U#{user}", "ACCOUNT")


def _membership_key(space: SpaceId, user: UserId) -> Item:
    return key_of(f"U#{user}", f"S#{space}")


def _alias_key(user: UserId, alias: str) -> Item:
    # A folded name can be longer than the maximum length of a key.
    return key_of(f"U#{user}", f"A#{hashlib.sha256(fold_alias(alias).encode()).hexdigest()}")


def _device_key(device: DeviceId) -> Item:
    return key_of(f"D#{device}", "DEVICE")


def _space_key(space: SpaceId) -> Item:
    return key_of(f"S#{space}", "SPACE")


def _grant_key(space: SpaceId, user: UserId) -> Item:
    return key_of(f"S#{space}", f"U#{user}")


def _link_key(space: SpaceId, link: LinkId) -> Item:
    return key_of(f"S#{space}#L", link)


def _made_key(link: Link) -> Item:
    return key_of(f"U#{link.user}", f"L#{link.link}")


def _done_key(user: UserId, request: RequestId) -> Item:
    return key_of(f"U#{user}", f"R#{request.hex()}")


def _counted_key(link: LinkId, request: RequestId) -> Item:
    return key_of(f"L#{link}", f"R#{request.hex()}")


def _token_key(token: bytes) -> Item:
    return key_of(f"L#{token.hex()}", "TOKEN")


def _written_pk(hour: int) -> str:
    return f"WRITTEN#{hour}"


def _written_key(hour: int, space: SpaceId) -> Item:
    return key_of(_written_pk(hour), space)


def _uploads_key(space: SpaceId) -> Item:
    return key_of(f"S#{space}#U", "UPLOADS")


# ---- records to items and back


def _login_item(login: Login) -> Item:
    account = login.account
    return {
        **_login_key(account.email),
        "user": attribute(account.user),
        "personal_space": attribute(account.personal_space),
        "created_at": attribute(account.created_at_ms),
        "password_hash": attribute(login.password_hash),
    }


def _login(email: str, item: Item) -> Login:
    account = Account(
        UserId(text_of(item, "user")), email, SpaceId(text_of(item, "personal_space")), number_of(item, "created_at")
    )
    return Login(account, text_of(item, "password_hash"))


def _account_item(account: Account) -> Item:
    return {
        **_account_key(account.user),
        "email": attribute(account.email),
        "personal_space": attribute(account.personal_space),
        "created_at": attribute(account.created_at_ms),
    }


def _account(user: UserId, item: Item) -> Account:
    return Account(
        user, text_of(item, "email"), SpaceId(text_of(item, "personal_space")), number_of(item, "created_at")
    )


def _device_item(device: DeviceRecord) -> Item:
    chain = device.chain
    item = {
        **_device_key(device.device),
        "gsi1pk": attribute(f"U#{device.user}"),
        "gsi1sk": attribute(f"D#{device.device}"),
        "user": attribute(device.user),
        "name": attribute(device.name),
        "created_at": attribute(device.created_at_ms),
        "last_seen_at": attribute(device.last_seen_at_ms),
        "kind": attribute(device.kind.name.lower()),
        "expires_at": _expiry(device.expires_at_ms),
    }
    if device.key is not None:
        item |= {"key_digest": attribute(device.key.digest), "key_until": attribute(device.key.expires_at_ms)}
    if chain is not None:
        item |= {
            "refresh_family": attribute(chain.family),
            "refresh_current": attribute(chain.current),
            "refresh_until": attribute(chain.expires_at_ms),
        }
        if chain.previous is not None:
            item["refresh_previous"] = attribute(chain.previous)
    if device.revoked_at_ms is not None:
        item["revoked_at"] = attribute(device.revoked_at_ms)
    if device.made_by is not None:
        item["made_by"] = attribute(device.made_by)
    return item


def _made_key_item(maker: DeviceId, program: DeviceRecord) -> Item:
    return {**key_of(f"D#{maker}", f"K#{program.device}"), "expires_at": _expiry(program.expires_at_ms)}


def _device(item: Mapping[str, Any]) -> DeviceRecord:
    chain, key = None, None
    if "refresh_family" in item:
        previous = bytes_of(item, "refresh_previous") if "refresh_previous" in item else None
        chain = Chain(
            bytes_of(item, "refresh_family"),
            bytes_of(item, "refresh_current"),
            previous,
            number_of(item, "refresh_until"),
        )
    if "key_digest" in item:
        key = Key(bytes_of(item, "key_digest"), number_of(item, "key_until"))
    return DeviceRecord(
        DeviceId(text_of(item, "pk").removeprefix("D#")),
        UserId(text_of(item, "user")),
        text_of(item, "name"),
        number_of(item, "created_at"),
        number_of(item, "last_seen_at"),
        number_of(item, "revoked_at") if "revoked_at" in item else None,
        chain,
        # written before there were other kinds
        DeviceKind[text_of(item, "kind").upper()] if "kind" in item else DeviceKind.CLIENT,
        key,
        _made_by(item),
    )


def _made_by(item: Mapping[str, Any]) -> DeviceId | None:
    return DeviceId(text_of(item, "made_by")) if "made_by" in item else None


def _refresh_current(item: Mapping[str, Any]) -> bytes | None:
    return bytes_of(item, "refresh_current") if "refresh_current" in item else None


def _space_item(space: SpaceRecord) -> Item:
    return {
        **_space_key(space.space),
        "name": attribute(space.name),
        "personal": attribute(space.personal),
        "owners": attribute(space.owners),
        "created_at": attribute(space.created_at_ms),
    }


def _space_with_grants(space: SpaceId, items: Iterable[Item]) -> tuple[SpaceRecord, list[GrantRecord]] | None:
    found: SpaceRecord | None = None
    grants = []
    for item in items:
        if text_of(item, "sk") == "SPACE":
            found = SpaceRecord(
                space,
                text_of(item, "name"),
                flag_of(item, "personal"),
                number_of(item, "owners"),
                number_of(item, "created_at"),
            )
        else:
            grants.append(_grant(space, item))
    return (found, grants) if found else None


def _grant_item(grant: GrantRecord) -> Item:
    item = {**_grant_key(grant.space, grant.user), "email": attribute(grant.email), "role": _role(grant.role)}
    if grant.writes_since_ms:
        item["writes_since"] = attribute(grant.writes_since_ms)
    return item if grant.alias is None else {**item, "alias": attribute(grant.alias)}


def _grant(space: SpaceId, item: Item) -> GrantRecord:
    return GrantRecord(
        space,
        UserId(text_of(item, "sk").removeprefix("U#")),
        text_of(item, "email"),
        Role[text_of(item, "role").upper()],
        _alias(item),
        number_of(item, "writes_since") if "writes_since" in item else 0,
    )


def _membership_item(space: SpaceRecord, grant: GrantRecord, *, by: UserId) -> Item:
    item = {
        **_membership_key(space.space, grant.user),
        "name": attribute(space.name),
        "personal": attribute(space.personal),
        "role": _role(grant.role),
        "by": attribute(by),
    }
    return item if grant.alias is None else {**item, "alias": attribute(grant.alias)}


def _membership(item: Item) -> Membership:
    return Membership(
        SpaceId(text_of(item, "sk").removeprefix("S#")),
        text_of(item, "name"),
        flag_of(item, "personal"),
        Role[text_of(item, "role").upper()],
        _alias(item),
        UserId(text_of(item, "by")) if "by" in item else None,
    )


def _alias(item: Item) -> str | None:
    return text_of(item, "alias") if "alias" in item else None


def _link_item(link: Link) -> Item:
    item = {
        **_link_key(link.space, link.link),
        "node": attribute(link.node),
        "user": attribute(link.user),
        "created_at": attribute(link.created_at_ms),
        "token_digest": attribute(link.token),
        "max_downloads": attribute(link.max_downloads),
        "downloads": attribute(link.downloads),
        **_link_expiry(link),
    }
    if link.expires_at_ms is not None:
        item["until"] = attribute(link.expires_at_ms)
    if link.password_hash is not None:
        item["password_hash"] = attribute(link.password_hash)
    if link.revoked_at_ms is not None:
        item["revoked_at"] = attribute(link.revoked_at_ms)
    if link.made_by is not None:
        item["made_by"] = attribute(link.made_by)
    if link.writes_since_ms is not None:
        item["writes_since"] = attribute(link.writes_since_ms)
    return item


def _made_item(link: Link) -> Item:
    return {**_link_item(link), **_made_key(link), "space": attribute(link.space)}


def _made(item: Mapping[str, Any]) -> Link:
    key = _link_key(SpaceId(text_of(item, "space")), LinkId(text_of(item, "sk").removeprefix("L#")))
    return _link({**item, **key})


def _ending_item(ending: DeviceEnding) -> Item:
    return {
        **key_of(_ENDINGS, ending.ident),
        "device": attribute(ending.device),
        "user": attribute(ending.user),
        "device_last": attribute(ending.device_last),
        "end_links": attribute(ending.end_links),
        "due_at": attribute(ending.due_at_ms),
        "attempts": attribute(ending.attempts),
    }


def _ending(item: Mapping[str, Any]) -> DeviceEnding:
    return DeviceEnding(
        text_of(item, "sk"),
        DeviceId(text_of(item, "device")),
        UserId(text_of(item, "user")),
        flag_of(item, "device_last"),
        flag_of(item, "end_links"),
        number_of(item, "due_at"),
        number_of(item, "attempts"),
    )


def _done_item(done: Done) -> Item:
    kept_until = done.at_ms + ANSWER_DAYS * DAY_MS
    return {
        **_done_key(done.user, done.request),
        "fingerprint": attribute(done.fingerprint),
        "expires_at": _expiry(kept_until),
    }


def _token_item(link: Link) -> Item:
    return {
        **_token_key(link.token),
        "space": attribute(link.space),
        "link": attribute(link.link),
        **_link_expiry(link),
    }


def _link_expiry(link: Link) -> Item:
    return {} if link.expires_at_ms is None else {"expires_at": _expiry(link.expires_at_ms)}


def _link(item: Mapping[str, Any]) -> Link:
    return Link(
        LinkId(text_of(item, "sk")),
        SpaceId(text_of(item, "pk").removeprefix("S#").removesuffix("#L")),
        NodeId(bytes_of(item, "node")),
        UserId(text_of(item, "user")),
        number_of(item, "created_at"),
        bytes_of(item, "token_digest"),
        number_of(item, "until") if "until" in item else None,
        text_of(item, "password_hash") if "password_hash" in item else None,
        number_of(item, "max_downloads"),
        number_of(item, "downloads"),
        number_of(item, "revoked_at") if "revoked_at" in item else None,
        _made_by(item),
        number_of(item, "writes_since") if "writes_since" in item else None,
    )


def _uploads_item(space: SpaceId, uploads: SpaceUploads) -> Item:
    return {
        **_uploads_key(space),
        "refused": attribute(uploads.refused),
        "unsealed_bytes": attribute(uploads.unsealed_bytes),
        "unsealed_objects": attribute(uploads.unsealed_objects),
        "stored_bytes": attribute(uploads.stored_bytes),
        "quota_bytes": attribute(uploads.quota_bytes),
        "measured_at": attribute(uploads.measured_at_ms),
    }


def _uploads(item: Mapping[str, Any]) -> SpaceUploads:
    return SpaceUploads(
        flag_of(item, "refused"),
        number_of(item, "unsealed_bytes"),
        number_of(item, "unsealed_objects"),
        number_of(item, "stored_bytes"),
        number_of(item, "quota_bytes"),
        number_of(item, "measured_at") if "measured_at" in item else 0,
    )
