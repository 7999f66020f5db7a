"""`ready.py SERVICE PORT`: return when the service on this machine serves."""

from __future__ import annotations

import asyncio
import sys

from stack.probe import grpc_serving, http_ok

_POLL_SECONDS = 1.0


async def main(service: str, port: int) -> None:
    """Probe `service`, which listens on `port` of this machine, as the load balancer does, and return once the service
    reports that it serves.
    """
    while True:
        if service == "gateway":
            ready = await http_ok("127.0.0.1", port, "/readyz")
        else:
            ready = await grpc_serving(f"127.0.0.1:{port}")
        if ready:
            return
        await asyncio.sleep(_POLL_SECONDS)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
