"""The loads of the comparison on a server that runs elsewhere."""

from __future__ import annotations

from benchmarks.results import Results, about_here
from benchmarks.scenarios import Amount, Bench, Target
from benchmarks.services import Service


def measure_remote(grpc_url: str, http_url: str | None, gateway_url: str | None, amount: Amount) -> Results:
    """All that can be measured from outside; the machine in the results is the one that sends."""
    gateway = Service(gateway_url.rstrip("/")) if gateway_url else None
    bench = Bench(f"Benchmarks of {grpc_url}", Target(grpc_url, http_url, gateway), amount)
    bench.results.about = {f"caller's {name}": value for name, value in about_here().items()} | bench.results.about
    bench.add(bench.single_clicks(), amount.rounds)
    bench.concurrent_clicks()
    bench.open_loop()
    bench.cold()
    bench.click_trace(bench.system, grpc_url)
    return bench.results
