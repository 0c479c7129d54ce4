"""The rules of Triton's own ONNX Runtime backend, which the stand-in is more lenient about (docs/triton.md)."""

from __future__ import annotations

from pathlib import Path

import golden
import onnx
import pytest
from sam3_export import spec
from sam3_export.architecture import Architecture

# What the ONNX Runtime of Triton 24.10 (1.19) reads.
NEWEST_IR_VERSION = 10
NEWEST_OPSET = 21

ARCHITECTURE = Architecture.from_json(golden.CONFIG)


COMPONENTS = (spec.image_encoder(ARCHITECTURE), spec.mask_decoder(ARCHITECTURE))


ARTIFACTS = [(component, "model.onnx") for component in COMPONENTS] + [(COMPONENTS[0], "model.int8.onnx")]


@pytest.mark.parametrize(("component", "name"), ARTIFACTS, ids=lambda value: getattr(value, "model_name", value))
def test_the_native_backend_can_complete_the_config_from_the_file(exported: Path, component, name: str) -> None:
    path = exported / component.model_name / "1" / name
    model = onnx.load(path)
    assert model.ir_version <= NEWEST_IR_VERSION
    assert [(opset.domain, opset.version <= NEWEST_OPSET) for opset in model.opset_import] == [("", True)]
    # No file of weights beside them.
    assert {entry.name for entry in path.parent.iterdir()} <= {"model.onnx", "model.int8.onnx", "model.pt"}
    for values, tensors in ((model.graph.input, component.inputs), (model.graph.output, component.outputs)):
        assert [value.name for value in values] == [tensor.name for tensor in tensors]
        for value, tensor in zip(values, tensors, strict=True):
            axes = tuple(axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim)
            # Batching needs an open first axis everywhere; an axis that is fixed must be a number in the file.
            assert axes == tensor.axes
            assert axes[0] == spec.BATCH
