"""What the attention of several components has in common."""

from __future__ import annotations

import torch
from torch import Tensor

# Added to the attention scores of what must not be seen, so that its softmax weight is exactly 0. It is well within the
# range of fp16 and, unlike -inf, cannot produce NaN.
HIDDEN = -1e4


def hide(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """A bias on attention scores: `HIDDEN` where `hidden` (bool, any shape) is true, else 0."""
    return torch.zeros_like(hidden, dtype=dtype).masked_fill(hidden, HIDDEN)
