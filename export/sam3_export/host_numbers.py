"""Keeps a trace's arithmetic with sizes on the host."""

from __future__ import annotations

from typing import Any

import torch

_ARITHMETIC = ("aten::add", "aten::sub", "aten::mul", "aten::div", "aten::floor_divide", "aten::remainder")


def keep_on_host(module: torch.jit.ScriptModule) -> None:
    """Turns numbers that a frozen trace holds as tensors into numbers, wherever they are the second operand.

    Tracing makes a tensor of the 14 in `height // 14`. On a GPU that constant goes there with the weights, and each
    such division becomes a kernel, and a wait for its answer on the host, which needs the size as a number.
    """
    graph: Any = module.graph  # PyTorch declares little of it
    for node in graph.findAllNodes("prim::Constant"):
        if not (node.hasAttribute("value") and node.kindOf("value") == "t" and node.t("value").dim() == 0):
            continue
        number = graph.insertConstant(node.t("value").item())
        number.node().moveBefore(node)
        for use in node.output().uses():
            if use.user.kind() in _ARITHMETIC and use.offset == 1:
                use.user.replaceInputWith(node.output(), number)
    torch._C._jit_pass_dce(graph)
