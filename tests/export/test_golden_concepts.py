"""The golden concepts, which the export stores beside the artifacts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import golden_concepts as cases
import numpy as np
import pytest
from clip_tokens import CONTEXT_LENGTH, ClipTokenizer
from sam3_export import golden_concepts
from sam3_export.artifacts import run_module
from sam3_export.checkpoint import Checkpoint, load
from sam3_export.components import Case, components_of
from sam3_export.components.concept_detector import NAME as DETECTOR
from sam3_export.formats import FORMATS
from sam3_export.golden_clicks import FOLDER, Served
from sam3_export.golden_concepts import BOUNDS, CONCEPTS, GoldenConcepts
from sam3_export.parity import ParityError
from sam3_export.spec import FP32_DRIFT, Arrays


@pytest.fixture(scope="module")
def loaded() -> Checkpoint:
    return load(str(cases.CHECKPOINT), cases.CONFIG)


@pytest.fixture(scope="module")
def golden(loaded: Checkpoint) -> GoldenConcepts:
    references: dict[str, list[Case]] = {}
    modules = {}
    for component in components_of(loaded.architecture):
        module, spec = component.module(loaded).eval(), component.spec(loaded.architecture)
        modules[component.name] = lambda inputs, module=module, spec=spec: run_module(module, spec, inputs)
        references[component.name] = [
            Case(name, inputs, modules[component.name](inputs))
            for name, inputs in component.inputs(loaded.architecture, references)
        ]
    return GoldenConcepts(loaded.architecture, references, modules)


def test_their_tokens_are_those_of_their_texts() -> None:
    tokenizer = ClipTokenizer()
    for concept in CONCEPTS:
        expected = tokenizer.tokens(concept.text or "visual").ids
        np.testing.assert_array_equal(concept.tokens(CONTEXT_LENGTH)[0], expected)


def test_an_export_stores_them_with_masks_that_say_something(exported_concepts: Path) -> None:
    folder = exported_concepts / "sam3" / "exports" / "current" / FOLDER
    document = json.loads((folder / "concepts.json").read_text())
    assert set(document["bounds"]) == {"model.onnx", "model.fp16.onnx", "model.pt"}
    with np.load(folder / "concept_masks.npz") as masks:
        for entry in document["concepts"]:
            shares = np.unpackbits(masks[entry["name"]], axis=-1).mean(axis=(1, 2))
            assert len(shares) == len(entry["scores"]) == len(entry["instance_boxes"]) == golden_concepts.INSTANCES
            assert ((shares > 0.05) & (shares < 0.95)).any()


def test_pytorch_itself_does_not_drift(golden: GoldenConcepts) -> None:
    drift = golden.check("model.onnx", "fp32", {})
    assert drift.score == drift.box == 0
    assert drift.mask_iou == 1


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("SCORES", lambda scores: scores * 0.9),
        ("BOXES", lambda boxes: boxes + 0.02),
        ("MASK_LOGITS", lambda logits: np.roll(logits, 4, axis=-1)),
        ("PRESENCE", lambda presence: presence * np.nan),
    ],
)
def test_a_wrong_answer_is_refused(golden: GoldenConcepts, name: str, change) -> None:
    def wrong(inputs: Arrays) -> Arrays:
        answer = golden._modules[DETECTOR](inputs)
        return {**answer, name: change(answer[name])}

    with pytest.raises(ParityError, match="golden concept, a text: .*, but the bounds are"):
        golden.check("model.onnx", "fp32", {DETECTOR: Served(wrong, {}, FP32_DRIFT)})


def test_nan_is_beyond_any_bounds() -> None:
    for name in ("score", "box", "mask_iou"):
        assert not replace(BOUNDS["bf16"], **{name: float("nan")}).within(BOUNDS["bf16"])


def test_every_precision_has_bounds() -> None:
    assert {format_.precision for format_ in FORMATS.values()} == set(BOUNDS)
