"""The results of a run as Markdown: first whether the project keeps its promises, then ratios, then times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.clicks import DETECTIONS
from benchmarks.results import (
    CALLERS,
    GATEWAY,
    LAST_IMAGE_BASELINE,
    LIMIT,
    PLAIN_BASELINE,
    SAM3,
    Results,
    Row,
    Scenario,
    Tool,
)

# The demonstration network is so small that hops between processes weigh more than at full size.
DEMO_FACTOR, DEMO_MORE_MS = 2.0, 6.0
FULL_SIZE_FACTOR = 1.25
SECOND_CLICK_FACTOR = 100.0
THROUGHPUT_FACTOR = 3.0
BOXES_FACTOR = 3.0
AGREEMENT = 0.10

_COLUMNS = (
    "system", "scenario", "way", "sent by", "load", "x limit", "x faster than FastAPI", "median ms", "p90 ms", "p99 ms",
    "answers/s", "encoder runs per image", "hit rate", "peak MiB",
)  # fmt: skip
_LEGEND = (
    "`load` is the number of callers; each sends its next request when it has its answer. Or it is arrivals per second "
    "(Poisson). `x limit` compares medians with the limit's, cold with cold and warm with warm. `x faster than "
    "FastAPI` compares with the service that encodes for each request, at the same load. Absolute times hold for the "
    "machine named below."
)


@dataclass(frozen=True)
class Check:
    """A claim, the measured ratio and its bound in words, and whether the claim holds."""

    claim: str
    measured: str
    bound: str
    holds: bool


def checks(results: Results) -> list[Check]:
    """The project's promises, as far as this run has measured them."""
    return [
        *_warm_click(results),
        *_second_click(results),
        *_against_last_image(results),
        *_throughput(results),
        *_detected_boxes(results),
        _encodes(results),
        *_agreement(results),
    ]


def _warm_click(results: Results) -> Iterator[Check]:
    limit = results.find(LIMIT, Scenario.WARM_BY_ID, Tool.PLAIN)
    ours = results.find(SAM3, Scenario.WARM_BY_ID, Tool.CLIENT)
    if limit and ours:
        bound_ms = FULL_SIZE_FACTOR * limit.latency.median_ms
        bound = f"at most x {FULL_SIZE_FACTOR}"
        if not results.full_size:
            bound_ms = max(DEMO_FACTOR * limit.latency.median_ms, limit.latency.median_ms + DEMO_MORE_MS)
            bound = (
                f"at most x {DEMO_FACTOR:.1f}, or {DEMO_MORE_MS:.0f} ms more, whichever is larger: {bound_ms:.1f} ms"
            )
        times = f"{ours.latency.median_ms:.1f} ms against {limit.latency.median_ms:.1f} ms"
        measured, holds = f"x {_ratio(ours, limit):.2f} ({times})", ours.latency.median_ms <= bound_ms
        yield Check("a warm click by id over gRPC, against the limit", measured, bound, holds)


def _second_click(results: Results) -> Iterator[Check]:
    plain = results.find(PLAIN_BASELINE, Scenario.WARM_BY_BYTES, Tool.UPLOADS)
    ours = results.find(SAM3, Scenario.WARM_BY_ID, Tool.CLIENT)
    if plain and ours and results.full_size:  # the promise is about the full-size encoder
        claim = "the second click, against a FastAPI service that encodes each time"
        yield _at_least(claim, _ratio(plain, ours), SECOND_CLICK_FACTOR, "{:.0f} times faster")


def _against_last_image(results: Results) -> Iterator[Check]:
    last = results.find(LAST_IMAGE_BASELINE, Scenario.WARM_BY_BYTES, Tool.UPLOADS)
    for name, ours in (
        ("by id over gRPC", results.find(SAM3, Scenario.WARM_BY_ID, Tool.CLIENT)),
        ("through the gateway", results.find(GATEWAY, Scenario.WARM_BY_BYTES, Tool.UPLOADS)),
    ):
        if last and ours:
            claim = f"the second click {name}, against FastAPI that keeps the last image, one caller"
            yield Check(claim, f"x {_ratio(ours, last):.2f}", "at most x 1", _ratio(ours, last) <= 1)


def _throughput(results: Results) -> Iterator[Check]:
    last = results.find(LAST_IMAGE_BASELINE, Scenario.WARM_BY_BYTES, Tool.UPLOADS, concurrency=CALLERS)
    for name, ours in (
        ("over gRPC", results.find(SAM3, Scenario.WARM_BY_BYTES, Tool.PERF, "gRPC", CALLERS)),
        ("through the gateway", results.find(GATEWAY, Scenario.WARM_BY_BYTES, Tool.UPLOADS, concurrency=CALLERS)),
    ):
        if last and ours:
            claim = f"throughput {name} with {CALLERS} callers on {CALLERS} images, against FastAPI, last image"
            yield _at_least(claim, ours.latency.throughput / last.latency.throughput, THROUGHPUT_FACTOR, "{:.1f} times")


def _detected_boxes(results: Results) -> Iterator[Check]:
    together = results.find(SAM3, Scenario.BOXES_TOGETHER, Tool.CLIENT)
    apart = results.find(SAM3, Scenario.BOXES_APART, Tool.CLIENT)
    if together and apart:
        claim = f"{DETECTIONS} boxes on an image in one request, against one by one"
        yield _at_least(claim, _ratio(apart, together), BOXES_FACTOR, "{:.1f} times faster")


def _encodes(results: Results) -> Check:
    ours = [row for row in results.rows if row.system in (SAM3, GATEWAY)]
    other = [row for row in ours if row.encoder_runs != row.distinct_images]
    measured = f"1 in {len(ours) - len(other)} of {len(ours)} rows"
    if other:
        measured += "; " + ", ".join(f"{row.encodes_per_image:.2f} in {row.scenario}, {row.way}" for row in other)
    return Check("encoder runs per distinct image", measured, "exactly 1", not other)


def _agreement(results: Results) -> Iterator[Check]:
    perf = results.find(SAM3, Scenario.WARM_BY_ID, Tool.PERF, "gRPC")
    ours = results.find(SAM3, Scenario.WARM_BY_ID, Tool.PREPARED)
    if perf and ours:
        ratio = _ratio(perf, ours)
        claim = "perf_analyzer's median of a warm click by id over gRPC, against our timing of the same requests"
        yield Check(claim, f"x {ratio:.2f}", f"within {AGREEMENT:.0%}", abs(ratio - 1) <= AGREEMENT)


def _at_least(claim: str, times: float, bound: float, words: str) -> Check:
    return Check(claim, words.format(times), f"at least {bound:.0f} times", times >= bound)


def _ratio(one: Row, other: Row) -> float:
    return one.latency.median_ms / other.latency.median_ms


def markdown(results: Results, pictures: Sequence[str] = ()) -> str:
    """The page: the promises, the table, where a click's time goes, and the machine.

    Args:
        pictures: file names of plots in the same folder.
    """
    held = [(check.claim, check.measured, check.bound, "yes" if check.holds else "**no**") for check in checks(results)]
    parts = [f"# {results.title}", *results.notes, table(("", "measured", "must be", "holds"), held)]
    parts += ["## Figures", _LEGEND, table(_COLUMNS, [_cells(results, row) for row in results.rows])]
    if results.waterfalls:
        parts += ["## Where a warm click's time goes", table(("system", "step", "part", "ms"), _waterfall(results))]
    parts += [f"![{name}]({name})" for name in pictures]
    parts += ["## Where it was measured", table(("", ""), list(results.about.items()))]
    return "\n\n".join(parts) + "\n"


def _cells(results: Results, row: Row) -> tuple[str, ...]:
    latency = row.latency
    limit = results.find(LIMIT, Scenario.COLD if row.scenario == Scenario.COLD else Scenario.WARM_BY_ID, Tool.PLAIN)
    plain = results.find(PLAIN_BASELINE, Scenario.WARM_BY_BYTES, Tool.UPLOADS, concurrency=row.concurrency)
    compared = row.scenario in (Scenario.WARM_BY_ID, Scenario.WARM_BY_BYTES, Scenario.COLD)
    return (
        row.system,
        row.scenario,
        row.way,
        row.tool,
        row.load,
        f"{_ratio(row, limit):.2f}" if limit and compared else "",
        f"{_ratio(plain, row):.1f}" if plain and compared else "",
        *(f"{value:.1f}" for value in (latency.median_ms, latency.p90_ms, latency.p99_ms, latency.throughput)),
        f"{row.encodes_per_image:.2f}".rstrip("0").rstrip("."),
        f"{row.hit_rate:.0%}",
        "" if row.peak_mib is None else f"{row.peak_mib:.0f}",
    )


def _waterfall(results: Results) -> list[tuple[str, ...]]:
    return [
        (system, segment.step, segment.kind, f"{segment.milliseconds:.2f}")
        for system, segments in results.waterfalls.items()
        for segment in segments
    ]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
