"""`python -m bench.swarm.bare`: the least that a grpc.aio server with mutual TLS can be, as the peer of the gateway.

It serves one method with streams both ways, and keeps nothing of its own per stream. The first line of its standard input
is JSON: key, chain, roots, and the port, 0 for any; it prints its port. Each further line is a message in hexadecimal,
which it writes to all streams.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-RSA-AES128-GCM-SHA256"

import grpc
from grpc import aio

_streams: set[Any] = set()


async def _session(_requests: Any, context: Any) -> None:
    while (await context.read()) is not aio.EOF:
        await context.write(b"")
        _streams.add(context)
    _streams.discard(context)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=2**20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    identity = json.loads(await reader.readline())
    # Without the limits gRPC drops calls by the dice when more than a thousand come at once.
    limits = ("grpc.server.max_pending_requests", "grpc.server.max_pending_requests_hard_limit")
    # The streams' pings are no abuse.
    pings = ("grpc.http2.min_ping_interval_without_data_ms", 10_000)
    server = aio.server(options=[("grpc.so_reuseport", 0), pings, *((name, 100_000) for name in limits)])
    handler = grpc.stream_stream_rpc_method_handler(_session)
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("streamswarm.v1.Gateway", {"Session": handler})]
    )
    credentials = grpc.ssl_server_credentials(
        [(identity["key"].encode(), identity["chain"].encode())], identity["ca"].encode(), True
    )
    port = server.add_secure_port(f"127.0.0.1:{identity['port']}", credentials)
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    while line := await reader.readline():
        message = bytes.fromhex(line.decode())
        await asyncio.gather(*(stream.write(message) for stream in list(_streams)))


if __name__ == "__main__":
    asyncio.run(_serve())
