"""Stand-in for Triton's PyTorch backend, on the CPU or a GPU."""

from __future__ import annotations

from typing import Any

import torch
import triton_python_backend_utils as pb_utils
from sam3_server.standin import artifact_of, config_of, respond


class TorchTensors:
    """Tensors on one device, exchanged with Triton by DLPack, which keeps GPU tensors on the GPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def taken(self, tensor: Any) -> torch.Tensor:
        """See `sam3_server.standin.Tensors`; copies tensors from other devices."""
        return torch.from_dlpack(tensor).to(self.device)

    def joined(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        """See `sam3_server.standin.Tensors`."""
        return torch.cat(tensors)

    def given(self, name: str, tensor: torch.Tensor) -> Any:
        """See `sam3_server.standin.Tensors`."""
        return pb_utils.Tensor.from_dlpack(name, tensor.contiguous())


class TritonPythonModel:
    """One TorchScript module; its inputs and outputs are in the config's order."""

    def initialize(self, args) -> None:
        """Loads the module, with the native backend's switch for the optimised executor."""
        config = config_of(args)
        self.input_names = [tensor["name"] for tensor in config["input"]]
        self.output_names = [tensor["name"] for tensor in config["output"]]
        disabled = config.get("parameters", {}).get("DISABLE_OPTIMIZED_EXECUTION", {}).get("string_value", "false")
        self.optimized = disabled != "true"
        on_gpu = args["model_instance_kind"] == "GPU"
        if on_gpu and not torch.cuda.is_available():
            cuda = torch.version.cuda
            fault = f"finds no GPU or driver that CUDA {cuda} can use" if cuda else "was built for the CPU only"
            raise pb_utils.TritonModelException(f"the config asks for a GPU, but PyTorch {torch.__version__} {fault}")
        device = torch.device(f"cuda:{args['model_instance_device_id']}" if on_gpu else "cpu")
        self.tensors = TorchTensors(device)
        self.module = torch.jit.load(str(artifact_of(args)), map_location=device)

    def execute(self, requests) -> list:
        """Runs all requests as one batch."""
        return respond(requests, self.input_names, self._run, self.tensors)

    def _run(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        with torch.inference_mode(), torch.jit.optimized_execution(self.optimized):
            results = self.module(*(inputs[name] for name in self.input_names))
        if results[0].is_cuda:
            torch.cuda.synchronize(self.tensors.device)  # Triton reads them on its own stream
        return dict(zip(self.output_names, results, strict=True))
