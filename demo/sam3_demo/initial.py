"""Initial weights with which this small network learns within an hour or two.

They were found by trial, several at a time. The reasons given here are observations and guesses: no change was measured
alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import Sam3TrackerModel

_FREQUENCIES = 8  # along each axis; 8 x 8 waves in 3 colour axes are the 192 channels
_COLOUR_AXES = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (1.0, -2.0, 1.0))  # grey, red to blue, green to violet
_COLOUR_GAINS = (1.0, 2.0, 2.0)


@torch.no_grad()
def initialise(model: Sam3TrackerModel) -> None:
    """Replaces the model's weights, by PyTorch's defaults unless set below.

    Transformers draws every weight from a normal distribution with standard deviation 0.02. That is far too small for
    such a narrow network: its masks stay empty.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.Embedding):
            module.reset_parameters()
    embeddings = model.vision_encoder.backbone.embeddings
    embeddings.patch_embeddings.projection.weight.copy_(waves(model.config.vision_config.backbone_config.patch_size))
    embeddings.position_embeddings.normal_(0, 0.2)
    # sam3.pt holds one table: points and pixels must encode positions alike.
    table = model.shared_image_embedding.positional_embedding
    model.prompt_encoder.shared_embedding.positional_embedding.copy_(table)
    _quieten(model)
    # Attention matches positions from the start: the query and the key of one position are alike.
    model.prompt_encoder.point_embed.weight.mul_(0.3)
    model.mask_decoder.mask_tokens.weight.mul_(0.5)
    transformer = model.mask_decoder.transformer
    attentions = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        attentions += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    for attention in attentions:
        attention.q_proj.weight.mul_(2.5)
        attention.k_proj.weight.copy_(attention.q_proj.weight)


def _quieten(model: Sam3TrackerModel) -> None:
    """Scales a patch's content below its position, and freezes the layers that could scale it up again.

    The position embedding has a standard deviation of 0.7. Without this, the content soon becomes several times as
    large and hides the click from the decoder: its masks then show every object of a picture, whichever is clicked.
    Freezing these layers costs nothing, since the layers before them learn.
    """
    coarse, decoder = model.vision_encoder.neck.fpn_layers[2], model.mask_decoder
    for layer, share in ((coarse.proj2, 0.2), (decoder.conv_s0, 0.3), (decoder.conv_s1, 0.12)):
        layer.weight.mul_(share)
    for fixed in (coarse, decoder.conv_s0, decoder.conv_s1):
        fixed.requires_grad_(False)


def waves(side: int) -> Tensor:
    """Kernels [192, 3, side, side] of cosine waves, scaled so that fine waves respond as strongly as coarse ones.

    Neighbouring pixels are nearly equal, so random kernels respond to little but the mean colour of a patch, and learn
    its edges slowly.
    """
    places = (torch.arange(side) + 0.5) / side
    axis = torch.stack([torch.cos(math.pi * k * places) * (2 if k else 1) ** 0.5 for k in range(_FREQUENCIES)])
    colours = torch.nn.functional.normalize(torch.tensor(_COLOUR_AXES), dim=1)
    kernels = torch.einsum("yu,xv,cr->yxcruv", axis, axis, colours) / side
    frequencies = torch.arange(_FREQUENCIES).float()
    gains = 1.5 / side * (1 + (frequencies[:, None] ** 2 + frequencies**2).sqrt()) ** 1.5
    kernels = kernels * gains[:, :, None, None, None, None] * torch.tensor(_COLOUR_GAINS)[:, None, None, None]
    return kernels.flatten(0, 2)
