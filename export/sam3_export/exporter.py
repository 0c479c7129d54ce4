"""Exports a checkpoint: writes, checks and installs a set of artifacts."""

from __future__ import annotations

import datetime
import gc
import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from sam3_export import golden_clicks, installation, native_backends, parity, spec
from sam3_export.artifacts import Writer, cast, run_module
from sam3_export.checkpoint import Checkpoint
from sam3_export.components import Case, Component, components_of, image_encoder, mask_decoder
from sam3_export.digests import sha256
from sam3_export.errors import ExportError
from sam3_export.formats import FORMATS, Format
from sam3_export.golden_clicks import GoldenClicks, Served
from sam3_export.golden_concepts import GoldenConcepts
from sam3_export.mask_agreement import MaskAgreement
from sam3_export.progress import Steps
from sam3_export.spec import Arrays
from sam3_export.staging import Staged, staging

# In images through the PyTorch encoder, like `Format.cost`: a batch of one and a batch of two.
_REFERENCE_COST = 3.0
_PACKAGES = ("torch", "transformers", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "numpy")


def export(checkpoint: Checkpoint, repository: Path, format_names: Sequence[str], steps: Steps) -> Path:
    """Exports every component in every format, checks each artifact, installs the set and returns its folder.

    Raises:
        ExportError: the repository or this machine is unsuitable, or an artifact failed its check. In that case
            nothing is installed, and the next export reuses the artifacts that had passed (see `staging`).
    """
    components = components_of(checkpoint.architecture)
    model_names = tuple(component.name for component in components)
    installation.check_repository(repository, model_names)
    writers = {FORMATS[name]: FORMATS[name].writer() for name in format_names}
    for writer in writers.values():
        writer.check_machine(checkpoint.parameters)
    costs = {
        _path(component.name, format_): format_.cost * component.weight
        for format_ in writers
        for component in components
    }
    with staging(repository, artifact_key(checkpoint), costs) as staged:
        reused_bytes = sum(entry["bytes"] for entry in staged.passed.values())
        installation.check_space(staged.folder, len(writers) * 4 * checkpoint.parameters - reused_bytes)
        steps.plan(_reference_cost(components) + sum(cost for path, cost in costs.items() if path not in staged.passed))
        work = _Export(checkpoint, staged, steps)
        for format_, writer in writers.items():
            work.add(format_, writer)
        work.write_golden(staged.folder / golden_clicks.FOLDER)
        report = _report(checkpoint, staged.passed)
        (staged.folder / installation.REPORT).write_text(json.dumps(report, indent=2) + "\n")
        _check_for_native_backends(repository, staged.folder)
        now = datetime.datetime.now(datetime.timezone.utc)
        set_name = f"{now:%Y%m%dT%H%M%S.%f}-{checkpoint.sha256[:8]}"
        installation.install(repository, staged.folder, set_name, model_names)
    return repository / installation.EXPORTS / installation.CURRENT


def _reference_cost(components: Sequence[Component]) -> float:
    return _REFERENCE_COST * sum(component.weight for component in components)


def _path(model_name: str, format_: Format) -> str:
    """The path of an artifact in a set."""
    return f"{model_name}/{format_.file_name}"


def artifact_key(checkpoint: Checkpoint) -> str:
    """A digest of everything that artifacts depend on: checkpoint, network, packages, and the code of this package."""
    facts = {
        "checkpoint": checkpoint.sha256,
        "network": [asdict(checkpoint.architecture), checkpoint.model.config.to_dict()],
        "versions": _versions(),
        "code": sha256(sorted(Path(__file__).parent.rglob("*.py"))),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def _check_for_native_backends(repository: Path, staged: Path) -> None:
    faults = native_backends.check(repository, staged)
    if faults:
        raise ExportError(f"not fit for Triton's native backends: {'; '.join(map(str, faults))}")


@dataclass(frozen=True)
class _Part:
    """A component of this checkpoint, with everything that its export needs."""

    component: Component
    module: nn.Module
    spec: spec.ComponentSpec
    sample: Arrays
    cases: Sequence[Case]


class _Export:
    """The export of a checkpoint to a staged set."""

    def __init__(self, checkpoint: Checkpoint, staged: Staged, steps: Steps) -> None:
        self._checkpoint = checkpoint
        self._architecture = checkpoint.architecture
        self._staged = staged
        self._steps = steps
        references: dict[str, list[Case]] = {}
        modules: dict[str, Callable[[Arrays], Arrays]] = {}
        self._parts = []
        components = components_of(self._architecture)
        with steps.step("Computing reference answers with PyTorch", _reference_cost(components)):
            for component in components:
                self._parts.append(self._part(component, references, modules))
            self._clicks = GoldenClicks(self._architecture, references, modules)
            self._masks = MaskAgreement(self._architecture, references, modules[mask_decoder.NAME])
            self._concepts = None
            if self._architecture.concepts is not None:
                self._concepts = GoldenConcepts(self._architecture, references, modules)

    def _part(
        self,
        component: Component,
        references: dict[str, list[Case]],
        modules: dict[str, Callable[[Arrays], Arrays]],
    ) -> _Part:
        """Builds a component, and adds its cases to the references and its PyTorch module to the modules."""
        module, spec_ = component.module(self._checkpoint).eval(), component.spec(self._architecture)
        run = modules[component.name] = partial(run_module, module, spec_)
        cases = references[component.name] = []
        for name, inputs in component.inputs(self._architecture, references):
            started = time.monotonic()
            cases.append(Case(name, inputs, run(inputs)))
            if component.weight:
                self._steps.measured((time.monotonic() - started) / (component.weight * cases[-1].batch))
        if component.amplifies_rounding:
            spec_ = parity.widen(spec_, module, cases, self._architecture.image_size)
        sample = component.sample(self._architecture, references)
        return _Part(component, component.served(module).eval(), spec_, sample, cases)

    def add(self, format_: Format, writer: Writer) -> None:
        """Writes and checks the components in a format, the cheapest first, then replays the golden clicks."""
        served = {}
        for part in sorted(self._parts, key=lambda part: part.component.weight):
            spec_ = format_.adapt(part.spec)
            if spec_ is not None:
                path = _path(part.component.name, format_)
                provide = self._reuse if path in self._staged.passed else self._write_and_check
                served[part.component.name] = provide(part, spec_, format_, writer)
        with self._steps.step(f"{format_.name}: replaying the golden clicks") as step:
            step.result = str(self._clicks.check(format_.file_name, served))
        encoder = served.get(image_encoder.NAME)
        if encoder is not None and encoder.agreement is not None:
            with self._steps.step(f"{format_.name}: comparing the masks of many clicks") as step:
                step.result = str(self._masks.check(encoder, encoder.agreement))
        if self._concepts is not None:
            with self._steps.step(f"{format_.name}: replaying the golden concepts") as step:
                step.result = str(self._concepts.check(format_.file_name, format_.precision, served))

    def write_golden(self, folder: Path) -> None:
        """Writes the golden clicks, and the golden concepts if there are any, into a new folder."""
        self._clicks.write(folder)
        if self._concepts is not None:
            self._concepts.write(folder)

    def _reuse(self, part: _Part, spec_: spec.ComponentSpec, format_: Format, writer: Writer) -> Served:
        with self._steps.step(f"{format_.name}: reusing the {spec_.title} of an earlier run"):
            run = _loaded_later(writer, spec_, self._staged.folder / _path(part.component.name, format_))
        return Served(run, {}, spec_.drift, spec_.agreement)

    def _write_and_check(self, part: _Part, spec_: spec.ComponentSpec, format_: Format, writer: Writer) -> Served:
        name = _path(part.component.name, format_)
        path = self._staged.folder / name
        path.parent.mkdir(exist_ok=True)
        cost = format_.cost * part.component.weight / 2
        title = spec_.title
        started = time.monotonic()
        with self._steps.step(f"{format_.name}: writing the {title}", cost) as step:
            try:
                writer.write(part.module, spec_, cast(part.sample, spec_), path)
            except RuntimeError as error:  # the exporters cannot translate this network
                reason = str(error).strip().splitlines()[0]
                raise ExportError(f"{title}: {format_.name} failed ({reason})") from error
            step.result = f"{path.stat().st_size / 1e6:.1f} MB"
        gc.collect()  # the exporters leave copies of the weights in reference cycles
        written = time.monotonic()
        with self._steps.step(f"{format_.name}: checking the {title} against PyTorch", cost) as step:
            artifact = writer.load(spec_, path)
            result = parity.check(artifact, spec_, part.cases, self._architecture.image_size, step.show)
            worst = max(value for case in result.differences.values() for value in case.values())
            step.result = f"largest difference {worst:.1e} of scale"
        entry = {
            "format": format_.name,
            "export_seconds": round(written - started, 2),
            "check_seconds": round(time.monotonic() - written, 2),
            "tolerances": spec_.tolerances,
            "differences": result.differences,
        }
        if result.minimum_mask_iou is not None:
            entry["minimum_mask_iou"] = result.minimum_mask_iou
        self._staged.add(name, entry)
        return Served(_loaded_later(writer, spec_, path), result.answers, spec_.drift, spec_.agreement)


def _loaded_later(writer: Writer, spec_: spec.ComponentSpec, path: Path) -> Callable[[Arrays], Arrays]:
    """Runs an artifact, which is loaded at the first call: it would take memory while the next one is written."""
    load = cache(lambda: writer.load(spec_, path))
    return lambda inputs: load().run(inputs)


def _report(checkpoint: Checkpoint, artifacts: Mapping[str, Any]) -> dict[str, Any]:
    architecture = checkpoint.architecture
    specs = {component: component.spec(architecture) for component in components_of(architecture)}
    sizes = asdict(architecture)
    concepts = {}
    if architecture.concepts is None:
        del sizes["concepts"]
    else:
        concepts = {"concepts": {"queries": architecture.concepts.num_queries}}  # read by sam3_embedding_cache
    return {
        "image_size": checkpoint.architecture.image_size,  # read by sam3_preprocess
        "interface": spec.INTERFACE,  # read by sam3_embedding_cache
        "features": [  # read by sam3_embedding_cache
            tensor.name for component, one in specs.items() if component.cached for tensor in one.outputs
        ],
        **concepts,
        "components": {one.model_name: one.title for one in specs.values()},  # read by sam3-serve, sam3 doctor
        "checkpoint": {
            "source": Path(checkpoint.source).name,
            "sha256": checkpoint.sha256,
            "model": checkpoint.release,
            "sigmoid_scores": checkpoint.sigmoid_scores,
        },
        "architecture": sizes,
        "artifacts": artifacts,
        "versions": _versions(),
        "exported_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
