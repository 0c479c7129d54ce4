"""fp16 artifacts are in fp16 where that is harmless, and in fp32 where it is not."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from sam3_export.components import image_encoder, mask_decoder

FP32, FP16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


@pytest.fixture(scope="module", params=[image_encoder.NAME, mask_decoder.NAME])
def model(request: pytest.FixtureRequest, exported_demo: Path) -> onnx.ModelProto:
    """An fp16 artifact with the type of every tensor in its `value_info`."""
    path = exported_demo / request.param / "1" / "model.fp16.onnx"
    return onnx.shape_inference.infer_shapes(onnx.load(path))


def types(model: onnx.ModelProto) -> dict[str, int]:
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    return {value.name: value.type.tensor_type.elem_type for value in values} | {
        weight.name: weight.data_type for weight in model.graph.initializer
    }


def inputs_of(model: onnx.ModelProto, *operators: str) -> list[int]:
    known = types(model)
    return [known[node.input[0]] for node in model.graph.node if node.op_type in operators]


def test_layer_norms_softmax_and_coordinates_are_fp32(model: onnx.ModelProto) -> None:
    for operator in ("LayerNormalization", "Softmax"):
        found = inputs_of(model, operator)
        assert len(found) >= 4
        assert set(found) == {FP32}
    assert set(inputs_of(model, "Sin", "Cos")) <= {FP32}


def test_the_score_head_is_fp32(exported_demo: Path) -> None:
    model = onnx.load(exported_demo / mask_decoder.NAME / "1" / "model.fp16.onnx")
    weights = [weight for weight in model.graph.initializer if "iou_prediction_head" in weight.name]
    assert len(weights) == 6  # three layers
    assert {weight.data_type for weight in weights} == {FP32}


def test_products_and_weights_are_fp16(model: onnx.ModelProto) -> None:
    products = inputs_of(model, "MatMul", "Conv", "ConvTranspose", "Gemm")
    assert products.count(FP16) >= 0.9 * len(products)
    matrices = [weight for weight in model.graph.initializer if len(weight.dims) == 2 and min(weight.dims) >= 16]
    others = [weight for weight in matrices if "iou_prediction_head" not in weight.name]
    assert others
    assert {weight.data_type for weight in others} == {FP16}


def test_features_travel_in_fp16_and_answers_in_fp32(model: onnx.ModelProto) -> None:
    tensors = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    assert [tensors[name] for name in image_encoder.FEATURES] == [FP16] * 3
    assert {tensors.get(name) for name in ("POINT_COORDS", "MASK_INPUT", "MASK_LOGITS", "SCORES")} <= {FP32, None}
