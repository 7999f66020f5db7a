"""The trace of a sync through all processes, as a tree that shows where its time is spent. Also a small collector for
tests.
"""

from __future__ import annotations

import gzip
import os
import re
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from benchmarks.machine import MIB, BenchmarkDevice, large_file, small_files
from stack.running import running_stack

if TYPE_CHECKING:
    from types import TracebackType

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue

PATIENCE_SECONDS = 120.0
PACKAGES = re.compile(r"syncline\.\w+\.v1\.")


@dataclass(frozen=True, slots=True)
class CollectedSpan:
    """A span as a collector receives it. Missing ids are empty; times are in nanoseconds since 1970."""

    trace: str
    id: str
    parent: str
    name: str
    service: str
    began: int
    ended: int
    failed: bool
    links: tuple[str, ...]
    attributes: dict[str, str]


class Collector:
    """Context manager that receives spans by OTLP over HTTP until its end. `variables` are the environment variables by
    which a process sends its spans to this collector.
    """

    def __init__(self) -> None:
        self._spans: list[CollectedSpan] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self._spans))
        self._thread = threading.Thread(target=self._server.serve_forever, name="collector")
        self.variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def trace(self, root: str, *, until: Sequence[str]) -> list[CollectedSpan]:
        """Return the spans of the latest trace that begins with the span `root`, once it has spans of all the names in
        `until`. Raise TimeoutError if they do not arrive in time.
        """
        return self.until(lambda spans: _trace(spans, root, until))

    def until(self, found: Callable[[list[CollectedSpan]], list[CollectedSpan]]) -> list[CollectedSpan]:
        """Wait for spans: call `found` with all received spans until its result is not empty, and return that. Raise
        TimeoutError if that does not happen in time.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (spans := found(list(self._spans))):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not found among the spans {sorted({span.name for span in self._spans})}")
            time.sleep(0.05)
        return spans


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, spans: list[CollectedSpan], *arguments: object) -> None:
        self._taken = spans
        super().__init__(*arguments)  # type: ignore[arg-type]  # as the server passes them

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self._taken.extend(_spans(ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002, ARG002 - as the base has it
        return


def _spans(request: ExportTraceServiceRequest) -> Iterator[CollectedSpan]:
    for group in request.resource_spans:
        about = {item.key: _text(item.value) for item in group.resource.attributes}
        for scope in group.scope_spans:
            for span in scope.spans:
                yield CollectedSpan(
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.name,
                    about["service.name"],
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.status.code == Status.STATUS_CODE_ERROR,
                    tuple(link.span_id.hex() for link in span.links),
                    {item.key: _text(item.value) for item in span.attributes},
                )


def _text(value: AnyValue) -> str:
    return str(getattr(value, value.WhichOneof("value") or "string_value"))


def _trace(spans: Sequence[CollectedSpan], root: str, names: Sequence[str]) -> list[CollectedSpan]:
    """Return the latest trace that begins with `root`, if it has spans of these names, and the parent of each."""
    roots = [span for span in spans if span.name == root and not span.parent]
    found = [span for span in spans if roots and span.trace == roots[-1].trace]
    known = {span.id for span in found} | {""}
    is_whole = all(span.parent in known for span in found) and {span.name for span in found} >= set(names)
    return found if is_whole else []


def render(spans: Sequence[CollectedSpan]) -> str:
    """Return one trace as a tree: for each span its start and duration in milliseconds, its name and its process.

    Adjacent spans of one name without children share a line.
    """
    below: dict[str, list[CollectedSpan]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: span.began):
        below[span.parent].append(span)
    (root,) = below[""]
    lines = ["   begin     took"]

    def tell(together: Sequence[CollectedSpan], above: str, branch: str, indent: str) -> None:
        first, last = together[0], max(span.ended for span in together)
        count = f"{len(together)} x " if len(together) > 1 else ""
        process = "" if first.service == above else f"  [{first.service}]"
        failed = "  FAILED" if any(span.failed for span in together) else ""
        lines.append(
            f"{(first.began - root.began) / 1e6:8.1f} {(last - first.began) / 1e6:8.1f}  "
            f"{branch}{count}{PACKAGES.sub('', first.name)}{process}{failed}"
        )
        alike = groupby(below[first.id], key=lambda span: (span.name, span.id if below[span.id] else ""))
        groups = [list(group) for _, group in alike]
        for n, group in enumerate(groups):
            is_last = n == len(groups) - 1
            tell(group, first.service, indent + ("└─ " if is_last else "├─ "), indent + ("   " if is_last else "│  "))

    tell([root], "", "", "")
    return "\n".join(lines)


def main() -> None:
    """Trace a scenario: Ann puts a photo and some notes into a space that she shares with Ben, who is mailed."""
    with Collector() as collector, tempfile.TemporaryDirectory() as temporary:
        os.environ.update(collector.variables)
        try:
            with running_stack() as stack:
                ann, ben = (
                    BenchmarkDevice(Path(temporary) / name, Path(temporary) / f"{name}-files")
                    for name in ("ann", "ben")
                )
                ann.sign("signup", stack.endpoint, "ann@example.com")
                ben.sign("signup", stack.endpoint, "ben@example.com")
                ann.create_space("Project")
                ann.share("Project", "ben@example.com")
                large_file(ann.folder, 3 * MIB)
                small_files(ann.folder / "notes", 20)
                ann.sync("Project")
                spans = collector.trace("sync", until=["mail", "project"])
        finally:
            for name in collector.variables:
                del os.environ[name]
    print(f"\nThe trace of a first sync\n\n{render(spans)}\n")


if __name__ == "__main__":
    main()
