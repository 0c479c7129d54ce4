"""Keeps a traced module's arithmetic with sizes on the host."""

from __future__ import annotations

from typing import Any

import torch

_ARITHMETIC = ("aten::add", "aten::sub", "aten::mul", "aten::div", "aten::floor_divide", "aten::remainder")


def keep_on_host(module: torch.jit.ScriptModule) -> None:
    """Replaces scalar tensors in a frozen trace by plain numbers, where they are the second operand of arithmetic.

    Tracing turns the 14 in `height // 14` into a tensor. On a GPU that constant moves there with the weights. Each
    division then becomes a kernel, and the host waits for its result, because it needs the size as a number.
    """
    graph: Any = module.graph  # PyTorch's type hints cover little of it
    for node in graph.findAllNodes("prim::Constant"):
        if not (node.hasAttribute("value") and node.kindOf("value") == "t" and node.t("value").dim() == 0):
            continue
        number = graph.insertConstant(node.t("value").item())
        number.node().moveBefore(node)
        for use in node.output().uses():
            if use.user.kind() in _ARITHMETIC and use.offset == 1:
                use.user.replaceInputWith(node.output(), number)
    torch._C._jit_pass_dce(graph)
