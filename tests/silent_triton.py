"""A server with Triton's gRPC protocol that never answers an inference."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from tritonclient.grpc import service_pb2_grpc


class SilentTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Counts received and cancelled calls. No working server can be kept silent this reliably."""

    def __init__(self) -> None:
        self.came = 0
        self.cancelled = 0

    async def ModelInfer(self, request, context):  # noqa: N802  the protocol's name
        self.came += 1
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def wait_for(self, came: int, cancelled: int) -> None:
        deadline = time.monotonic() + 30
        while (self.came, self.cancelled) != (came, cancelled):
            assert time.monotonic() < deadline, f"{self.came} calls came, {self.cancelled} were cancelled"
            time.sleep(0.01)


@contextmanager
def silent_triton() -> Iterator[tuple[SilentTriton, str]]:
    """Runs a `SilentTriton` in its own thread and event loop; yields it and its address."""
    triton = SilentTriton()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> tuple[grpc.aio.Server, int]:
        server = grpc.aio.server()
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(triton, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        return server, port

    server, port = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
    try:
        yield triton, f"127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(None), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
