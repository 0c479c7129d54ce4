"""What a supervisor knows of its server, for proxies and Kubernetes: `/health/ready` and `/health/live`."""

from __future__ import annotations

import json
from collections.abc import Callable

from sam3_server.endpoint import Endpoint, Reply

READY, STARTING, RESTARTING, DRAINING, UNRESPONSIVE = "ready", "starting", "restarting", "draining", "unresponsive"


class Health:
    """The state of a supervised server: its status, and the reason if that is not `READY`."""

    def __init__(self) -> None:
        self._state = (STARTING, "the server is loading its models")

    def report(self, status: str, reason: str = "") -> None:
        """Sets the state. `DRAINING` is final."""
        if self._state[0] != DRAINING:
            self._state = (status, reason)

    def ready(self) -> dict[str, str]:
        """The answer of `/health/ready`."""
        status, reason = self._state
        return {"status": status, "reason": reason} if reason else {"status": status}


def health_endpoint(address: str, port: int, ready: Callable[[], dict]) -> Endpoint:
    """An endpoint with `/health/ready`, which is 200 or 503, and `/health/live`, which is 200.

    Args:
        ready: the answer of `/health/ready`; it has a `status`.
    """

    def ready_reply() -> Reply:
        state = ready()
        return _reply(200 if state["status"] == READY else 503, state)

    routes = {"/health/ready": ready_reply, "/health/live": lambda: _reply(200, {"status": "live"})}
    return Endpoint(address, port, routes)


def _reply(status: int, document: dict) -> Reply:
    return Reply(status, "application/json", json.dumps(document).encode())
