"""What the stages of one worker share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from sam3_export.checkpoint import Checkpoint

from benchmarks.gpu import networks
from benchmarks.gpu.messages import SkippedError
from benchmarks.gpu.networks import Network
from benchmarks.gpu.timing import Amount, median_ms

Figures = dict[str, Any]


class Context:
    """The network on its device, and how much is measured."""

    def __init__(self, folder: Path, shared: Path, small: bool) -> None:
        """
        Args:
            folder: for files that this worker needs.
            shared: for files that later workers of the run need, too.
            small: the demonstration model on the CPU, and few calls.
        """
        self.folder = folder
        self.shared = shared
        self.small = small
        self.device = torch.device("cpu" if small else "cuda")
        self.amount = Amount(2, 0) if small else Amount(10, 1.0)
        # PyTorch's fp16 and bf16 are too slow on most CPUs.
        self.precisions = ("fp32",) if small else ("fp16", "bf16")
        # The reference is fp32, not TF32. cuDNN's default for convolutions is TF32.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The weights, in fp32 on the device."""
        return networks.demonstration(self.device) if self.small else networks.full_size(self.device)

    @cached_property
    def network(self) -> Network:
        """The half for clicks."""
        return Network(self.checkpoint, self.device)

    @cached_property
    def gemm_tflops(self) -> dict[str, float]:
        """TFLOP/s of a large matrix product by precision: the peak to compare with."""
        side, found = (256 if self.small else 8192), {}
        for precision in self.precisions:
            dtype = networks.DTYPES[precision]
            # Random numbers: on zeros a GPU draws less power and is faster.
            left, right = (torch.randn(side, side, device=self.device).to(dtype) for _ in range(2))
            milliseconds = median_ms(partial(torch.matmul, left, right), self.device, self.amount)
            found[precision] = 2 * side**3 / milliseconds / 1e9
        return found

    def time(self, call: Callable[[], object]) -> Figures:
        """The median milliseconds of a call, and the most GPU memory that it took."""
        if self.device.type != "cuda":
            return {"milliseconds": median_ms(call, self.device, self.amount)}
        torch.cuda.reset_peak_memory_stats()
        milliseconds = median_ms(call, self.device, self.amount)
        return {"milliseconds": milliseconds, "peak_gigabytes": torch.cuda.max_memory_allocated() / 1e9}

    def attempt(self, figures: Figures, name: str, measure: Callable[..., Any], *arguments: Any) -> None:
        """Measures one part of a stage; if it fails, the reason takes its place, and the stage goes on."""
        try:
            figures[name] = measure(*arguments)
        except SkippedError as skip:
            figures[name] = {"skipped": str(skip)}
        except Exception as error:  # of PyTorch's compilers and kernels: any
            figures[name] = {"failed": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"}
            with suppress(RuntimeError):
                torch.cuda.empty_cache()
