"""8-bit products: what they lose, and that the gate refuses what loses more."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from sam3_export import checkpoint, parity
from sam3_export.artifacts import cast, run_module
from sam3_export.components import Case, image_encoder, mask_decoder
from sam3_export.errors import ExportError
from sam3_export.formats import FORMATS
from sam3_export.golden_clicks import Served
from sam3_export.int8_format import OnnxInt8, products_are_exact, quantise
from sam3_export.mask_agreement import LEAST_MASKS, MaskAgreement
from sam3_export.onnx_formats import Onnx
from sam3_export.parity import ParityError
from sam3_export.spec import FP32_DRIFT, INT8_AGREEMENT, Arrays
from sam3_triton.cpu import int8_instructions

DEMO = Path(checkpoint.__file__).parent / "demo" / "sam3_demo.pt"
RNG = np.random.default_rng(0)
needs_vnni = pytest.mark.skipif(not products_are_exact(), reason="sums of 8-bit products overflow on this CPU")


def product(weights: np.ndarray) -> bytes:
    """An ONNX model of one product, [B, 3, K] x [K, N]."""
    inner, outer = weights.shape
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["p"]), helper.make_node("Identity", ["p"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 3, inner])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", 3, outer])],
        [numpy_helper.from_array(weights, "w")],
        value_info=[helper.make_tensor_value_info("p", TensorProto.FLOAT, ["B", 3, outer])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10).SerializeToString()


def test_each_row_and_each_channel_has_its_own_scale() -> None:
    weights = RNG.normal(0, 1, (64, 32)).astype(np.float32) * np.logspace(-3, 3, 32, dtype=np.float32)
    rows = RNG.normal(0, 1, (2, 3, 64)).astype(np.float32) * np.logspace(-3, 3, 6, dtype=np.float32).reshape(2, 3, 1)
    rows[0, 1] = 0
    found = quantised_answer(weights, rows)
    expected = rows @ weights
    scale = np.linalg.norm(rows, axis=2, keepdims=True) * np.linalg.norm(weights, axis=0)
    assert np.abs(found - expected).max() > 0
    assert (np.abs(found - expected) <= 0.01 * scale).all()


@needs_vnni
def test_the_largest_products_do_not_overflow() -> None:
    found = quantised_answer(np.ones((256, 8), np.float32), np.ones((1, 3, 256), np.float32))
    np.testing.assert_allclose(found, 256, rtol=1e-5)


def test_products_overflow_on_cpus_without_vnni() -> None:
    assert products_are_exact() == (int8_instructions() is not None)


def test_a_cpu_without_vnni_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sam3_export.int8_format.products_are_exact", lambda: False)
    with pytest.raises(ExportError, match="onnx-int8: this CPU has no VNNI"):
        OnnxInt8().check_machine(1)


def quantised_answer(weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    model = ir.from_proto(onnx.load_from_string(product(weights)))
    quantise(model)
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    answer: np.ndarray = session.run(None, {"x": rows})[0]
    return answer


@pytest.fixture(scope="module")
def demo() -> checkpoint.Checkpoint:
    return checkpoint.load(str(DEMO), DEMO.with_suffix(".json"))


@pytest.fixture(scope="module")
def pictures(demo: checkpoint.Checkpoint) -> list[Case]:
    module, spec = image_encoder.COMPONENT.module(demo).eval(), image_encoder.spec(demo.architecture)
    inputs = image_encoder.COMPONENT.inputs(demo.architecture, {})
    return [Case(name, arrays, run_module(module, spec, arrays)) for name, arrays in inputs]


@pytest.fixture(scope="module")
def agreement(demo: checkpoint.Checkpoint, pictures: list[Case]) -> MaskAgreement:
    decoder = mask_decoder.COMPONENT.module(demo).eval()
    decode = partial(run_module, decoder, mask_decoder.spec(demo.architecture))
    return MaskAgreement(demo.architecture, {image_encoder.NAME: pictures}, decode)


@pytest.fixture(scope="module")
def full(demo: checkpoint.Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration model's image encoder in fp32."""
    path = tmp_path_factory.mktemp("fp32") / FORMATS["onnx"].file_name
    component, spec = image_encoder.COMPONENT, image_encoder.spec(demo.architecture)
    module = component.served(component.module(demo).eval()).eval()
    Onnx().write(module, spec, cast(component.sample(demo.architecture, {}), spec), path)
    return path


@needs_vnni
def test_the_gate_passes_ours_and_refuses_onnx_runtimes_own(
    demo: checkpoint.Checkpoint, full: Path, pictures: list[Case], agreement: MaskAgreement
) -> None:
    ours, own = full.with_name("ours.onnx"), full.with_name("own.onnx")
    model = ir.load(full)
    quantise(model)
    ir.save(model, ours)
    quantize_dynamic(
        full,
        own,
        op_types_to_quantize=["MatMul"],
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
        extra_options={"MatMulConstBOnly": True},
    )
    assert ours.stat().st_size < 0.5 * full.stat().st_size
    spec = FORMATS["onnx-int8"].adapt(image_encoder.spec(demo.architecture))
    assert spec is not None

    result = parity.check(OnnxInt8().load(spec, ours), spec, pictures, demo.architecture.image_size)
    agreement.check(Served(lambda inputs: inputs, result.answers, FP32_DRIFT), INT8_AGREEMENT)
    with pytest.raises(ParityError, match="of its scale, more than 5.0e-02"):
        parity.check(OnnxInt8().load(spec, own), spec, pictures, demo.architecture.image_size)


def test_masks_of_many_clicks_are_compared(agreement: MaskAgreement, pictures: list[Case]) -> None:
    found = agreement.check(served(pictures, 0), INT8_AGREEMENT)
    assert (found.mean_iou, found.lowest_iou) == (1, 1)
    assert found.masks >= LEAST_MASKS


def test_features_with_too_much_noise_are_refused(agreement: MaskAgreement, pictures: list[Case]) -> None:
    with pytest.raises(ParityError, match="but the bounds are mask IoU: mean 0.9700, lowest 0.9000"):
        agreement.check(served(pictures, 0.2), INT8_AGREEMENT)


def test_too_few_stable_masks_are_refused(
    agreement: MaskAgreement, pictures: list[Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sam3_export.mask_agreement.LEAST_MASKS", 1000)
    with pytest.raises(ParityError, match="stable enough to be compared, of 1000 at least"):
        agreement.check(served(pictures, 0), INT8_AGREEMENT)


def served(pictures: list[Case], noise: float) -> Served:
    """An encoder whose features have noise, as a fraction of their standard deviation."""
    answers: dict[str, Arrays] = {
        picture.name: {
            name: values + noise * values.std() * RNG.normal(0, 1, values.shape).astype(np.float32)
            for name, values in picture.expected.items()
        }
        for picture in pictures
    }
    return Served(lambda inputs: inputs, answers, FP32_DRIFT)
