"""Metrics of calls and of AWS, and the HTTP listener that Prometheus scrapes.

A module that counts something defines its instruments in a `metrics.py` beside its code. Labels come from bounded sets:
methods, codes, verdicts. A user's path, name, address or id is never a label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics, start_http_server

from runtime.listening import split_address
from runtime.logs import structlog

_disable: Callable[[], None] = disable_created_metrics
_disable()  # creation timestamps would double the number of series

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the duration buckets, in seconds."""

RPCS: Final = Counter(
    "syncline_rpcs", "Answered calls, by code; streams are counted when they end.", ["method", "code"]
)
RPC_SECONDS: Final = Histogram(
    "syncline_rpc_seconds", "Duration of unary calls in seconds.", ["method"], buckets=SECONDS
)
OPEN_STREAMS: Final = Gauge("syncline_open_streams", "Number of open streams.", ["method"])

AWS_CALLS: Final = Counter(
    "syncline_aws_calls", "Calls to AWS, by outcome; retries are not counted.", ["service", "operation", "outcome"]
)
AWS_SECONDS: Final = Histogram(
    "syncline_aws_seconds",
    "Duration of calls to AWS in seconds, including retries.",
    ["service", "operation"],
    buckets=SECONDS,
)
AWS_THROTTLES: Final = Counter(
    "syncline_aws_throttles", "Throttled answers of AWS, including those to retries.", ["service"]
)
DYNAMODB_UNITS: Final = Counter("syncline_dynamodb_units", "Consumed capacity units of DynamoDB.", ["operation"])

log = structlog.get_logger()


@contextmanager
def exposed(address: str) -> Iterator[None]:
    """Context manager within which a thread serves `/metrics` on `address` (host:port). If `address` is empty, nothing
    is served. Raise OSError if the address is taken.
    """
    if not address:
        yield
        return
    host, port = split_address(address)
    try:
        server, thread = start_http_server(port, host.strip("[]"))
    except OSError as error:
        raise OSError(f"cannot serve metrics at {address}: {error.strerror}") from None
    log.info("metrics", host=host, port=server.server_port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
