"""Checks the repository against the rules of Triton's native backends, and breaks each rule for model files once."""

from __future__ import annotations

import json
from pathlib import Path

import golden
import onnx
import pytest
import torch
from native import (
    DECODER,
    DECODER_CONFIG,
    ENCODER,
    ENCODER_CONFIG,
    TORCHSCRIPT_DECODER,
    TORCHSCRIPT_ENCODER,
    append,
    edit,
    faults,
    own_artifacts,
)
from repository import copy_repository
from sam3_export import cli
from sam3_export.native_backends import pytorch_rules


def image_size(repository: Path) -> str:
    """The architecture of the exported network."""
    return str(json.loads((repository / "sam3" / "exports" / "current" / "export.json").read_text())["image_size"])


def test_the_repository_and_every_profile_suit_the_native_backends(exported_demo: Path, linked: Path) -> None:
    assert faults(exported_demo) == []
    # Profiles for SAM 3's own size were left out; here they are made profiles for the size of this network.
    for config in (linked.parent / "ensemble_configs").glob("*/*.pbtxt"):
        config.write_text(config.read_text().replace("1008", image_size(linked)))
    assert faults(linked) == []


def test_a_profile_for_one_size_of_network_is_left_out_for_others(linked: Path) -> None:
    edit(linked, TORCHSCRIPT_ENCODER, ('"PIXELS"', '"PICTURE"'))
    assert any("PICTURE: it is input 0, but" in line for line in faults(linked))
    append(linked, TORCHSCRIPT_ENCODER, 'parameters { key: "image_size" value { string_value: "14" } }')
    assert faults(linked) == []
    edit(linked, TORCHSCRIPT_ENCODER, ('"14"', f'"{image_size(linked)}"'))
    assert any("PICTURE: it is input 0, but" in line for line in faults(linked))


def newer_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 22


def newer_ir(model: onnx.ModelProto) -> None:
    model.ir_version = 11


def unknown_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "my.operators"


def outside_weights(model: onnx.ModelProto) -> None:
    weight = model.graph.initializer[0]
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="weights")


def closed_batch(model: onnx.ModelProto) -> None:
    model.graph.output[1].type.tensor_type.shape.dim[0].dim_value = 2


def unknown_type(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.BFLOAT16


ONNX_FAULTS = [
    (newer_opset, "model.onnx has opset 22 of ai.onnx; ONNX Runtime 1.19 reads 21"),
    (newer_ir, "model.onnx has IR version 11; ONNX Runtime 1.19 reads 10"),
    (unknown_operator, "operators of my.operators"),
    (outside_weights, "keeps weights in another file"),
    (closed_batch, "SCORES: max_batch_size > 0 needs an open first axis in model.onnx"),
    (unknown_type, "MASK_LOGITS: the backend does not know its data type in model.onnx"),
]


@pytest.mark.parametrize(("change", "expected"), ONNX_FAULTS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_fault_in_an_onnx_file_is_named(linked: Path, change, expected: str) -> None:
    path = own_artifacts(linked, DECODER) / "model.onnx"
    model = onnx.load(path)
    change(model)
    path.write_bytes(model.SerializeToString())
    assert any(expected in line for line in faults(linked)), faults(linked)


def test_an_onnx_file_of_more_than_2_gb_is_named(linked: Path) -> None:
    path = own_artifacts(linked, DECODER) / "model.onnx"
    with path.open("r+b") as file:
        file.truncate(2**31)
    assert any("model.onnx has 2147483648 bytes; protobuf reads 2 GB at most" in line for line in faults(linked))


def test_a_missing_file_and_files_of_another_kind_are_named(linked: Path) -> None:
    (own_artifacts(linked, ENCODER) / "model.onnx").unlink()
    folder = own_artifacts(linked, DECODER)
    (folder / "model.onnx").write_bytes(b"no model")
    (folder / "model.pt").write_bytes(b"no model")
    found = faults(linked)
    assert any(line.startswith(ENCODER_CONFIG) and "the file model.onnx is missing" in line for line in found)
    assert any(line.startswith(DECODER_CONFIG) and "model.onnx is not an ONNX file" in line for line in found)
    assert any(line.startswith(TORCHSCRIPT_DECODER) and "model.pt is not a TorchScript file" in line for line in found)


class Pinned(torch.nn.Module):
    """Makes a tensor on the device it is traced on."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels + torch.zeros(pixels.shape[0], 1, 1, 1, device=pixels.device)


def test_a_trace_that_names_its_device_is_found(linked: Path) -> None:
    path = own_artifacts(linked, ENCODER) / "model.pt"
    traced = torch.jit.freeze(torch.jit.trace(Pinned().eval(), torch.rand(2, 4, 4, 3)))
    traced.save(str(path))
    assert pytorch_rules.read(path).devices == ("aten::zeros",)
    found = faults(linked)
    assert any("runs only on the device that it was traced on, named in aten::zeros" in line for line in found), found
    assert any("the config has 3 outputs, model.pt has 1" in line for line in found), found


def test_an_export_that_the_native_backends_would_refuse_is_not_installed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = copy_repository(tmp_path)
    edit(repository, TORCHSCRIPT_ENCODER, ("TYPE_UINT8", "TYPE_UINT16"))
    # The format that is exported fastest.
    arguments = ["--checkpoint", str(golden.CHECKPOINT), "--config", str(golden.CONFIG), "--formats", "torchscript"]
    assert cli.main([*arguments, "--repository", str(repository)]) == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{TORCHSCRIPT_ENCODER}: {ENCODER}, PIXELS: the backend pytorch has no tensors of TYPE_UINT16" in message
    assert not (repository / ENCODER / "1").exists()
