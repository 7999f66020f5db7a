"""Metrics of the gateway. A label contains a route of the gateway, never the requested path."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from runtime.metrics import SECONDS

REQUESTS: Final = Counter("syncline_http_requests", "Requests by route and status.", ["route", "status"])
REQUEST_SECONDS: Final = Histogram(
    "syncline_http_seconds",
    "Duration of requests in seconds, until the last byte was sent.",
    ["route"],
    buckets=SECONDS,
)
BYTES: Final = Counter("syncline_http_bytes_sent", "Bytes of bodies sent.", ["route"])
BROKEN: Final = Counter("syncline_http_broken_off", "Responses that ended before they were complete.", ["route"])
UNANSWERED: Final = Counter(
    "syncline_http_unanswered",
    "Refused requests whose connection was closed without an answer; they also count as requests with the status 429.",
)
CONTENT_MEMORY: Final = Gauge("syncline_content_memory_bytes", "Memory that downloads use, in bytes.")
CONNECTIONS: Final = Gauge("syncline_connections", "Number of open connections.")
