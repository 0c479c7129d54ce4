"""The key names of the concept half in Meta's checkpoints, mapped to and from those of `ConceptNetwork`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_TEXT = "detector.backbone.language_backbone."
_CLIP = _TEXT + "encoder."
_BLOCK = _CLIP + r"transformer.resblocks.\1."
_NECK = "detector.backbone.vision_backbone.convs."
_GEOMETRY = "detector.geometry_encoder."
_ENCODER = "detector.transformer.encoder."
_DECODER = "detector.transformer.decoder."
_MASKS = "detector.segmentation_head."
_SCORES = "detector.dot_prod_scoring."
# Every checkpoint with the concept half has keys with this prefix, and none without it.
PREFIX = _DECODER

# `ConceptNetwork`'s name -> Meta's; the first match applies. Meta fuses query, key and value: `read` and `write` split
# and join them.
_RENAMES = [
    (r"^levels\.0\.scale_layers\.0\.", _NECK + "0.dconv_2x2_0."),
    (r"^levels\.0\.scale_layers\.2\.", _NECK + "0.dconv_2x2_1."),
    (r"^levels\.1\.scale_layers\.0\.", _NECK + "1.dconv_2x2."),
    (r"^levels\.(\d)\.proj1\.", _NECK + r"\1.conv_1x1."),
    (r"^levels\.(\d)\.proj2\.", _NECK + r"\1.conv_3x3."),
    (r"^text_encoder\.embeddings\.token_embedding\.", _CLIP + "token_embedding."),
    (r"^text_encoder\.embeddings\.position_embedding\.weight$", _CLIP + "positional_embedding"),
    (r"^text_encoder\.encoder\.layers\.(\d+)\.self_attn\.[qkv]_proj\.", _BLOCK + "attn.in_proj_"),
    (r"^text_encoder\.encoder\.layers\.(\d+)\.self_attn\.out_proj\.", _BLOCK + "attn.out_proj."),
    (r"^text_encoder\.encoder\.layers\.(\d+)\.layer_norm(\d)\.", _BLOCK + r"ln_\2."),
    (r"^text_encoder\.encoder\.layers\.(\d+)\.mlp\.fc1\.", _BLOCK + "mlp.c_fc."),
    (r"^text_encoder\.encoder\.layers\.(\d+)\.mlp\.fc2\.", _BLOCK + "mlp.c_proj."),
    (r"^text_encoder\.final_layer_norm\.", _CLIP + "ln_final."),
    (r"^text_projection\.", _TEXT + "resizer."),
    (r"^geometry_encoder\.vision_layer_norm\.", _GEOMETRY + "img_pre_norm."),
    (r"^geometry_encoder\.prompt_layer_norm\.", _GEOMETRY + "norm."),
    (r"^geometry_encoder\.output_layer_norm\.", _GEOMETRY + "encode_norm."),
    *(
        (rf"^{own}\.layers\.(\d+)\.{part}", rf"{metas}\1.{metas_part}")
        for own, metas in (("geometry_encoder", _GEOMETRY + "encode."), ("detr_encoder", _ENCODER + "layers."))
        for part, metas_part in (
            (r"self_attn\.[qkv]_proj\.", "self_attn.in_proj_"),
            (r"cross_attn\.[qkv]_proj\.", "cross_attn_image.in_proj_"),
            (r"self_attn\.o_proj\.", "self_attn.out_proj."),
            (r"cross_attn\.o_proj\.", "cross_attn_image.out_proj."),
            (r"layer_norm(\d)\.", r"norm\2."),
            (r"mlp\.fc(\d)\.", r"linear\2."),
        )
    ),
    (r"^geometry_encoder\.", _GEOMETRY),
    *(
        (rf"^detr_decoder\.layers\.(\d+)\.{part}", rf"{_DECODER}layers.\1.{metas_part}")
        for part, metas_part in (
            (r"self_attn\.[qkv]_proj\.", "self_attn.in_proj_"),
            (r"text_cross_attn\.[qkv]_proj\.", "ca_text.in_proj_"),
            (r"vision_cross_attn\.[qkv]_proj\.", "cross_attn.in_proj_"),
            (r"self_attn\.o_proj\.", "self_attn.out_proj."),
            (r"text_cross_attn\.o_proj\.", "ca_text.out_proj."),
            (r"vision_cross_attn\.o_proj\.", "cross_attn.out_proj."),
            (r"self_attn_layer_norm\.", "norm2."),
            (r"text_cross_attn_layer_norm\.", "catext_norm."),
            (r"vision_cross_attn_layer_norm\.", "norm1."),
            (r"mlp_layer_norm\.", "norm3."),
            (r"mlp\.fc(\d)\.", r"linear\2."),
        )
    ),
    (r"^detr_decoder\.output_layer_norm\.", _DECODER + "norm."),
    (r"^detr_decoder\.presence_layer_norm\.", _DECODER + "presence_token_out_norm."),
    # Meta numbers the layers of an MLP from 0, transformers from 1.
    *(
        (rf"^{own}\.layer{number + 1}\.", f"{metas}.layers.{number}.")
        for own, metas in (
            (r"detr_decoder\.box_head", _DECODER + "bbox_embed"),
            (r"detr_decoder\.presence_head", _DECODER + "presence_token_head"),
            (r"detr_decoder\.ref_point_head", _DECODER + "ref_point_head"),
            (r"detr_decoder\.box_rpb_embed_x", _DECODER + "boxRPB_embed_x"),
            (r"detr_decoder\.box_rpb_embed_y", _DECODER + "boxRPB_embed_y"),
            (r"dot_product_scoring\.text_mlp", _SCORES + "prompt_mlp"),
        )
        for number in range(3)
    ),
    (r"^detr_decoder\.", _DECODER),
    (r"^mask_decoder\.mask_embedder\.", _MASKS + "mask_predictor.mask_embed."),
    (r"^mask_decoder\.instance_projection\.", _MASKS + "instance_seg_head."),
    (r"^mask_decoder\.semantic_projection\.", _MASKS + "semantic_seg_head."),
    (r"^mask_decoder\.prompt_cross_attn\.[qkv]_proj\.", _MASKS + "cross_attend_prompt.in_proj_"),
    (r"^mask_decoder\.prompt_cross_attn\.o_proj\.", _MASKS + "cross_attend_prompt.out_proj."),
    (r"^mask_decoder\.prompt_cross_attn_norm\.", _MASKS + "cross_attn_norm."),
    (r"^mask_decoder\.", _MASKS),
    (r"^dot_product_scoring\.text_mlp_out_norm\.", _SCORES + "prompt_mlp.out_norm."),
    (r"^dot_product_scoring\.text_proj\.", _SCORES + "prompt_proj."),
    (r"^dot_product_scoring\.query_proj\.", _SCORES + "hs_proj."),
]
_FUSED = re.compile(r"\.([qkv])_proj\.")


def is_in(keys: Iterable[str]) -> bool:
    """Whether a checkpoint with these keys has the concept half."""
    return any(key.startswith(PREFIX) for key in keys)


def metas_name(key: str) -> str:
    """Meta's name for `ConceptNetwork`'s `key`: for query, key and value, that of their fused tensor.

    Raises:
        ValueError: the network has no such key.
    """
    for pattern, replacement in _RENAMES:
        renamed, count = re.subn(pattern, replacement, key)
        if count:
            return renamed
    raise ValueError(f"{key} has no counterpart in Meta's checkpoints")


def read(checkpoint: Mapping[str, Tensor], key: str) -> Tensor:
    """Reads the tensor that `ConceptNetwork` calls `key` from a checkpoint of Meta's.

    Raises:
        KeyError: the checkpoint lacks it; the exception's argument is Meta's name for it.
    """
    tensor = checkpoint[metas_name(key)]
    fused = _FUSED.search(key)
    return tensor.chunk(3)["qkv".index(fused[1])] if fused else tensor


def write(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Converts a state of `ConceptNetwork` to Meta's layout; the inverse of `read`."""
    import torch

    checkpoint: dict[str, Tensor] = {}
    for key, tensor in state.items():
        fused = _FUSED.search(key)
        if not fused:
            checkpoint[metas_name(key)] = tensor
        elif fused[1] == "q":
            parts = [state[key.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"]
            checkpoint[metas_name(key)] = torch.cat(parts)
    return checkpoint
