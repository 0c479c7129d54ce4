"""Muon for the matrices, AdamW for the rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

_MOMENTUM = 0.95
_MATRIX_DECAY = 0.05
# Coefficients of the Newton-Schulz iteration, from Keller Jordan's Muon.
_A, _B, _C = 3.4445, -4.7750, 2.0315


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonal updates, so that every direction of a matrix learns at the same rate.

    The update is scaled to AdamW's usual size (0.2 per element), so one learning rate fits both.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # without a closure
        """Updates the matrices; those of equal shape as one batch."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.shape].append(parameter)
            for shape, parameters in alike.items():
                # A kernel counts as a matrix from its input pixels to its output channels.
                updates = orthogonal(torch.stack([self._momentum(parameter).flatten(1) for parameter in parameters]))
                scale = 0.2 * max(updates.shape[1:]) ** 0.5 * group["lr"]
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * _MATRIX_DECAY).sub_(update.reshape(shape), alpha=scale)

    def _momentum(self, parameter: nn.Parameter) -> Tensor:
        gradient = parameter.grad
        assert gradient is not None  # `step` takes the parameters that have one
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - _MOMENTUM)
        return gradient.lerp(state["momentum"], _MOMENTUM)


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest orthogonal matrices, roughly (singular values about 0.7 to 1.2); fp32 [K, rows, columns]."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(5):
        square = x @ x.transpose(1, 2)
        x = _A * x + (_B * square + _C * square @ square) @ x
    return x.transpose(1, 2) if tall else x


def optimisers(modules: Iterable[nn.Module], rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the weights of linear and convolution layers; AdamW, at half the rate, for all other parameters."""
    matrices: dict[nn.Parameter, None] = {}
    others: dict[nn.Parameter, None] = {}
    for module in modules:
        kinds = nn.Linear | nn.Conv2d | nn.ConvTranspose2d
        linear = {id(layer.weight) for layer in module.modules() if isinstance(layer, kinds)}
        for parameter in module.parameters():
            (matrices if id(parameter) in linear else others)[parameter] = None
    return [Muon(matrices, rate), torch.optim.AdamW(others, rate / 2, betas=(0.9, 0.98), weight_decay=0.01, fused=True)]
