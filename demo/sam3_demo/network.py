"""The demonstration network: its sizes, its initial weights, and its answers during training."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from sam3_export.architecture import Architecture
from sam3_export.components.image_encoder import ImageEncoder
from sam3_export.components.mask_decoder import MaskDecoder
from torch import Tensor, nn

from sam3_demo.initial import initialise
from sam3_demo.prompts import Prompts

if TYPE_CHECKING:
    from transformers import Sam3TrackerModel

DEMO = Architecture(
    image_size=252,
    pretrain_image_size=126,
    hidden_size=192,
    intermediate_size=768,
    num_hidden_layers=6,
    num_attention_heads=6,
    window_size=9,
    global_attn_indexes=(2, 5),
    fpn_hidden_size=96,
    decoder_mlp_size=256,
)


def fresh(image_size: int) -> Sam3TrackerModel:
    """A network for pictures of `image_size` pixels, with its initial weights, in training mode."""
    model = replace(DEMO, image_size=image_size).build()
    initialise(model)
    return model.train()


class Halves(nn.Module):
    """Encoder and decoder as they are served, with gradients."""

    def __init__(self, model: Sam3TrackerModel) -> None:
        super().__init__()
        self.encoder = ImageEncoder(model)
        self.decoder = MaskDecoder(model)
        self.tokens: Tensor | None = None  # fp32 [B, g * g, C], the backbone's last output
        self.encoder.backbone.register_forward_hook(self._keep_tokens)

    def _keep_tokens(self, module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        self.tokens = output.last_hidden_state  # type: ignore[attr-defined]

    def answer(
        self, features: tuple[Tensor, Tensor, Tensor], prompts: Prompts, masks: Tensor, has_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Every mask token's answer: logits fp32 [T, 4, h, w] and scores fp32 [T, 4].

        Args:
            features: the encoder's output for B pictures; T is a multiple of B, with each picture's prompts adjacent.
            masks: fp32 [T, 1, h, w], earlier logits; used where `has_mask`, bool [T, 1], is true.
        """
        high_res_0, high_res_1, embedding = (
            feature.repeat_interleave(len(masks) // len(feature), 0) for feature in features
        )
        coords, labels = prompts.padded()
        decoder = self.decoder
        pixels = decoder._pixels(embedding, masks, has_mask, labels[:, None])
        sparse = decoder._sparse(coords[:, None], labels[:, None])
        logits, scores = decoder._all_tokens(pixels, [high_res_0, high_res_1], sparse)
        return logits[:, 0], scores[:, 0]


@torch.no_grad()
def average(target: nn.Module, source: nn.Module, share: float) -> None:
    """Moves the weights of `target` towards those of `source` by `share`."""
    own = target.state_dict()
    torch._foreach_lerp_(list(own.values()), list(source.state_dict().values()), share)
