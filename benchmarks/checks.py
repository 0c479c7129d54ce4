"""What the project promises of these figures, and whether they keep it."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import loads
from benchmarks.figures import Row
from benchmarks.local import CALLERS, LAST_IMAGE_BASELINE, PLAIN_BASELINE
from benchmarks.results import Results

# The demonstration network is so small that hops between processes weigh more than at full size.
DEMO_FACTOR, DEMO_MORE_MS = 2.0, 6.0
FULL_SIZE_FACTOR = 1.25
SECOND_CLICK_FACTOR = 100.0
THROUGHPUT_FACTOR = 3.0
AGREEMENT = 0.10


@dataclass(frozen=True)
class Check:
    """A ratio, the bound that it must keep, in words, and whether it does."""

    claim: str
    measured: str
    bound: str
    holds: bool


def checks(results: Results) -> list[Check]:
    """Those that this run has the figures for."""
    found = [
        _warm_click(results),
        _second_click(results),
        *_against_last_image(results),
        *_throughput(results),
        _encodes(results),
        _agreement(results),
    ]
    return [check for check in found if check is not None]


def _warm_click(results: Results) -> Check | None:
    limit = results.find("limit", loads.WARM_BY_ID, loads.PLAIN)
    ours = results.find("sam3", loads.WARM_BY_ID, loads.CLIENT)
    if limit is None or ours is None:
        return None
    bound_ms = FULL_SIZE_FACTOR * limit.latency.median_ms
    bound = f"at most x {FULL_SIZE_FACTOR}"
    if not results.full_size:
        bound_ms = max(DEMO_FACTOR * limit.latency.median_ms, limit.latency.median_ms + DEMO_MORE_MS)
        bound = f"at most x {DEMO_FACTOR:.1f}, or {DEMO_MORE_MS:.0f} ms more, whichever is larger: {bound_ms:.1f} ms"
    measured = f"x {_ratio(ours, limit):.2f} ({ours.latency.median_ms:.1f} ms against {limit.latency.median_ms:.1f} ms)"
    return Check("a warm click by id over gRPC, against the limit", measured, bound, ours.latency.median_ms <= bound_ms)


def _second_click(results: Results) -> Check | None:
    plain = results.find(PLAIN_BASELINE, loads.WARM_BY_BYTES, loads.UPLOADS)
    ours = results.find("sam3", loads.WARM_BY_ID, loads.CLIENT)
    if plain is None or ours is None:
        return None
    times = _ratio(plain, ours)
    claim = "the second click, against a FastAPI service that encodes each time"
    if not results.full_size:  # the promise is about the full-size encoder
        return None
    return Check(
        claim, f"{times:.0f} times faster", f"at least {SECOND_CLICK_FACTOR:.0f} times", times >= SECOND_CLICK_FACTOR
    )


def _against_last_image(results: Results) -> list[Check]:
    last = results.find(LAST_IMAGE_BASELINE, loads.WARM_BY_BYTES, loads.UPLOADS)
    found = []
    for name, ours in (
        ("by id over gRPC", results.find("sam3", loads.WARM_BY_ID, loads.CLIENT)),
        ("through the gateway", results.find("gateway", loads.WARM_BY_BYTES, loads.UPLOADS)),
    ):
        if last and ours:
            ratio = _ratio(ours, last)
            claim = f"the second click {name}, against FastAPI that keeps the last image, one caller"
            found.append(Check(claim, f"x {ratio:.2f}", "at most x 1", ratio <= 1))
    return found


def _throughput(results: Results) -> list[Check]:
    last = results.find(LAST_IMAGE_BASELINE, loads.WARM_BY_BYTES, loads.UPLOADS, concurrency=CALLERS)
    found = []
    for name, ours in (
        ("over gRPC", results.find("sam3", loads.WARM_BY_BYTES, loads.PERF, "gRPC", CALLERS)),
        ("through the gateway", results.find("gateway", loads.WARM_BY_BYTES, loads.UPLOADS, concurrency=CALLERS)),
    ):
        if last and ours:
            times = ours.latency.throughput / last.latency.throughput
            claim = f"throughput {name} with {CALLERS} callers on {CALLERS} images, against the same"
            found.append(
                Check(
                    claim, f"{times:.1f} times", f"at least {THROUGHPUT_FACTOR:.0f} times", times >= THROUGHPUT_FACTOR
                )
            )
    return found


def _encodes(results: Results) -> Check:
    ours = [row for row in results.rows if row.system in ("sam3", "gateway")]
    other = [row for row in ours if row.encoder_runs != row.distinct_images]
    measured = f"1 in {len(ours) - len(other)} of {len(ours)} rows"
    if other:
        measured += "; " + ", ".join(f"{row.encodes_per_image:.2f} in {row.scenario}, {row.way}" for row in other)
    return Check("encoder runs per distinct image", measured, "exactly 1", not other)


def _agreement(results: Results) -> Check | None:
    perf = results.find("sam3", loads.WARM_BY_ID, loads.PERF, "gRPC")
    client = results.find("sam3", loads.WARM_BY_ID, loads.PREPARED)
    if perf is None or client is None:
        return None
    ratio = _ratio(perf, client)
    claim = "perf_analyzer's median of a warm click by id over gRPC, against the project's own of the same requests"
    return Check(claim, f"x {ratio:.2f}", f"within {AGREEMENT:.0%}", abs(ratio - 1) <= AGREEMENT)


def _ratio(one: Row, other: Row) -> float:
    return one.latency.median_ms / other.latency.median_ms
