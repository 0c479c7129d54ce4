"""The key names of Meta's `sam3.pt`, mapped to and from those of transformers' `Sam3TrackerModel`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

VISION = "detector.backbone.vision_backbone."
TRUNK = VISION + "trunk."
PROMPT = "tracker.sam_prompt_encoder."
DECODER = "tracker.sam_mask_decoder."

# transformers' name -> Meta's; the first match applies. `read` and `write` handle tensors that do not map one to one.
_RENAMES = [
    (r"^vision_encoder\.backbone\.embeddings\.patch_embeddings\.projection\.", TRUNK + "patch_embed.proj."),
    (r"^vision_encoder\.backbone\.embeddings\.position_embeddings$", TRUNK + "pos_embed"),
    (r"^vision_encoder\.backbone\.layer_norm\.", TRUNK + "ln_pre."),
    (r"^vision_encoder\.backbone\.layers\.(\d+)\.layer_norm(\d)\.", TRUNK + r"blocks.\1.norm\2."),
    (r"^vision_encoder\.backbone\.layers\.(\d+)\.attention\.o_proj\.", TRUNK + r"blocks.\1.attn.proj."),
    (r"^vision_encoder\.backbone\.layers\.(\d+)\.attention\.[qkv]_proj\.", TRUNK + r"blocks.\1.attn.qkv."),
    (r"^vision_encoder\.backbone\.layers\.", TRUNK + "blocks."),
    (r"^vision_encoder\.neck\.fpn_layers\.(\d+)\.proj1\.", VISION + r"sam2_convs.\1.conv_1x1."),
    (r"^vision_encoder\.neck\.fpn_layers\.(\d+)\.proj2\.", VISION + r"sam2_convs.\1.conv_3x3."),
    (r"^vision_encoder\.neck\.fpn_layers\.0\.scale_layers\.0\.", VISION + "sam2_convs.0.dconv_2x2_0."),
    (r"^vision_encoder\.neck\.fpn_layers\.0\.scale_layers\.2\.", VISION + "sam2_convs.0.dconv_2x2_1."),
    (r"^vision_encoder\.neck\.fpn_layers\.1\.scale_layers\.0\.", VISION + "sam2_convs.1.dconv_2x2."),
    (r"^no_memory_embedding$", "tracker.no_mem_embed"),
    (
        r"^(prompt_encoder\.shared|shared_image)_embedding\.positional_embedding$",
        PROMPT + "pe_layer.positional_encoding_gaussian_matrix",
    ),
    (r"^prompt_encoder\.mask_embed\.conv1\.", PROMPT + "mask_downscaling.0."),
    (r"^prompt_encoder\.mask_embed\.layer_norm1\.", PROMPT + "mask_downscaling.1."),
    (r"^prompt_encoder\.mask_embed\.conv2\.", PROMPT + "mask_downscaling.3."),
    (r"^prompt_encoder\.mask_embed\.layer_norm2\.", PROMPT + "mask_downscaling.4."),
    (r"^prompt_encoder\.mask_embed\.conv3\.", PROMPT + "mask_downscaling.6."),
    (r"^prompt_encoder\.point_embed\.weight$", PROMPT + "point_embeddings."),
    (r"^prompt_encoder\.", PROMPT),
    (r"^mask_decoder\.upscale_conv1\.", DECODER + "output_upscaling.0."),
    (r"^mask_decoder\.upscale_layer_norm\.", DECODER + "output_upscaling.1."),
    (r"^mask_decoder\.upscale_conv2\.", DECODER + "output_upscaling.3."),
    (r"^mask_decoder\.transformer\.(layers\.\d+)\.mlp\.proj_in\.", DECODER + r"transformer.\1.mlp.lin1."),
    (r"^mask_decoder\.transformer\.(layers\.\d+)\.mlp\.proj_out\.", DECODER + r"transformer.\1.mlp.lin2."),
    (r"^mask_decoder\.transformer\.(.*)\.o_proj\.", DECODER + r"transformer.\1.out_proj."),
    (r"^mask_decoder\.transformer\.(.*)layer_norm(\d|_final_attn)\.", DECODER + r"transformer.\1norm\2."),
    (r"^mask_decoder\.transformer\.", DECODER + "transformer."),
    # The heads: Meta numbers all layers of an MLP, transformers only those between the first and the last.
    (r"^mask_decoder\.(.*)\.layers\.0\.(weight|bias)$", DECODER + r"\1.layers.1.\2"),
    (r"^mask_decoder\.(.*)\.proj_in\.", DECODER + r"\1.layers.0."),
    (r"^mask_decoder\.(.*)\.proj_out\.", DECODER + r"\1.layers.2."),
    (r"^mask_decoder\.", DECODER),
]
_FUSED = re.compile(r"attention\.([qkv])_proj\.")
_POINT_LABELS = range(4)  # background, foreground, and the two corners of a box


def sam3_key(key: str) -> str:
    """Meta's name for transformers' `key`; for query, key and value their fused tensor, for points a common prefix."""
    for pattern, replacement in _RENAMES:
        renamed, count = re.subn(pattern, replacement, key)
        if count:
            return renamed
    raise KeyError(f"transformers' {key} has no counterpart in sam3.pt")


def read(checkpoint: Mapping[str, Tensor], key: str) -> Tensor:
    """Reads the tensor that transformers calls `key` from a checkpoint in the layout of `sam3.pt`.

    Raises:
        KeyError: the checkpoint lacks it; the exception's argument is its name in `sam3.pt`.
    """
    import torch

    source = sam3_key(key)
    if fused := _FUSED.search(key):
        return checkpoint[source].chunk(3)["qkv".index(fused[1])]
    if source.endswith("pos_embed"):
        return checkpoint[source][:, 1:]  # the first one belongs to a class token that SAM 3 does not use
    if source.endswith("point_embeddings."):
        return torch.cat([checkpoint[f"{source}{label}.weight"] for label in _POINT_LABELS])
    return checkpoint[source]


def write(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Converts a state of transformers' `Sam3TrackerModel` to the layout of `sam3.pt`; the inverse of `read`."""
    import torch

    checkpoint: dict[str, Tensor] = {}
    for key, tensor in state.items():
        target = sam3_key(key)
        if fused := _FUSED.search(key):
            if fused[1] == "q":
                parts = [state[key.replace("q_proj", f"{part}_proj")] for part in "qkv"]
                checkpoint[target] = torch.cat(parts)
        elif target.endswith("pos_embed"):
            checkpoint[target] = torch.cat([torch.zeros_like(tensor[:, :1]), tensor], dim=1)
        elif target.endswith("point_embeddings."):
            for label, row in enumerate(tensor.split(1)):
                checkpoint[f"{target}{label}.weight"] = row
        else:
            checkpoint[target] = tensor
    return checkpoint
