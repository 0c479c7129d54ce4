"""Starts, watches and stops several replicas and the proxy in front of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import IO, Any

from sam3_server.endpoint import Endpoint, Reply
from sam3_server.errors import ServerError
from sam3_server.fleet import metrics
from sam3_server.fleet.keeper import Keeper, State
from sam3_server.fleet.replica import Placement, Replica, read
from sam3_server.health import DRAINING, READY, RESTARTING, Health, health_endpoint
from sam3_server.ports import LOOPBACK, Ports, check_free
from sam3_server.proxy import process
from sam3_server.proxy.config import STOP_TIMEOUT_S, fleet_config

_WATCH_EVERY_S = 0.2
# The proxy needs 1.5 s to notice that a replica drains.
_DRAIN_S = 2.0
_PROXY_PAUSE_S = 1.0
# A replica that fails twice while the fleet starts is not waited for.
_START_ATTEMPTS = 2
# A replica gives running requests 35 s (launcher.py).
_REPLICA_STOP_TIMEOUT_S = 45.0
_HURRIED_STOP_TIMEOUT_S = 10.0


class Fleet:
    """Running replicas behind a proxy, as a context manager."""

    def __init__(
        self,
        placements: Sequence[Placement],
        ports: Ports,
        health_port: int,
        address: str,
        arguments: Sequence[str],
        flags: Sequence[str],
        log: IO[str],
        say: Callable[[str], None],
    ) -> None:
        """
        Args:
            ports: of the proxy; that of the metrics serves those of all replicas.
            address: on which the proxy listens. The replicas listen on this machine only.
            arguments: of each replica's `sam3-serve`, besides the ports.
            flags: for each `tritonserver`.
            log: receives the output of all processes.
            say: called with one line for each event.
        """
        self._placements = placements
        self._ports = ports
        self._health_port = health_port
        self._address = address
        self._arguments = [*arguments, f"--drain-s={_DRAIN_S}"]
        self._flags = flags
        self._log = log
        self._say = say
        self._health = Health()
        self._keepers: list[Keeper] = []
        self._proxy: process.Proxy | None = None
        self._proxy_ended: float | None = None
        self._to_roll = False
        self._cleanup = ExitStack()

    def __enter__(self) -> Fleet:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def health(self) -> dict[str, Any]:
        """The fleet is ready if at least one replica is."""
        state: dict[str, Any] = self._health.ready()
        with ThreadPoolExecutor() as pool:
            replicas = list(pool.map(lambda keeper: keeper.replica.status(), self._keepers))
        if state["status"] == READY:
            if self._proxy_ended is not None:
                state = {"status": RESTARTING, "reason": "the proxy has ended"}
            elif not any(one["status"] == READY for one in replicas):
                state = {"status": RESTARTING, "reason": "no replica is ready"}
        return {**state, "replicas": replicas}

    def watch(self) -> None:
        """Keeps everything running; never returns."""
        while True:
            self._tend()
            if self._to_roll:
                self._to_roll = False
                self._roll()
            time.sleep(_WATCH_EVERY_S)

    def roll(self) -> None:
        """Has `watch` restart the replicas one after the other. A signal handler may call this."""
        self._to_roll = True

    def drain(self, seconds: float) -> None:
        """Reports for some seconds that the fleet drains, while it still serves."""
        self._health.report(DRAINING, "the fleet is about to stop")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._tend()
            time.sleep(_WATCH_EVERY_S)

    def stop(self) -> None:
        """Stops everything after running requests; a KeyboardInterrupt cuts them off."""
        self._health.report(DRAINING, "the fleet is stopping")
        try:
            self._stop(STOP_TIMEOUT_S + 5, _REPLICA_STOP_TIMEOUT_S)
        except KeyboardInterrupt:
            self._stop(0, _HURRIED_STOP_TIMEOUT_S)
        finally:
            if self._proxy:
                self._proxy.kill()
            for keeper in self._keepers:
                keeper.replica.clean_up()
            self._cleanup.close()

    def _start(self) -> None:
        binary = process.find()
        self._check_ports()
        self._cleanup.enter_context(health_endpoint(self._address, self._health_port, self.health))
        folder = Path(self._cleanup.enter_context(TemporaryDirectory(prefix="sam3-fleet-")))
        for placement in self._placements:
            replica = Replica(placement, folder / placement.name, self._arguments, self._flags, self._log)
            self._keepers.append(Keeper(replica, self._say))
        # The first one alone: it finds faults of the export, and fills caches on disk, such as TensorRT's engines.
        first, others = self._keepers[0], self._keepers[1:]
        self._start_replicas([first])
        if first.state is not State.SERVING:
            raise ServerError(f"{first.replica.placement.name}: {first.failures[-1]}")
        self._start_replicas(others)
        config, socket = folder / "fleet.cfg", folder / "proxy.sock"
        config.write_text(fleet_config(self._address, self._ports.http, self._ports.grpc, self._placements, socket))
        self._proxy = process.Proxy(binary, config, socket, self._log)
        routes = {"/metrics": self._metrics, "/metrics/proxy": self._proxy_metrics}
        self._cleanup.enter_context(Endpoint(self._address, self._ports.metrics, routes))
        self._proxy.start()
        while not self._proxy_has_found_all():
            if self._proxy.exit_code() is not None:
                raise ServerError("the proxy did not start; its messages are above")
            for keeper in self._keepers:
                keeper.tend()
            time.sleep(_WATCH_EVERY_S)
        self._health.report(READY)

    def _proxy_has_found_all(self) -> bool:
        """Whether the proxy uses all replicas that serve, and there are any. Others may still fail to start."""
        assert self._proxy is not None
        serving = [keeper.replica.placement.name for keeper in self._keepers if keeper.state is State.SERVING]
        return bool(serving) and all(map(self._proxy.has_up, serving))

    def _check_ports(self) -> None:
        public = {
            "http": self._ports.http,
            "grpc": self._ports.grpc,
            "metrics": self._ports.metrics,
            "health": self._health_port,
        }
        for name, port in public.items():
            check_free(self._address, port, f"choose another one with --{name}-port")
        taken = set(public.values())
        for placement in self._placements:
            ports = placement.ports
            for port in (ports.http, ports.grpc, ports.metrics, placement.health_port):
                advice = f"{placement.name} needs it: each replica's ports are 10 above those of the one before it"
                if port in taken:
                    raise ServerError(f"port {port} would be used twice; {advice}")
                taken.add(port)
                check_free(LOOPBACK, port, advice)

    def _start_replicas(self, keepers: Sequence[Keeper]) -> None:
        for keeper in keepers:
            place = keeper.replica.placement
            where = f" on GPU {place.gpu}" if place.gpu is not None else ""
            self._say(
                f"starting {place.name}{where}: gRPC {LOOPBACK}:{place.ports.grpc}, "
                f"HTTP {LOOPBACK}:{place.ports.http}, metrics http://{LOOPBACK}:{place.ports.metrics}/metrics, "
                f"health http://{LOOPBACK}:{place.health_port}/health/ready"
            )
            keeper.start()
        while any(one.state is not State.SERVING and len(one.failures) < _START_ATTEMPTS for one in keepers):
            for keeper in keepers:
                keeper.tend()
            time.sleep(_WATCH_EVERY_S)

    def _tend(self) -> None:
        for keeper in self._keepers:
            keeper.tend()
        assert self._proxy is not None
        code = self._proxy.exit_code()
        if code is None:
            self._proxy_ended = None
        elif self._proxy_ended is None:
            self._proxy_ended = time.monotonic()
            self._say(f"the proxy ended by itself with exit code {code}; starting it again")
            self._proxy.start()
        elif time.monotonic() > self._proxy_ended + _PROXY_PAUSE_S:
            self._proxy_ended = time.monotonic()
            self._proxy.start()

    def _roll(self) -> None:
        assert self._proxy is not None
        # Those that do not serve come first, so that no other one goes down meanwhile.
        for keeper in sorted(self._keepers, key=lambda one: one.state is State.SERVING):
            name = keeper.replica.placement.name
            others = [one.replica.placement.name for one in self._keepers if one is not keeper]
            while others and not any(self._proxy.has_up(other) for other in others):
                self._tend()
                time.sleep(_WATCH_EVERY_S)
            self._say(f"rolling restart: {name}")
            keeper.restart()
            while not (keeper.state is State.SERVING and self._proxy.has_up(name)):
                self._tend()
                if keeper.state is State.PAUSING:
                    self._say(f"rolling restart: stopped, because {name} does not start")
                    return
                time.sleep(_WATCH_EVERY_S)
        self._say("rolling restart: done")

    def _stop(self, proxy_timeout_s: float, replica_timeout_s: float) -> None:
        if self._proxy and self._proxy.exit_code() is None:
            self._proxy.stop()
            _wait(lambda: self._proxy is None or self._proxy.exit_code() is not None, proxy_timeout_s)
            self._proxy.kill()
        for keeper in self._keepers:
            keeper.replica.stop()
        _wait(lambda: all(keeper.replica.has_ended() for keeper in self._keepers), replica_timeout_s)

    def _metrics(self) -> Reply:
        with ThreadPoolExecutor() as pool:
            scrapes = pool.map(_scrape, (placement.ports.metrics for placement in self._placements))
        text = metrics.join(dict(zip((placement.number for placement in self._placements), scrapes, strict=True)))
        return _text(200, text)

    def _proxy_metrics(self) -> Reply:
        assert self._proxy is not None
        try:
            return _text(200, self._proxy.metrics())
        except OSError as error:
            return _text(503, f"{error}\n")


def placements(
    ports: Ports, health_port: int, gpus: Sequence[str | None], cores: Sequence[set[int]]
) -> list[Placement]:
    """Where replicas run, one for each element of `gpus`: each one's ports are 10 above those of the one before it.

    Args:
        ports: of the proxy; so also `health_port`.
        gpus: one for each replica, as in CUDA_VISIBLE_DEVICES; None: no change of that variable.
        cores: one set for each replica; empty: all.
    """
    found = []
    for number, (gpu, own_cores) in enumerate(zip(gpus, cores, strict=True)):
        step = 10 * (number + 1)
        own = Ports(ports.http + step, ports.grpc + step, ports.metrics + step)
        found.append(Placement(number, own, health_port + step, gpu, frozenset(own_cores)))
    return found


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)


def _scrape(port: int) -> str | None:
    try:
        return read(f"http://{LOOPBACK}:{port}/metrics").decode()
    except OSError:
        return None


def _text(status: int, text: str) -> Reply:
    return Reply(status, "text/plain; version=0.0.4; charset=utf-8", text.encode())
