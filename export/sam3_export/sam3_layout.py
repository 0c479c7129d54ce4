"""The key names of Meta's checkpoints, mapped to and from those of transformers' `Sam3TrackerModel`.

SAM 3.1's network for clicks is SAM 3's, under other names. Its file also holds the parts of other tasks, some of them
under names that SAM 3 uses for clicks, so every tensor must be read from its own layout.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_VISION = "detector.backbone.vision_backbone."


@dataclass(frozen=True)
class Layout:
    """The names of the click path in one release's checkpoint.

    Attributes:
        release: the model's name.
        file_name: of Meta's checkpoint.
        neck: the neck's levels, below the vision backbone's prefix. SAM 3's file has a fourth one, which clicks do not
            use.
        tracker: prefix of the tracker's keys.
        heads: prefix, below the tracker's, of the prompt encoder and the mask decoder.
        no_memory: the embedding that is added to the image embedding, below the tracker's prefix.
        sigmoid_scores: whether the scores pass a sigmoid (`iou_prediction_use_sigmoid` in Meta's code).
    """

    release: str
    file_name: str
    neck: str
    tracker: str
    heads: str
    no_memory: str
    sigmoid_scores: bool

    @property
    def prefixes(self) -> tuple[str, str]:
        """The prefixes by which a file of this layout is recognised."""
        return f"{_VISION}{self.neck}.", self.tracker


SAM3 = Layout(
    release="SAM 3",
    file_name="sam3.pt",
    neck="sam2_convs",
    tracker="tracker.",
    heads="sam",
    no_memory="no_mem_embed",
    sigmoid_scores=True,
)
SAM31 = Layout(
    release="SAM 3.1",
    file_name="sam3.1_multiplex.pt",
    neck="interactive_convs",
    tracker="tracker.model.",
    heads="interactive_sam",
    no_memory="interactivity_no_mem_embed",
    sigmoid_scores=False,
)
# The first match applies: SAM 3's prefix for the tracker is also a prefix of SAM 3.1's.
LAYOUTS = (SAM31, SAM3)

_TRUNK = _VISION + "trunk."
_NECK = _VISION + "{neck}."
_PROMPT = "{tracker}{heads}_prompt_encoder."
_DECODER = "{tracker}{heads}_mask_decoder."

# transformers' name -> Meta's, with a layout's attributes in braces; the first match applies. `read` and `write` handle
# tensors that do not map one to one.
_RENAMES = [
    (r"^vision_encoder\.backbone\.embeddings\.patch_embeddings\.projection\.", _TRUNK + "patch_embed.proj."),
    (r"^vision_encoder\.backbone\.embeddings\.position_embeddings$", _TRUNK + "pos_embed"),
    (r"^vision_encoder\.backbone\.layer_norm\.", _TRUNK + "ln_pre."),
    (r"^vision_encoder\.backbone\.layers\.(\d+)\.layer_norm(\d)\.", _TRUNK + r"blocks.\1.norm\2."),
    (r"^vision_encoder\.backbone\.layers\.(\d+)\.attention\.o_proj\.", _TRUNK + r"blocks.\1.attn.proj."),
    (r"^vision_encoder\.backbone\.layers\.(\d+)\.attention\.[qkv]_proj\.", _TRUNK + r"blocks.\1.attn.qkv."),
    (r"^vision_encoder\.backbone\.layers\.", _TRUNK + "blocks."),
    (r"^vision_encoder\.neck\.fpn_layers\.(\d+)\.proj1\.", _NECK + r"\1.conv_1x1."),
    (r"^vision_encoder\.neck\.fpn_layers\.(\d+)\.proj2\.", _NECK + r"\1.conv_3x3."),
    (r"^vision_encoder\.neck\.fpn_layers\.0\.scale_layers\.0\.", _NECK + "0.dconv_2x2_0."),
    (r"^vision_encoder\.neck\.fpn_layers\.0\.scale_layers\.2\.", _NECK + "0.dconv_2x2_1."),
    (r"^vision_encoder\.neck\.fpn_layers\.1\.scale_layers\.0\.", _NECK + "1.dconv_2x2."),
    (r"^no_memory_embedding$", "{tracker}{no_memory}"),
    (
        r"^(prompt_encoder\.shared|shared_image)_embedding\.positional_embedding$",
        _PROMPT + "pe_layer.positional_encoding_gaussian_matrix",
    ),
    (r"^prompt_encoder\.mask_embed\.conv1\.", _PROMPT + "mask_downscaling.0."),
    (r"^prompt_encoder\.mask_embed\.layer_norm1\.", _PROMPT + "mask_downscaling.1."),
    (r"^prompt_encoder\.mask_embed\.conv2\.", _PROMPT + "mask_downscaling.3."),
    (r"^prompt_encoder\.mask_embed\.layer_norm2\.", _PROMPT + "mask_downscaling.4."),
    (r"^prompt_encoder\.mask_embed\.conv3\.", _PROMPT + "mask_downscaling.6."),
    (r"^prompt_encoder\.point_embed\.weight$", _PROMPT + "point_embeddings."),
    (r"^prompt_encoder\.", _PROMPT),
    (r"^mask_decoder\.upscale_conv1\.", _DECODER + "output_upscaling.0."),
    (r"^mask_decoder\.upscale_layer_norm\.", _DECODER + "output_upscaling.1."),
    (r"^mask_decoder\.upscale_conv2\.", _DECODER + "output_upscaling.3."),
    (r"^mask_decoder\.transformer\.(layers\.\d+)\.mlp\.proj_in\.", _DECODER + r"transformer.\1.mlp.lin1."),
    (r"^mask_decoder\.transformer\.(layers\.\d+)\.mlp\.proj_out\.", _DECODER + r"transformer.\1.mlp.lin2."),
    (r"^mask_decoder\.transformer\.(.*)\.o_proj\.", _DECODER + r"transformer.\1.out_proj."),
    (r"^mask_decoder\.transformer\.(.*)layer_norm(\d|_final_attn)\.", _DECODER + r"transformer.\1norm\2."),
    (r"^mask_decoder\.transformer\.", _DECODER + "transformer."),
    # The heads: Meta numbers all layers of an MLP, transformers only those between the first and the last.
    (r"^mask_decoder\.(.*)\.layers\.0\.(weight|bias)$", _DECODER + r"\1.layers.1.\2"),
    (r"^mask_decoder\.(.*)\.proj_in\.", _DECODER + r"\1.layers.0."),
    (r"^mask_decoder\.(.*)\.proj_out\.", _DECODER + r"\1.layers.2."),
    (r"^mask_decoder\.", _DECODER),
]
_FUSED = re.compile(r"attention\.([qkv])_proj\.")
_POINT_LABELS = range(4)  # background, foreground, and the two corners of a box


def recognise(keys: Iterable[str]) -> Layout | None:
    """The layout of a checkpoint with these keys, even if some are missing; None if it is neither."""
    names = tuple(keys)
    return next((layout for layout in LAYOUTS if any(name.startswith(layout.prefixes) for name in names)), None)


def metas_names(key: str, layout: Layout) -> tuple[str, ...]:
    """Meta's names for transformers' `key`: for query, key and value their fused tensor, for points one for each row.

    Raises:
        ValueError: transformers' network has no such key.
    """
    for pattern, replacement in _RENAMES:
        renamed, count = re.subn(pattern, replacement.format_map(asdict(layout)), key)
        if count and renamed.endswith("point_embeddings."):
            return tuple(f"{renamed}{label}.weight" for label in _POINT_LABELS)
        if count:
            return (renamed,)
    raise ValueError(f"transformers' {key} has no counterpart in {layout.file_name}")


def read(checkpoint: Mapping[str, Tensor], key: str, layout: Layout) -> Tensor:
    """Reads the tensor that transformers calls `key` from a checkpoint of Meta's.

    Raises:
        KeyError: the checkpoint lacks it; the exception's argument is Meta's name for it.
    """
    import torch

    names = metas_names(key, layout)
    tensors = [checkpoint[name] for name in names]
    if fused := _FUSED.search(key):
        return tensors[0].chunk(3)["qkv".index(fused[1])]
    if names[0].endswith("pos_embed"):
        return tensors[0][:, 1:]  # the first one belongs to a class token that SAM 3 does not use
    return torch.cat(tensors) if len(tensors) > 1 else tensors[0]


def write(state: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Converts a state of transformers' `Sam3TrackerModel` to a layout of Meta's; the inverse of `read`."""
    import torch

    checkpoint: dict[str, Tensor] = {}
    for key, tensor in state.items():
        names = metas_names(key, layout)
        if fused := _FUSED.search(key):
            if fused[1] == "q":
                parts = [state[key.replace("q_proj", f"{part}_proj")] for part in "qkv"]
                checkpoint[names[0]] = torch.cat(parts)
        elif names[0].endswith("pos_embed"):
            checkpoint[names[0]] = torch.cat([torch.zeros_like(tensor[:, :1]), tensor], dim=1)
        elif len(names) > 1:
            checkpoint.update(zip(names, tensor.split(1), strict=True))
        else:
            checkpoint[names[0]] = tensor
    return checkpoint
