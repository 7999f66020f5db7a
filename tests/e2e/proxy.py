"""A TCP proxy that counts what passes, and breaks connections when it is told to; and an endpoint that names it."""

from __future__ import annotations

import json
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from tests.support.http import serving

CHUNK = 1 << 16
SLOW_DOWN = b"HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Proxy:
    """Passes connections on to `host:port`. `fault`, asked for each chunk that a client sends, may break it."""

    def __init__(self, target: str, fault: Callable[[], str | None] = lambda: None) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._fault = fault
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.bytes = 0
        self.faults = 0
        self._refusing = False
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def refuse(self, refusing: bool = True) -> None:
        """Break all connections, and end new ones at once; or no more."""
        self._refusing = refusing
        with self._lock:
            broken = list(self._open) if refusing else []
        for end in broken:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Refuse connections from now on. Closing alone would leave the thread that accepts one more of them."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            with self._lock:
                self._open |= {client, server}
            if self._refusing:
                self.refuse()
            threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, from_client: bool) -> None:
        try:
            while data := source.recv(CHUNK):
                fault = self._fault() if from_client else None
                if fault is not None:
                    self.faults += 1
                    if fault == "503":
                        source.sendall(SLOW_DOWN)
                    break
                with self._lock:
                    self.bytes += len(data)
                sink.sendall(data)
        except OSError:
            pass
        finally:
            with self._lock:
                self._open -= {source, sink}
            for end in (source, sink):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()


@contextmanager
def behind_proxies(
    endpoint: str, fault: Callable[[], str | None] = lambda: None
) -> Iterator[tuple[str, dict[str, Proxy]]]:
    """An endpoint like `endpoint` whose services and storage are behind proxies; only storage has faults."""
    with urllib.request.urlopen(f"{endpoint}/.well-known/syncline") as answer:
        deployment: dict[str, Any] = json.load(answer)
    with ExitStack() as opened:
        proxies = {name: Proxy(deployment[name]["target"]) for name in ("auth", "metadata", "notify")}
        proxies["s3"] = Proxy(deployment["s3"]["endpoint"].removeprefix("http://"), fault)
        for name, proxy in proxies.items():
            opened.callback(proxy.close)
            if name == "s3":
                deployment["s3"]["endpoint"] = f"http://{proxy.address}"
            else:
                deployment[name]["target"] = proxy.address
        yield opened.enter_context(serving(lambda _: (200, json.dumps(deployment).encode()))), proxies
