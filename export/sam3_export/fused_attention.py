"""Writes each attention as one operator, ONNX Runtime's `com.microsoft.MultiHeadAttention`.

ONNX itself has no attention operator before opset 23, and ONNX Runtime 1.19 reads 21. Written out, attention stores the
scores of all pairs of tokens: 1.7 GB in fp32 for each of SAM 3's four global layers. The operator computes them in
blocks that fit into a cache: on a CPU, and as flash attention with the CUDA provider.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

OPERATOR = "com.microsoft::MultiHeadAttention"
_NAME = "sam3_fused"


@contextmanager
def fused_attention(module: nn.Module) -> Iterator[None]:
    """While it is open, `torch.onnx.export` writes every attention of transformers' in `module` as the operator.

    The module cannot run then: `torch.onnx.ops.symbolic` computes nothing.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(_NAME, _attention)
    configs: list[Any] = list(
        {id(part.config): part.config for part in module.modules() if hasattr(part, "config")}.values()
    )
    earlier = [config._attn_implementation for config in configs]
    try:
        for config in configs:
            config._attn_implementation = _NAME
        yield
    finally:
        for config, name in zip(configs, earlier, strict=True):
            config._attn_implementation = name


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers calls it: query [B, H, Q, D], key and value [B, H, K, D] to [B, Q, H, D]."""
    batch, heads, length = query.shape[:3]
    bias = attention_mask
    if bias is not None:
        # ONNX Runtime 1.19 refuses a bias of one head, and on a CPU answers wrongly with one for the whole batch.
        bias = bias.to(query.dtype).expand(batch, heads, length, -1)
    # It also takes keys and values by head, but in ONNX Runtime 1.19 on a CPU it then writes the scores out.
    attended = torch.onnx.ops.symbolic(
        OPERATOR,
        (*(tensor.transpose(1, 2).flatten(2) for tensor in (query, key, value)), None, None, bias),
        {"num_heads": heads, "scale": scaling},
        dtype=query.dtype,
        shape=(batch, length, heads * value.shape[3]),
        version=1,
    )
    return attended.unflatten(2, (heads, -1)), None
