"""A second emulator of AWS beside the embedded one: moto, which cannot deploy our templates and copies tables."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stack.embedded_aws import Aws, AwsCredentials


@contextmanager
def moto_server() -> Iterator[Aws]:
    """Serve moto on a free port while the block lasts; yield it with credentials, of which moto takes any."""
    # Loading moto takes long, also for tests that do without it.
    from moto.dynamodb.responses import DynamoHandler
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # moto would log each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with _one_at_a_time(DynamoHandler):
        server.start()
        try:
            host, port = server.get_host_and_port()
            yield Aws(f"http://{host}:{port}", AwsCredentials("testing", "testing"))
        finally:
            server.stop()


@contextmanager
def _one_at_a_time(handler: Any) -> Iterator[None]:
    """Carry out the requests of DynamoDB one after the other: moto checks a condition and writes without a lock, and
    would carry out two writes of which one must fail.
    """
    lock, call = threading.Lock(), handler.call_action

    def locked(self: Any) -> Any:
        with lock:
            return call(self)

    handler.call_action = locked
    try:
        yield
    finally:
        handler.call_action = call


async def copy_table(name: str, *, source: Aws, target: Aws) -> None:
    """Make the empty table `name` in `target` with the keys and indexes that it has in `source`."""
    async with source.client("dynamodb") as made, target.client("dynamodb") as to_make:
        table = (await made.describe_table(TableName=name))["Table"]
        indexes = [
            {key: index[key] for key in ("IndexName", "KeySchema", "Projection")}
            for index in table.get("GlobalSecondaryIndexes", ())
        ]
        await to_make.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            **{key: table[key] for key in ("AttributeDefinitions", "KeySchema")},
            **({"GlobalSecondaryIndexes": indexes} if indexes else {}),
        )
