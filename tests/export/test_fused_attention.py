"""Attention is one operator of ONNX Runtime's in the ONNX files, and written out in the file for TensorRT."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import golden_concepts
import onnx
import pytest
from other_onnxruntime import OtherOnnxRuntime
from sam3_export import checkpoint, parity
from sam3_export.artifacts import Artifact, cast, run_module
from sam3_export.components import Case, concept_detector, image_encoder, mask_decoder, text_encoder
from sam3_export.onnx_formats import OnnxArtifact, export_onnx
from sam3_export.spec import ComponentSpec

# The ONNX Runtime of Triton 24.10.
OLDEST = "1.19.2"
FUSED = "com.microsoft::MultiHeadAttention"
# The attentions of the golden network: in each layer of the geometry encoder, the DETR encoder and the DETR decoder,
# and one from the segmentation head to the prompt.
OF_DETECTOR = 2 * 2 + 2 * 2 + 3 * 3 + 1
ATTENTIONS = {image_encoder.NAME: 4, text_encoder.NAME: 2, concept_detector.NAME: OF_DETECTOR}


def operators(path: Path) -> Counter[str]:
    """How often each operator is in a file: domain::name, or the name alone for ONNX's own."""
    nodes = onnx.load(path, load_external_data=False).graph.node
    return Counter(f"{node.domain}::{node.op_type}".removeprefix("::") for node in nodes)


@pytest.mark.parametrize("file", ["model.onnx", "model.fp16.onnx"])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_every_attention_is_one_operator(name: str, file: str, exported_concepts: Path) -> None:
    path = exported_concepts / name / "1" / file
    assert operators(path)[FUSED] == ATTENTIONS[name]
    assert operators(path)["Softmax"] == 0
    assert {opset.domain: opset.version for opset in onnx.load(path).opset_import} == {"": 18, "com.microsoft": 1}


def test_the_mask_decoder_has_its_own_attention(exported_concepts: Path) -> None:
    assert FUSED not in operators(exported_concepts / mask_decoder.NAME / "1" / "model.onnx")


def test_tensorrt_gets_the_image_encoder_with_attention_written_out(exported_demo: Path) -> None:
    encoder = exported_demo / image_encoder.NAME / "1"
    found = operators(encoder / "model.tensorrt.onnx")
    assert not [name for name in found if "::" in name]
    assert found["Softmax"] == operators(encoder / "model.fp16.onnx")[FUSED] > 0
    assert not (exported_demo / mask_decoder.NAME / "1" / "model.tensorrt.onnx").exists()


@dataclass(frozen=True)
class Unfused:
    """A component of the golden network in fp32, with attention written out and features that are not rounded."""

    spec: ComponentSpec
    path: Path
    cases: Sequence[Case]


@pytest.fixture(scope="module")
def unfused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Unfused]:
    loaded = checkpoint.load(str(golden_concepts.CHECKPOINT), golden_concepts.CONFIG)
    folder, references, made = tmp_path_factory.mktemp("unfused"), {}, {}
    for component in (image_encoder.COMPONENT, text_encoder.COMPONENT, concept_detector.COMPONENT):
        module, spec = component.module(loaded).eval(), component.spec(loaded.architecture)
        cases = references[component.name] = [
            Case(name, inputs, run_module(module, spec, inputs))
            for name, inputs in component.inputs(loaded.architecture, references)
        ]
        path = folder / f"{component.name}.onnx"
        sample = cast(component.sample(loaded.architecture, references), spec)
        export_onnx(module, spec, sample, path)
        assert operators(path)["Softmax"] == ATTENTIONS[component.name]
        made[component.name] = Unfused(spec, path, cases)
    return made


@pytest.fixture(scope="module")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> OtherOnnxRuntime:
    return OtherOnnxRuntime.install(OLDEST, tmp_path_factory.mktemp(f"onnxruntime-{OLDEST}"))


def check(fused: Artifact, written_out: Artifact, of: Unfused, precision: str) -> None:
    """The gate, with the unfused file's answers in place of PyTorch's."""
    spec = of.spec.in_precision(precision)
    assert spec is not None
    cases = [Case(case.name, case.inputs, written_out.run(cast(case.inputs, of.spec))) for case in of.cases]
    parity.check(fused, spec, cases, mask_size=336)


@pytest.mark.parametrize(("file", "precision"), [("model.onnx", "fp32"), ("model.fp16.onnx", "fp16")])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_fused_and_unfused_agree(
    name: str, file: str, precision: str, unfused: dict[str, Unfused], exported_concepts: Path
) -> None:
    path = exported_concepts / name / "1" / file
    check(OnnxArtifact(path), OnnxArtifact(unfused[name].path), unfused[name], precision)


@pytest.mark.parametrize(("file", "precision"), [("model.onnx", "fp32"), ("model.fp16.onnx", "fp16")])
@pytest.mark.parametrize("name", ATTENTIONS)
def test_fused_and_unfused_agree_on_the_oldest_onnx_runtime(
    name: str,
    file: str,
    precision: str,
    oldest: OtherOnnxRuntime,
    unfused: dict[str, Unfused],
    exported_concepts: Path,
) -> None:
    path = exported_concepts / name / "1" / file
    check(oldest.load(path), oldest.load(unfused[name].path), unfused[name], precision)
