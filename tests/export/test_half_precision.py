"""fp16 and bf16 artifacts are in 16 bits where that is harmless, and in fp32 where it is not."""

from __future__ import annotations

from pathlib import Path

import golden
import onnx
import pytest
import torch
from sam3_export import checkpoint
from sam3_export.components import image_encoder, mask_decoder
from sam3_export.half_precision import half

FP32, FP16 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


FUSED, WRITTEN_OUT = f"{image_encoder.NAME}/1/model.fp16.onnx", f"{image_encoder.NAME}/1/model.tensorrt.onnx"
DECODER = f"{mask_decoder.NAME}/1/model.fp16.onnx"


@pytest.fixture(scope="module", params=[FUSED, WRITTEN_OUT, DECODER])
def model(request: pytest.FixtureRequest, exported_demo: Path) -> onnx.ModelProto:
    """An fp16 artifact with the type of every tensor in its `value_info`."""
    return onnx.shape_inference.infer_shapes(onnx.load(exported_demo / request.param))


def types(model: onnx.ModelProto) -> dict[str, int]:
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    return {value.name: value.type.tensor_type.elem_type for value in values} | {
        weight.name: weight.data_type for weight in model.graph.initializer
    }


def inputs_of(model: onnx.ModelProto, *operators: str) -> list[int]:
    known = types(model)
    return [known[node.input[0]] for node in model.graph.node if node.op_type in operators]


def test_layer_norms_softmax_and_coordinates_are_fp32(model: onnx.ModelProto) -> None:
    # Fused attention has no softmax of its own.
    softmax = [] if inputs_of(model, "MultiHeadAttention") else ["Softmax"]
    for operator in ("LayerNormalization", *softmax):
        found = inputs_of(model, operator)
        assert len(found) >= 4
        assert set(found) == {FP32}
    assert set(inputs_of(model, "Sin", "Cos")) <= {FP32}


def test_the_score_head_is_fp32(exported_demo: Path) -> None:
    model = onnx.load(exported_demo / DECODER)
    weights = [weight for weight in model.graph.initializer if "iou_prediction_head" in weight.name]
    assert len(weights) == 6  # three layers
    assert {weight.data_type for weight in weights} == {FP32}


def test_products_and_weights_are_fp16(model: onnx.ModelProto) -> None:
    products = inputs_of(model, "MatMul", "Conv", "ConvTranspose", "Gemm", "MultiHeadAttention")
    assert products.count(FP16) >= 0.9 * len(products)
    matrices = [weight for weight in model.graph.initializer if len(weight.dims) == 2 and min(weight.dims) >= 16]
    others = [weight for weight in matrices if "iou_prediction_head" not in weight.name]
    assert others
    assert {weight.data_type for weight in others} == {FP16}


def test_features_travel_in_fp16_and_answers_in_fp32(model: onnx.ModelProto) -> None:
    tensors = {value.name: value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    assert [tensors[name] for name in image_encoder.FEATURES] == [FP16] * 3
    assert {tensors.get(name) for name in ("POINT_COORDS", "MASK_INPUT", "MASK_LOGITS", "SCORES")} <= {FP32, None}


@pytest.mark.parametrize(("name", "dtype"), [(image_encoder.NAME, torch.bfloat16), (mask_decoder.NAME, torch.float32)])
def test_bf16_is_for_the_image_encoder_not_for_the_mask_decoder(
    name: str, dtype: torch.dtype, exported_demo: Path
) -> None:
    graph = torch.jit.load(exported_demo / name / "1" / "model.bf16.pt").inlined_graph
    weights = [
        next(value for value in node.inputs() if value.node().kind() == "prim::Constant").node().t("value").dtype
        for kind in ("aten::linear", "aten::_convolution")
        for node in graph.findAllNodes(kind)
    ]
    assert len(weights) >= 10
    assert set(weights) == {dtype}


def test_in_bf16_the_sums_of_the_image_encoder_stay_in_fp32() -> None:
    loaded = checkpoint.load(str(golden.CHECKPOINT), golden.CONFIG)
    encoder = half(image_encoder.ImageEncoder(loaded.model).eval(), own_softmax=False, dtype=torch.bfloat16)
    sums, products = [], []
    for layer in encoder.backbone.layers:
        layer.register_forward_hook(lambda part, arguments, result: sums.append(result.dtype))
        layer.mlp.register_forward_hook(lambda part, arguments, result: products.append(result.dtype))
    size = loaded.architecture.image_size
    with torch.inference_mode():
        encoder(torch.zeros(1, size, size, 3, dtype=torch.uint8))
    assert set(sums) == {torch.float32}
    assert set(products) == {torch.bfloat16}
