"""The figures of a run as Markdown: first the targets, then each stage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.report import table

Figures = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """A target for an H200, what was measured (None if it was not), and whether it is met."""

    name: str
    measured: float | None
    bound: float
    unit: str
    met: bool | None


# In milliseconds or clicks a second, on an H200. Encoder: 5.2 TFLOP at a third of the chip's dense fp16 peak of 989
# TFLOP/s. A served fp16 artifact counts, at batch 1.
_ENCODER_MS, _DECODER_MS, _WARM_CLICK_MS, _CLICKS_A_SECOND = 15.0, 3.0, 6.0, 500.0


def targets(figures: Figures) -> list[Target]:
    """The targets, with what the run measured of them."""
    served = ("fp16", "TorchScript", "1", "milliseconds")
    load = [row["throughput"] for name, row in _at(figures, "serving", "load", default={}).items() if "masks" in name]
    return [
        _most("image encoder, TorchScript fp16, one image", _at(figures, "encoder", *served), _ENCODER_MS),
        _most("mask decoder, TorchScript fp16, one click", _at(figures, "decoder", *served), _DECODER_MS),
        _most("warm click by id, median", _at(figures, "serving", "warm_click_milliseconds", "median"), _WARM_CLICK_MS),
        _least("warm clicks a second, with masks", max(load, default=None), _CLICKS_A_SECOND),
    ]


def _at(figures: Figures, *names: str, default: Any = None) -> Any:
    found: Any = figures
    for name in names:
        if not isinstance(found, dict) or name not in found:
            return default
        found = found[name]
    return found


def _most(name: str, measured: float | None, bound: float) -> Target:
    return Target(name, measured, bound, "ms", None if measured is None else measured <= bound)


def _least(name: str, measured: float | None, bound: float) -> Target:
    return Target(name, measured, bound, "a second", None if measured is None else measured >= bound)


def markdown(document: Figures, figures: Figures) -> str:
    """The page.

    Args:
        document: what `gpu.json` holds.
        figures: of each stage, by name.
    """
    device = _at(figures, "machine", "device", default="a GPU")
    parts = [f"# On {device}", *(["A small run on the CPU: its figures mean nothing."] if document["small"] else [])]
    parts.append(table(("target on an H200", "measured", "must be", "met"), list(_targets(figures))))
    parts.append(table(("stage", "", "seconds"), list(_stages(document))))
    for title, rows in (
        ("Image encoder", _ways(figures.get("encoder", {}), figures.get("compiled", {}).get("encoder", {}))),
        ("Mask decoder", _ways(figures.get("decoder", {}), figures.get("compiled", {}).get("decoder", {}))),
    ):
        header = (
            "precision",
            "way",
            "batch",
            "ms",
            "ms until the host knows",
            "a second",
            "TFLOP/s",
            "of the GEMM",
            "GB",
        )
        parts += [f"## {title}", table(header, list(rows))]
    for title, make in (
        ("Against fp32", _numerics),
        ("Kernels", _kernels),
        ("Served", _served),
        ("Concept prompts", _concepts),
    ):
        parts += [f"## {title}", *make(figures)]
    about = {**document["about"], **{name: _text(value) for name, value in figures.get("machine", {}).items()}}
    parts += ["## Where it was measured", table(("", ""), [(name, str(value)) for name, value in about.items()])]
    return "\n\n".join(parts) + "\n"


def _targets(figures: Figures) -> Iterator[tuple[str, ...]]:
    for one in targets(figures):
        sign = "at most" if one.unit == "ms" else "at least"
        met = {None: "not measured", True: "yes", False: "**no**"}[one.met]
        yield one.name, _text(one.measured), f"{sign} {one.bound:.0f} {one.unit}", met


def _stages(document: Figures) -> Iterator[tuple[str, ...]]:
    for name, outcome in document["stages"].items():
        reason = f": {outcome['reason']}" if outcome["reason"] else ""
        yield name, outcome["status"] + reason, f"{outcome['seconds']:.0f}"


def _ways(plain: Figures, compiled: Figures) -> Iterator[tuple[str, ...]]:
    for precision in [name for name, ways in plain.items() if isinstance(ways, dict)]:
        ways = {**plain[precision]}
        if precision in compiled:
            ways["torch.compile"] = compiled[precision]
        for way, batches in ways.items():
            if reason := batches.get("skipped") or batches.get("failed"):
                yield precision, way, "", reason, "", "", "", "", ""
                continue
            for batch, row in batches.items():
                if reason := row.get("skipped") or row.get("failed"):
                    yield precision, way, batch, reason, "", "", "", "", ""
                    continue
                names = ("milliseconds", "wall_milliseconds", "a_second", "tflops", "share_of_gemm", "peak_gigabytes")
                yield precision, way, batch, *(_text(row.get(name)) for name in names)


def _numerics(figures: Figures) -> Iterator[str]:
    rows = []
    for precision, found in figures.get("numerics", {}).items():
        if not isinstance(found, dict):
            continue
        if reason := found.get("skipped") or found.get("failed"):
            rows.append((precision, reason, "", "", ""))
            continue
        masks, stable = found["masks"], found["stable_masks"]
        rows.append(
            (
                precision,
                f"{found['largest_feature_difference_of_scale']:.1e}",
                f"{found['largest_score_difference']:.1e}",
                *(
                    f"{one['mean_iou']:.4f} ({one['lowest_iou']:.4f}, {one['count']} masks)" if one["count"] else ""
                    for one in (masks, stable)
                ),
            )
        )
    header = ("", "features, of scale", "scores", "IoU of masks: mean (lowest)", "of stable masks")
    yield table(header, rows)


def _kernels(figures: Figures) -> Iterator[str]:
    found = figures.get("kernels", {})
    for name in ("encoder", "decoder"):
        if name in found:
            part = found[name]
            yield (
                f"The {name}, TorchScript fp16: {part['launches_a_call']:.0f} launches, "
                f"{part['milliseconds_a_call']:.2f} ms in them."
            )
            yield table(
                ("name", "ms", "launches"),
                [
                    (f"`{one['name']}`", f"{one['milliseconds_a_call']:.3f}", f"{one['launches_a_call']:.0f}")
                    for one in part["longest"]
                ],
            )
    if "copies_of_a_warm_click" in found:
        rows = [
            (way, f"{one['copies_a_call']:.0f}", f"{one['bytes_a_call']:.0f}", f"{one['milliseconds_a_call']:.3f}")
            for way, one in found["copies_of_a_warm_click"].items()
        ]
        yield f"Copies of a warm click (an image's features have {found['feature_bytes']} bytes):"
        yield table(("way", "copies", "bytes", "ms"), rows)


def _served(figures: Figures) -> Iterator[str]:
    found = {**figures.get("export", {}), **figures.get("serving", {})}
    found.pop("load", None)
    yield table(("", ""), [(name.replace("_", " "), _text(value)) for name, value in found.items()])
    rows = figures.get("serving", {}).get("load", {})
    names = ("throughput", "median_ms", "p90_ms", "p99_ms", "pcie_bytes_a_click")
    yield table(
        ("load", "a second", "median ms", "p90 ms", "p99 ms", "PCIe bytes a click"),
        [(load, *(_text(row.get(name)) for name in names)) for load, row in rows.items()],
    )


def _concepts(figures: Figures) -> Iterator[str]:
    rows = [
        (precision, part, _text(row.get("milliseconds")) or _text(row))
        for precision, parts in figures.get("concepts", {}).items()
        for part, row in parts.items()
    ]
    yield table(("precision", "part", "ms"), rows)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(one)}" for name, one in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
