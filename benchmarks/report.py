"""A run's results as Markdown: ratios first."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import loads
from benchmarks.checks import checks
from benchmarks.figures import Row
from benchmarks.local import PLAIN_BASELINE
from benchmarks.results import Results

_COLUMNS = (
    "system", "scenario", "way", "sent by", "load", "x limit", "x faster than FastAPI", "median ms", "p90 ms", "p99 ms",
    "answers/s", "encoder runs per image", "hit rate", "peak MiB",
)  # fmt: skip


def markdown(results: Results, pictures: Sequence[str] = ()) -> str:
    """The page: what must hold, the table, where a click's time goes, the machine.

    Args:
        pictures: file names of the plots beside it.
    """
    held = [(check.claim, check.measured, check.bound, "yes" if check.holds else "**no**") for check in checks(results)]
    parts = [f"# {results.title}", *results.notes, _table(("", "measured", "must be", "holds"), held)]
    parts += ["## Figures", _LEGEND, _table(_COLUMNS, [_cells(results, row) for row in results.rows])]
    if results.waterfalls:
        parts += ["## Where a warm click's time goes", _table(("system", "step", "part", "ms"), _waterfall(results))]
    parts += [f"![{name}]({name})" for name in pictures]
    parts += ["## Where it was measured", _table(("", ""), list(results.about.items()))]
    return "\n\n".join(parts) + "\n"


_LEGEND = (
    "`load` is the number of callers, each of which sends its next request when it has its answer; or arrivals a "
    "second (Poisson). `x limit` compares medians with the limit's, cold with cold and warm with warm; `x faster than "
    "FastAPI` with the service that encodes for each request, at the same load. Absolute times are the machine's "
    "named below."
)


def _cells(results: Results, row: Row) -> tuple[str, ...]:
    latency = row.latency
    limit = results.find("limit", loads.COLD if row.scenario == loads.COLD else loads.WARM_BY_ID, loads.PLAIN)
    plain = results.find(PLAIN_BASELINE, loads.WARM_BY_BYTES, loads.UPLOADS, concurrency=row.concurrency)
    compared = row.scenario not in (loads.TRACE, loads.TOGETHER)
    return (
        row.system,
        row.scenario,
        row.way,
        row.tool,
        row.load,
        f"{latency.median_ms / limit.latency.median_ms:.2f}" if limit and compared else "",
        f"{plain.latency.median_ms / latency.median_ms:.1f}" if plain and compared else "",
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


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
