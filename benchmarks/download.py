"""Download of a 1 GiB file through the gateway on one core, compared with nginx proxying one object of that size from
the same S3.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import boto3  # type: ignore[import-untyped]
import psutil
from botocore.client import Config

from benchmarks.machine import GIB, MIB, BenchmarkDevice, large_file
from benchmarks.report import ReportTable, mib
from benchmarks.scale import sized
from stack.running import running_stack
from stack.up import Stack
from tests.support.passwords import STRONG

SIZE = sized(GIB, short=16 * MIB)
ROUNDS = sized(3, short=1)
AT_ONCE = 4
EMAIL = "download@example.com"
SPACE = "Downloads"

_NGINX = """
worker_processes 1;
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://{upstream};
      proxy_http_version 1.1;
      proxy_set_header Host {upstream};
      proxy_buffers 16 256k;
      proxy_buffer_size 256k;
      proxy_busy_buffers_size 512k;
      proxy_max_temp_file_size 0;
    }}
  }}
}}
"""


@dataclass
class Server:
    """A server from which the file is downloaded, and the measured speeds of the downloads from it."""

    processes: list[psutil.Process]
    fetch: Callable[[], None]
    rates: list[float] = field(default_factory=list)
    """Speeds in bytes per second, one value for each download."""
    seconds: list[float] = field(default_factory=list)
    """CPU seconds of the server per GiB, one value for each download."""

    @property
    def best(self) -> float:
        return max(self.rates)

    def measure(self) -> None:
        """Download the file once, and record the speed of the download and the CPU seconds of the server."""
        used, began = self._used(), time.perf_counter()
        self.fetch()
        self.rates.append(SIZE / (time.perf_counter() - began))
        self.seconds.append((self._used() - used) * GIB / SIZE)

    def _used(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self.processes)


def main() -> None:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as temporary, running_stack() as stack:
        scratch = Path(temporary)
        source = scratch / "source"
        large_file(source, SIZE)
        device = BenchmarkDevice(scratch / "home", source)
        device.sign("signup", stack.endpoint, EMAIL)
        device.create_space(SPACE)
        device.sync(SPACE)
        target, headers = _address(stack)
        gateway = psutil.Process(stack.pids["gateway"])
        at_rest = gateway.memory_info().rss
        others = [psutil.Process(stack.pids[name]) for name in stack.pids if name != "gateway"]
        for process in others:
            process.cpu_affinity(cores[1:] or cores)
        gateway.cpu_affinity(cores[:1])
        os.sched_setaffinity(0, cores[1:] or cores)
        with _proxy(nginx, stack, source / "large.bin", scratch, cores[:1]) as proxied:
            servers = {"gateway": Server([gateway], lambda: _fetch(stack.endpoint, target, headers))}
            if proxied is not None:
                servers["nginx"] = proxied
            for server in servers.values():
                server.fetch()
            for _ in range(ROUNDS):  # alternately, because the capacity of the machine varies
                for server in servers.values():
                    server.measure()
        table = ReportTable("MiB/s", *(f"{n + 1}." for n in range(ROUNDS)), "of nginx", "CPU seconds per GiB")
        for name, server in servers.items():
            ratio = f"{server.best / servers['nginx'].best:.2f}x" if "nginx" in servers else "-"
            table.row(name, mib(server.best), *map(mib, server.rates), ratio, f"{min(server.seconds):.2f}")
        table.print(f"Download of {SIZE // MIB} MiB, the server on one core")
        if nginx is None:
            print("  nginx is not installed: there is nothing to compare with\n")
        _memory(stack, gateway, at_rest, target, headers)


def _memory(stack: Stack, gateway: psutil.Process, at_rest: int, target: str, headers: dict[str, str]) -> None:
    most = 0
    threads = [threading.Thread(target=_fetch, args=(stack.endpoint, target, headers)) for _ in range(AT_ONCE)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        most = max(most, gateway.memory_info().rss)
        time.sleep(0.02)
    seconds = time.perf_counter() - began
    table = ReportTable("before all, MiB", "at most, MiB", "grown by", "MiB/s in all")
    table.row("gateway", mib(at_rest), mib(most), mib(most - at_rest), mib(AT_ONCE * SIZE / seconds))
    table.print(f"{AT_ONCE} such downloads at once")


def _address(stack: Stack) -> tuple[str, dict[str, str]]:
    """Return the address of the file, and the headers of its owner."""
    connection = http.client.HTTPConnection(urlsplit(stack.endpoint).netloc)
    body = f'{{"email": "{EMAIL}", "password": "{STRONG}", "device_name": "bench"}}'
    connection.request("POST", "/v1/sessions", body, {"content-type": "application/json"})
    answer = connection.getresponse().read().decode()
    token = answer.partition('"access_token":"')[2].partition('"')[0]
    headers = {"authorization": f"Bearer {token}"}
    connection.request("GET", "/v1/spaces", headers=headers)
    spaces = connection.getresponse().read().decode()
    (space,) = [part.split('"')[3] for part in spaces.split("{") if f'"{SPACE}"' in part]
    connection.close()
    return f"/v1/spaces/{space}/content/large.bin", headers


def _fetch(endpoint: str, target: str, headers: dict[str, str]) -> None:
    """Read the whole answer and discard it."""
    connection = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=120)
    connection.request("GET", target, headers=headers)
    answer = connection.getresponse()
    buffer, size = memoryview(bytearray(MIB)), 0
    while count := answer.readinto(buffer):
        size += count
    connection.close()
    if answer.status != 200 or size != SIZE:
        raise RuntimeError(f"{target} answered {answer.status} and {size} bytes")


@contextmanager
def _proxy(nginx: str | None, stack: Stack, file: Path, scratch: Path, cores: list[int]) -> Iterator[Server | None]:
    """Provide nginx in front of the emulator, with the file as one object."""
    if nginx is None:
        yield None
        return
    root = stack.aws.root
    s3 = boto3.client(
        "s3",
        endpoint_url=stack.aws.endpoint,
        region_name=stack.aws.region,
        aws_access_key_id=root.access_key_id,
        aws_secret_access_key=root.secret_access_key,
        config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
    )
    bucket, key = stack.resources.bucket_name, "benchmark"
    data = file.read_bytes()
    sha256 = base64.b64encode(hashlib.sha256(data).digest()).decode()
    s3.put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*", ChecksumSHA256=sha256)
    del data
    address = urlsplit(s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key}))
    port = stack.ports.aws + 1
    (scratch / "nginx.conf").write_text(_NGINX.format(folder=scratch, port=port, upstream=address.netloc))
    with subprocess.Popen([nginx, "-c", str(scratch / "nginx.conf"), "-p", str(scratch)]) as server:
        psutil.Process(server.pid).cpu_affinity(cores)
        time.sleep(0.5)
        workers = psutil.Process(server.pid).children()
        for worker in workers:
            worker.cpu_affinity(cores)
        try:
            yield Server(workers, lambda: _fetch(f"http://127.0.0.1:{port}", f"{address.path}?{address.query}", {}))
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
