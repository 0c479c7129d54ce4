"""First weights that make so small a network learn within an hour or two.

They were found by trying, several at a time: the reasons given here are what was seen and thought, not the result of
taking each away alone.
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
    """Draws the weights anew, with PyTorch's own defaults for what is not named below.

    Transformers draws every weight from a normal distribution of 0.02, which is far too small for so narrow a
    network: its masks stay empty.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.Embedding):
            module.reset_parameters()
    embeddings = model.vision_encoder.backbone.embeddings
    embeddings.patch_embeddings.projection.weight.copy_(waves(model.config.vision_config.backbone_config.patch_size))
    embeddings.position_embeddings.normal_(0, 0.2)
    # One table in sam3.pt: points and pixels must speak of places in the same terms.
    table = model.shared_image_embedding.positional_embedding
    model.prompt_encoder.shared_embedding.positional_embedding.copy_(table)
    _quieten(model)
    # Places find each other from the start: a query and a key of the same place are alike.
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
    """Makes what a patch shows quieter than where it is, and fixes the layers that would make it loud again.

    The embedded position has a standard deviation of 0.7. Content that is several times as loud, as it soon becomes,
    hides the click from the decoder: its masks then show every object of a picture, whichever is clicked. Fixed
    layers cost nothing, since the layers before them learn.
    """
    coarse, decoder = model.vision_encoder.neck.fpn_layers[2], model.mask_decoder
    for layer, share in ((coarse.proj2, 0.2), (decoder.conv_s0, 0.3), (decoder.conv_s1, 0.12)):
        layer.weight.mul_(share)
    for fixed in (coarse, decoder.conv_s0, decoder.conv_s1):
        fixed.requires_grad_(False)


def waves(side: int) -> Tensor:
    """Kernels [192, 3, side, side] that see a patch as cosine waves, the fine ones as loud as the coarse.

    Neighbouring pixels are nearly equal, so random kernels all see little but the mean colour of a patch, and it
    takes long until edges within it come through.
    """
    places = (torch.arange(side) + 0.5) / side
    axis = torch.stack([torch.cos(math.pi * k * places) * (2 if k else 1) ** 0.5 for k in range(_FREQUENCIES)])
    colours = torch.nn.functional.normalize(torch.tensor(_COLOUR_AXES), dim=1)
    kernels = torch.einsum("yu,xv,cr->yxcruv", axis, axis, colours) / side
    frequencies = torch.arange(_FREQUENCIES).float()
    gains = 1.5 / side * (1 + (frequencies[:, None] ** 2 + frequencies**2).sqrt()) ** 1.5
    kernels = kernels * gains[:, :, None, None, None, None] * torch.tensor(_COLOUR_GAINS)[:, None, None, None]
    return kernels.flatten(0, 2)
