"""A second emulator of AWS beside the embedded one: moto, which cannot deploy our templates and copies tables."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from stack.embedded_aws import Aws, AwsCredentials


@contextmanager
def moto_server() -> Iterator[Aws]:
    """Serve moto on a free port while the block lasts; yield it with credentials, of which moto takes any."""
    from moto.server import ThreadedMotoServer  # loading it takes long, also for tests that do without

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # moto would log each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield Aws(f"http://{host}:{port}", AwsCredentials("testing", "testing"))
    finally:
        server.stop()


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
