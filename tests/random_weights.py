"""Random weights of a chosen scale. With transformers' own initial weights rounding hardly grows in the decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from sam3_export.architecture import Architecture
from torch import nn

if TYPE_CHECKING:
    from transformers import Sam3TrackerModel

_PRODUCTS = nn.Linear, nn.Conv2d, nn.ConvTranspose2d


def random_network(architecture: Architecture, scale: float, seed: int = 0) -> Sam3TrackerModel:
    """A network with random weights.

    Args:
        scale: of the outputs of each linear layer and convolution, for inputs of scale 1. It is 1 in the score head:
            scores that are saturated have no order.
    """
    torch.manual_seed(seed)  # before the network is built, because that draws the encoding of coordinates
    model = architecture.build()
    with torch.no_grad():
        for path, module in model.named_modules():
            own_scale = 1 if "iou_prediction_head" in path else scale
            for name, weight in module.named_parameters(recurse=False):
                if name == "bias":
                    weight.normal_(0, 0.1)
                elif isinstance(module, nn.LayerNorm):
                    weight.normal_(1, 0.2)
                elif isinstance(module, _PRODUCTS):
                    inputs = len(weight) if isinstance(module, nn.ConvTranspose2d) else weight[0].numel()
                    weight.normal_(0, own_scale / inputs**0.5)
                else:  # tokens and embeddings
                    weight.normal_(0, 1)
    return model
