"""Write-through: all state of the emulator is written to the storage, and read back at the start.

The emulator keeps its state in dictionaries of its modules. Changes by a request are detected in two ways:

- Large state changes at few places, which are wrapped: items of tables, objects, sessions of roles, and the idempotency
  tokens of transactions. Each such change becomes a row.
- Small state (tables without their items, buckets, roles, topics, queues, stacks) is compared, after each request to
  its service, with what was written last. Queues record which of their messages have changed (`queues.py`).

An answer is sent only after all earlier changes are durable, so nobody has seen a change that could be lost. A
deployment by CloudFormation is one change: until it is complete, none of its resources is written, and after a kill the
state before it is found.
"""

from __future__ import annotations

import ast
import asyncio
import functools
import importlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stack.emulator.queues import Queues
from stack.emulator.storage import OBJECT_ROWS, Storage, StorageDamaged

SERVICES: Final = ("cloudformation", "dynamodb", "iam", "s3", "ses", "ses_v2", "sns", "sqs", "sts")
TAKEN_OVER: Final = "taken over"
"""The store that has a row if the state of an earlier version of Syncline was taken over."""
MAX_KEPT_MAILS: Final = 1000
"""Maximum number of sent mails on disk; they are kept for people who read them on this machine."""

_ITEM_OPERATIONS: Final = frozenset(
    {
        *("PutItem", "GetItem", "DeleteItem", "UpdateItem", "Query", "Scan"),
        *("BatchWriteItem", "BatchGetItem", "TransactWriteItems", "TransactGetItems"),
        *("DescribeTable", "ListTables", "DescribeTimeToLive", "DescribeContinuousBackups"),
    }
)
_POLL_SECONDS: Final = 0.02

_LARGE: Final[Mapping[str, frozenset[str]]] = {
    "dynamodb.tables": frozenset({"items", "ItemCount", "TableSizeBytes", "_index_members"}),
    "s3.buckets_meta": frozenset({"objects"}),
    "sqs.queues": frozenset({"messages"}),
}
"""The keys, by store, of the values that are excluded from the records of the store, because they have rows of their
own or can be derived from rows.
"""

_ITEMS: Final = "dynamodb.items"
_TOKENS: Final = "dynamodb.tokens"
_MESSAGES: Final = "sqs.messages"
_MAILS: Final = "ses.mails"
_SESSIONS: Final = "sts.sessions"


@dataclass(frozen=True, slots=True)
class ReadBack:
    """Numbers of what was read from the storage at the start: rows, items of tables, and objects."""

    rows: int
    items: int
    objects: int
    unfinished: int
    """Number of files with bytes of objects that were removed, because no object named them."""


class WriteThrough:
    """Detects changes of the state in the emulator's modules, and writes them to a storage."""

    def __init__(self, storage: Storage) -> None:
        """Import the emulator's modules, and wrap the functions and dictionaries by which their state changes; no state
        is read yet.
        """
        self._storage = storage
        self._modules: dict[str, Any] = {
            name: importlib.import_module(f"ministack.services.{name}") for name in SERVICES
        }
        self._persistence: Any = importlib.import_module("ministack.core.persistence")
        self._responses: Any = importlib.import_module("ministack.core.responses")
        self._dynamodb, self._s3 = self._modules["dynamodb"], self._modules["s3"]
        self._sqs, self._ses, self._sts = self._modules["sqs"], self._modules["ses"], self._modules["sts"]
        self._stores = {name: dict(self._small_stores(name)) for name in SERVICES}
        self._written: dict[tuple[str, str], bytes] = {}
        """The stored values of the small stores, by store and key."""
        self._messages: dict[str, set[str]] = {}
        """The messages that are in the storage, by queue."""
        # Some queues may have been read when the module was imported.
        self._sqs._queues._data = Queues(self._sqs._queues._data)
        self._sqs._queues._data.adopt()
        self._mails: dict[str, tuple[int, int]] = {}
        """The number of mails ever written, and the number in memory, by account and region."""
        self._bodies: dict[str, str] = {}
        """The file of each object's bytes, by the object's key in the storage."""
        self._tokens: deque[tuple[float, str]] = deque()
        """The time at which each idempotency token was stored, and its key in the storage, the oldest first. A token
        that was used again occurs twice.
        """
        self._wrap_items()
        self._wrap_objects()
        self._wrap_requests()

    # ---- reading back ------------------------------------------------------------------------------------------

    def read_back(self) -> ReadBack:
        """Fill the emulator, which must be empty, from the storage. Files with bytes of objects that no row names are
        removed. Return the numbers of what was read. Raise StorageDamaged if a row cannot be read.
        """
        small: dict[str, dict[str, Any]] = {}
        rest: dict[str, list[tuple[str, Any]]] = {}
        items: dict[str, list[Any]] = {}
        count = item_count = 0
        for store, key, value in self._storage.rows():
            count += 1
            if store.startswith(_ITEMS):
                items.setdefault(store, []).append(json.loads(value))
                item_count += 1
            elif store in {_TOKENS, OBJECT_ROWS, _MESSAGES, _MAILS, _SESSIONS}:
                rest.setdefault(store, []).append((key, self._decoded(value)))
            else:
                small.setdefault(store, {})[key] = self._decoded(value)
                self._written[store, key] = value
        self._restore_small(small)
        self._restore_items(items)
        for token, entry in sorted(rest.get(_TOKENS, []), key=lambda row: row[1]["completed_at"]):
            self._restore_token(token, entry)
        self._restore_objects(rest.get(OBJECT_ROWS, []))
        self._restore_messages(rest.get(_MESSAGES, []))
        self._restore_mails(rest.get(_MAILS, []))
        for key, session in rest.get(_SESSIONS, []):
            if self._sts._session_expired(session):
                self._storage.delete(_SESSIONS, key)
            else:
                self._sts._sessions[key] = session
        self._sts._sessions = _Sessions(self._sts._sessions, self._storage)
        unfinished = self._storage.remove_unnamed(set(self._bodies.values()))
        return ReadBack(count, item_count, len(self._bodies), unfinished)

    def _restore_small(self, found: Mapping[str, Mapping[str, Any]]) -> None:
        for name, stores in self._stores.items():
            state = {}
            for key, store in stores.items():
                restored = type(store)()
                for scoped, value in found.get(f"{name}.{key}", {}).items():
                    restored._data[ast.literal_eval(scoped)] = value
                state[key] = restored
            if name == "dynamodb":
                for table in state["tables"]._data.values():
                    table["items"] = {}
            if name == "sqs":
                for queue in state["queues"]._data.values():
                    queue["messages"] = []
            self._modules[name].load_persisted_state(state)

    def _restore_items(self, found: Mapping[str, list[Any]]) -> None:
        tables = {self._items_of(table): table for table in self._dynamodb._tables.all_values()}
        for store, items in found.items():
            table = tables.get(store)
            if table is None:  # made by an incomplete deployment
                self._storage.clear(store)
                continue
            partitions, key_of = table["items"], self._dynamodb._extract_key_val
            pk, sk = table["pk_name"], table["sk_name"]
            for item in items:
                partitions[key_of(item[pk])][key_of(item[sk]) if sk else "__no_sort__"] = item
        for table in tables.values():
            self._dynamodb._update_counts(table)

    def _restore_token(self, key: str, entry: Any) -> None:
        if time.time() - entry["completed_at"] < self._dynamodb._TXN_TOKEN_TTL:
            self._dynamodb._txn_idempotency._data[ast.literal_eval(key)] = entry
            self._tokens.append((entry["completed_at"], key))
        else:
            self._storage.delete(_TOKENS, key)

    def _restore_objects(self, found: list[tuple[str, Any]]) -> None:
        s3 = self._s3
        for row, meta in found:
            account, bucket_name, key = json.loads(row)
            bucket = s3._buckets._data.get((account, bucket_name))
            if bucket is None:
                self._storage.delete(OBJECT_ROWS, row)
                continue
            if meta.get("is_delete_marker"):
                s3._load_persisted_delete_marker(account, bucket, bucket_name, key, meta)
                continue
            record = meta["record"]
            if not (self._storage.directory / record["body_file"]).is_file():
                raise StorageDamaged(
                    f"{self._storage.directory}: the bytes of the object {bucket_name}/{key} "
                    f"({record['body_file']}) are missing; restore a backup: syncline restore-backup --help"
                )
            self._bodies[row] = record["body_file"]
            bucket["objects"][key] = {**record, "body": None}
            if meta.keys() - {"record"}:
                s3._load_persisted_history(account, bucket, bucket_name, key, meta)

    def _restore_messages(self, found: list[tuple[str, Any]]) -> None:
        self._sqs._queues._data.adopt()
        found.sort(key=lambda row: (row[1]["sent_at"], row[1]["seq"] or ""))
        for key, message in found:
            queue_key, identifier = json.loads(key)
            queue = self._sqs._queues._data.get(ast.literal_eval(queue_key))
            if queue is None:
                self._storage.delete(_MESSAGES, key)
                continue
            queue["messages"].append(message)
            self._messages.setdefault(queue_key, set()).add(identifier)
        for queue in self._sqs._queues._data.values():
            queue.change()  # discards the changes, because the queue equals its stored state

    def _restore_mails(self, found: list[tuple[str, Any]]) -> None:
        for (scope, number), mail in sorted((json.loads(key), mail) for key, mail in found):
            sent = self._ses._sent_emails._data.setdefault(ast.literal_eval(scope), [])
            sent.append(mail)
            self._mails[scope] = number + 1, len(sent)

    # ---- what is large -----------------------------------------------------------------------------------------

    def take_over(self) -> None:
        """Write the complete state of the emulator, which it has read from the files of an earlier version."""
        self._sts._sessions = _Sessions(self._sts._sessions, self._storage)
        for table in self._dynamodb._tables.all_values():
            self._write_items(table)
        for (account, bucket_name), bucket in self._s3._buckets._data.items():
            with self._responses.request_scope(account, self._responses.get_region()):
                for key, record in bucket["objects"].items():
                    file = Path(self._s3._object_disk_path(bucket_name, key))
                    record["body_file"] = str(file.relative_to(self._storage.directory.resolve()))
                    self._write_object(bucket_name, key, record)
        for name in SERVICES:
            self._write_small(name)
        self._write_messages()
        self._write_mails()
        self._storage.put(TAKEN_OVER, "", b"true")

    def _items_of(self, table: Any) -> str:
        # The table's id is used because a table that is created again under the same name is another one.
        return f"{_ITEMS}.{table['TableId']}"

    def _write_items(self, table: Any) -> None:
        self._storage.clear(self._items_of(table))
        for pk, partition in table["items"].items():
            for sk, item in partition.items():
                self._storage.put(self._items_of(table), _item_key(pk, sk), _encoded(item))

    def _wrap_items(self) -> None:
        dynamodb, storage = self._dynamodb, self._storage
        set_item, remove_item, items_replaced = dynamodb._set_item, dynamodb._remove_item, dynamodb._items_replaced
        store_token = dynamodb._txn_token_store

        @functools.wraps(set_item)
        def put(table: Any, pk: Any, sk: Any, item: Any) -> Any:
            storage.put(self._items_of(table), _item_key(pk, sk), _encoded(item))
            return set_item(table, pk, sk, item)

        @functools.wraps(remove_item)
        def delete(table: Any, pk: Any, sk: Any) -> Any:
            removed = remove_item(table, pk, sk)
            if removed is not None:
                storage.delete(self._items_of(table), _item_key(pk, sk))
            return removed

        @functools.wraps(items_replaced)
        def replace(table: Any) -> None:
            items_replaced(table)
            self._write_items(table)

        @functools.wraps(store_token)
        def remember(token: str, entry: Any) -> None:
            store_token(token, entry)
            key = repr(dynamodb._txn_idempotency._scoped(token))
            storage.put(_TOKENS, key, _encoded(entry))
            now = entry["completed_at"]
            self._tokens.append((now, key))
            while now - self._tokens[0][0] >= dynamodb._TXN_TOKEN_TTL:
                completed_at, old = self._tokens.popleft()
                kept = dynamodb._txn_idempotency._data.get(ast.literal_eval(old))
                if kept is None or kept["completed_at"] == completed_at:  # otherwise the token was used again
                    storage.delete(_TOKENS, old)

        dynamodb._set_item, dynamodb._remove_item, dynamodb._items_replaced = put, delete, replace
        dynamodb._txn_token_store = remember

    def _wrap_objects(self) -> None:
        s3 = self._s3
        s3.S3_PERSIST = True
        read_elsewhere = s3._read_body

        def read_body(bucket: str, key: str, record: Any) -> Any:
            if record.get("body") is not None or "body_file" not in record:
                return read_elsewhere(bucket, key, record)
            return self._storage.read_body(record["body_file"])

        def persist_delete_marker(bucket: str, key: str, marker: Any) -> None:
            meta = {
                "is_delete_marker": True,
                "version_id": marker.get("version_id"),
                "last_modified": marker.get("last_modified", ""),
                **s3._key_history_meta(bucket, key),
            }
            self._storage.put(OBJECT_ROWS, self._object_key(bucket, key), self._encoded(meta))

        s3._read_body = read_body
        s3._persist_object = self._write_object
        s3._persist_delete_marker = persist_delete_marker
        s3._delete_persisted_object = self._delete_object
        # The record of a bucket is removed with its store, and the bucket has no objects.
        s3._delete_persisted_bucket = lambda _name: None

    def _object_key(self, bucket: str, key: str) -> str:
        return json.dumps([self._responses.get_account_id(), bucket, key])

    def _write_object(self, bucket: str, key: str, record: Any) -> None:
        row = self._object_key(bucket, key)
        before = self._bodies.get(row)
        if record.get("body") is not None:
            record["body_file"] = self._storage.write_body(record["body"])
        elif "body_file" not in record:  # rebuilt from its entry in the version history
            record["body_file"] = before
        if before is not None and before != record["body_file"]:
            self._storage.discard_body(before)
        self._bodies[row] = record["body_file"]
        meta = {
            "record": {name: value for name, value in record.items() if name != "body"},
            **self._s3._key_history_meta(bucket, key),
        }
        self._storage.put(OBJECT_ROWS, row, self._encoded(meta))
        record["body"] = None

    def _delete_object(self, bucket: str, key: str) -> None:
        row = self._object_key(bucket, key)
        self._storage.delete(OBJECT_ROWS, row)
        if (name := self._bodies.pop(row, None)) is not None:
            self._storage.discard_body(name)

    # ---- what is small -----------------------------------------------------------------------------------------

    def _small_stores(self, name: str) -> Iterator[tuple[str, Any]]:
        """Yield the stores of a service by the names under which the service itself saves them."""
        module = self._modules[name]
        for key in module.get_state():
            if name == "s3":
                yield key, module._buckets if key == "buckets_meta" else module._PERSISTED_BUCKET_DICTS[key]
            else:
                yield key, getattr(module, key if key.startswith("_") else f"_{key}")

    def _wrap_requests(self) -> None:
        for name, module in self._modules.items():
            module.handle_request = self._noticing(name, module.handle_request)

    def _noticing(self, name: str, handle: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(handle)
        async def handle_request(method: str, path: str, headers: Any, *rest: Any, **more: Any) -> Any:
            answer = await handle(method, path, headers, *rest, **more)
            if self._changes_more_than_rows(name, method, path, headers):
                await self._notice(name)
            return answer

        return handle_request

    def _changes_more_than_rows(self, name: str, method: str, path: str, headers: Any) -> bool:
        if name == "dynamodb":
            return headers.get("x-amz-target", "").rpartition(".")[2] not in _ITEM_OPERATIONS
        if name == "s3":
            return method not in {"GET", "HEAD"} and not self._s3._parse_bucket_key(path, headers)[1]
        return name != "sts"

    async def _notice(self, name: str) -> None:
        """Write the state that a request to the service may have changed.

        Requests to CloudFormation are answered while a deployment is in progress, because clients poll for its end;
        requests to other services wait for that end.
        """
        if name == "cloudformation":
            if not self._deploying():
                for each in SERVICES:
                    self._write_small(each)
                self._write_messages()
            return
        while self._deploying():  # noqa: ASYNC110 - it sets no event
            await asyncio.sleep(_POLL_SECONDS)
        self._write_small(name)
        if name in {"sns", "sqs"}:
            self._write_small("sqs")
            self._write_messages()
        if name in {"ses", "ses_v2"}:
            self._write_small("ses")
            self._write_mails()

    def _deploying(self) -> bool:
        stacks = self._modules["cloudformation"]._stacks
        return any(
            status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS"
            for status in (stack.get("StackStatus", "") for stack in stacks.all_values())
        )

    def _write_small(self, name: str) -> None:
        for key, store in self._stores[name].items():
            place = f"{name}.{key}"
            there = {repr(scoped): self._encoded(_without_large(place, value)) for scoped, value in store._data.items()}
            for scoped in [scoped for at, scoped in self._written if at == place and scoped not in there]:
                removed = self._written.pop((place, scoped))
                self._storage.delete(place, scoped)
                if place == "dynamodb.tables":
                    self._storage.clear(self._items_of(json.loads(removed)))
            for scoped, value in there.items():
                before = self._written.get((place, scoped))
                if before == value:
                    continue
                if before is not None and place == "dynamodb.tables":
                    replaced = json.loads(before)
                    if replaced["TableId"] != json.loads(value)["TableId"]:
                        self._storage.clear(self._items_of(replaced))
                self._storage.put(place, scoped, value)
                self._written[place, scoped] = value

    def _write_messages(self) -> None:
        self._sqs._queues._data.adopt()
        queues = {repr(scoped): queue for scoped, queue in self._sqs._queues._data.items()}
        for gone in self._messages.keys() - queues.keys():
            for identifier in self._messages.pop(gone):
                self._storage.delete(_MESSAGES, json.dumps([gone, identifier]))
        for queue_key, queue in queues.items():
            change, written = queue.change(), self._messages.setdefault(queue_key, set())
            for identifier in change.removed:
                self._storage.delete(_MESSAGES, json.dumps([queue_key, identifier]))
            for identifier, message in change.written.items():
                self._storage.put(_MESSAGES, json.dumps([queue_key, identifier]), self._encoded(message))
            written.update(change.written)
            written.difference_update(change.removed)

    def _write_mails(self) -> None:
        for scoped, sent in self._ses._sent_emails._data.items():
            scope = repr(scoped)
            number, in_memory = self._mails.get(scope, (0, 0))
            for mail in sent[in_memory:]:
                self._storage.put(_MAILS, json.dumps([scope, number]), self._encoded(mail))
                if number >= MAX_KEPT_MAILS:
                    self._storage.delete(_MAILS, json.dumps([scope, number - MAX_KEPT_MAILS]))
                number += 1
            self._mails[scope] = number, len(sent)

    # ---- rows as bytes -----------------------------------------------------------------------------------------

    def _encoded(self, value: Any) -> bytes:
        return json.dumps(value, default=self._persistence._json_default, separators=(",", ":")).encode()

    def _decoded(self, value: bytes) -> Any:
        return json.loads(value, object_hook=self._persistence._json_object_hook)


class _Sessions(dict[str, Any]):
    """The emulator's dictionary of valid temporary credentials; each change of it is written to the storage."""

    def __init__(self, sessions: Mapping[str, Any], storage: Storage) -> None:
        super().__init__(sessions)
        self._storage = storage

    def __setitem__(self, key: str, session: Any) -> None:
        super().__setitem__(key, session)
        self._storage.put(_SESSIONS, key, _encoded(session))

    def pop(self, key: str, *default: Any) -> Any:
        if key in self:
            self._storage.delete(_SESSIONS, key)
        return super().pop(key, *default)


def _encoded(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _item_key(pk: Any, sk: Any) -> str:
    return json.dumps([pk, sk], default=repr)


def _without_large(place: str, value: Any) -> Any:
    if (large := _LARGE.get(place)) is None:
        return value
    return {name: part for name, part in value.items() if name not in large}
