"""Channels that find new proxies and notice a dead one.

A gRPC channel keeps its connection for as long as it lives. A proxy that was added later would get none of its calls,
and a peer that vanishes without a word would hold them until they time out.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

# Proxies come and go within minutes, and a new connection costs a few milliseconds.
MAX_AGE_S = 300.0
# Of the age, so that clients that started together do not connect together ever after.
_JITTER = 0.1
ARGUMENTS: list[tuple[str, Any]] = [
    # By default, gRPC waits up to two minutes between attempts to connect and fails calls meanwhile, even if the server
    # is back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Despite its name, the time for an attempt to connect.
    ("grpc.min_reconnect_backoff_ms", 5000),
    # A ping after so much silence during a call. sam3-serve makes Triton accept these; another Triton closes the
    # connection at the fourth ping during one call, after two minutes. The first timeout is for data that the peer's
    # kernel does not acknowledge, and in older gRPC for the ping's answer; the second is for that since.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Otherwise a new channel shares the connection of the one that it replaces.
    ("grpc.use_local_subchannel_pool", 1),
    # tritonclient drops its own arguments if it is given any.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
]


class Renewing:
    """A gRPC client of tritonclient that is replaced by a new one after some minutes. Threads can share it.

    Calls in flight keep the old one, and the last of them closes it.

    Attributes:
        current: the newest client, or None before the first call.
    """

    def __init__(self, create: Callable[[], Any]) -> None:
        """
        Args:
            create: creates a client.
        """
        self._create = create
        self._lock = threading.Lock()
        self.current: Any = None
        self._expires = 0.0

    def client(self) -> Any:
        """Returns the client to use for one call."""
        with self._lock:
            if time.monotonic() >= self._expires:
                self.current = self._create()
                self._expires = time.monotonic() + MAX_AGE_S * random.uniform(1 - _JITTER, 1 + _JITTER)
            return self.current
