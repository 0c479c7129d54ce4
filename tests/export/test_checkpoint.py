from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import golden
import pytest
import torch
from sam3_export import checkpoint
from sam3_export.errors import ExportError
from torch import nn

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def altered(tmp_path: Path) -> Callable[[Callable[[Tensors], Any]], Path]:
    """Saves the golden checkpoint with a change."""

    def save(change: Callable[[Tensors], Any]) -> Path:
        content = torch.load(golden.CHECKPOINT, weights_only=True)
        change(content["model"])
        path = tmp_path / "altered.pt"
        torch.save(content, path)
        return path

    return save


def test_every_tensor_of_the_network_comes_from_the_file() -> None:
    loaded = checkpoint.load(str(golden.CHECKPOINT), golden.CONFIG)
    source = torch.load(golden.CHECKPOINT, weights_only=True)["model"]
    state = loaded.model.state_dict()
    layer = "vision_encoder.backbone.layers.2."
    fused = source["detector.backbone.vision_backbone.trunk.blocks.2.attn.qkv.weight"].float()
    for start, part in ((0, "q"), (96, "k"), (192, "v")):
        torch.testing.assert_close(state[f"{layer}attention.{part}_proj.weight"], fused[start : start + 96])
    points = [source[f"tracker.sam_prompt_encoder.point_embeddings.{label}.weight"] for label in range(4)]
    torch.testing.assert_close(state["prompt_encoder.point_embed.weight"], torch.cat(points).float())
    positions = source["detector.backbone.vision_backbone.trunk.pos_embed"]
    torch.testing.assert_close(
        state["vision_encoder.backbone.embeddings.position_embeddings"], positions[:, 1:].float()
    )
    head = source["tracker.sam_mask_decoder.iou_prediction_head.layers.1.weight"]
    torch.testing.assert_close(state["mask_decoder.iou_prediction_head.layers.0.weight"], head.float())
    assert loaded.sha256 == "3062c69314c70a117758e880a06bee6e9fa24ce45097171d91627d7736d2d53a"


def test_a_checkpoint_without_the_wrapper_loads(tmp_path: Path) -> None:
    path = tmp_path / "bare.pt"
    torch.save(torch.load(golden.CHECKPOINT, weights_only=True)["model"], path)
    assert checkpoint.load(str(path), golden.CONFIG).architecture.image_size == 336


def test_a_transformers_directory_gives_the_same_network(tmp_path: Path) -> None:
    original = checkpoint.load(str(golden.CHECKPOINT), golden.CONFIG)
    original.model.save_pretrained(tmp_path)
    config = (tmp_path / "config.json").read_text()
    assert '"layer_norm_eps": 1e-05' in config
    # As transformers' own conversion writes it: with an epsilon that is not Meta's.
    (tmp_path / "config.json").write_text(config.replace('"layer_norm_eps": 1e-05', '"layer_norm_eps": 1e-06'))
    loaded = checkpoint.load(str(tmp_path))
    assert loaded.architecture == original.architecture
    for key, tensor in original.model.state_dict().items():
        torch.testing.assert_close(loaded.model.state_dict()[key], tensor)
    norms = [module for module in loaded.model.vision_encoder.backbone.modules() if isinstance(module, nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {1e-5}


def test_the_layout_of_the_hubs_checkpoint_loads(tmp_path: Path) -> None:
    # facebook/sam3 holds the video model: the backbone under the detector, the tracker's neck beside it.
    from safetensors.torch import save_file

    original = checkpoint.load(str(golden.CHECKPOINT), golden.CONFIG)
    prefixes = {
        "vision_encoder.backbone.": "detector_model.vision_encoder.backbone.",
        "vision_encoder.neck.": "tracker_neck.",
    }
    tensors = {"detector_model.text_projection.weight": torch.zeros(2, 2)}
    for key, tensor in original.model.state_dict().items():
        prefix = next((prefix for prefix in prefixes if key.startswith(prefix)), "")
        tensors[prefixes.get(prefix, "tracker_model.") + key.removeprefix(prefix)] = tensor.clone()
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    config = {"model_type": "sam3_video", "tracker_config": original.model.config.to_dict()}
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = checkpoint.load(str(tmp_path))
    assert loaded.architecture == original.architecture
    for key, tensor in original.model.state_dict().items():
        torch.testing.assert_close(loaded.model.state_dict()[key], tensor)


def test_a_directory_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    checkpoint.load(str(golden.CHECKPOINT), golden.CONFIG).model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights[next(key for key in weights if key.endswith("mask_decoder.iou_token.weight"))]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ExportError, match=r"lacks the key mask_decoder.iou_token.weight"):
        checkpoint.load(str(tmp_path))


def test_a_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no \\*.safetensors"):
        checkpoint.load(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ExportError, match="not a transformers checkpoint of SAM 3"):
        checkpoint.load(str(tmp_path))


def test_a_missing_key_is_named(altered: Callable) -> None:
    path = altered(lambda tensors: tensors.pop("tracker.no_mem_embed"))
    with pytest.raises(ExportError, match=r"altered.pt: lacks the key tracker.no_mem_embed; expected the layout"):
        checkpoint.load(str(path), golden.CONFIG)


def test_several_missing_keys_are_counted(altered: Callable) -> None:
    def remove(tensors: Tensors) -> None:
        for key in [key for key in tensors if "blocks.1.attn.qkv" in key]:
            del tensors[key]

    with pytest.raises(ExportError, match=r"blocks.1.attn.qkv.bias and 1 more"):
        checkpoint.load(str(altered(remove)), golden.CONFIG)


def test_a_wrong_shape_is_named(altered: Callable) -> None:
    path = altered(lambda tensors: tensors.update({"tracker.sam_mask_decoder.iou_token.weight": torch.zeros(2, 256)}))
    with pytest.raises(ExportError, match=r"iou_token.weight.*\(2, 256\).*\(1, 256\)"):
        checkpoint.load(str(path), golden.CONFIG)


def test_a_tensor_that_cannot_be_split_is_named(altered: Callable) -> None:
    key = "detector.backbone.vision_backbone.trunk.blocks.0.attn.qkv.weight"
    path = altered(lambda tensors: tensors.update({key: torch.zeros(2)}))
    with pytest.raises(ExportError, match=r"altered.pt: .*blocks.0.attn.qkv.weight"):
        checkpoint.load(str(path), golden.CONFIG)


def test_sizes_that_do_not_fit_point_to_config(tmp_path: Path) -> None:
    small = tmp_path / "small.json"
    small.write_text(golden.CONFIG.read_text().replace('"hidden_size": 96', '"hidden_size": 48'))
    with pytest.raises(ExportError, match="--config"):
        checkpoint.load(str(golden.CHECKPOINT), small)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 a broken zip"])
def test_a_file_that_is_not_a_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.pt"
    path.write_bytes(content)
    with pytest.raises(ExportError, match="broken.pt: not a PyTorch checkpoint"):
        checkpoint.load(str(path), golden.CONFIG)


def test_a_pickle_with_code_in_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "code.pt"
    torch.save({"model": Path("a class that is no tensor")}, path)
    with pytest.raises(ExportError, match="code.pt: not a PyTorch checkpoint of plain tensors"):
        checkpoint.load(str(path), golden.CONFIG)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.pt"
    torch.save([1, 2], path)
    with pytest.raises(ExportError, match="holds a list"):
        checkpoint.load(str(path), golden.CONFIG)


def test_a_file_that_does_not_exist_is_reported() -> None:
    with pytest.raises(ExportError, match="nowhere/sam3.pt: no such file or directory"):
        checkpoint.load("nowhere/sam3.pt")
