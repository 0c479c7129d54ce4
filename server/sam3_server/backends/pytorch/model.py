"""Stands in for Triton's PyTorch backend, on the CPU."""

from __future__ import annotations

import torch
from sam3_server.standin import Arrays, artifact_of, config_of, respond


class TritonPythonModel:
    """One TorchScript module; tensors go by the order in the config."""

    def initialize(self, args) -> None:
        """Loads the module, with the native backend's switch for the optimised executor."""
        config = config_of(args)
        self.input_names = [tensor["name"] for tensor in config["input"]]
        self.output_names = [tensor["name"] for tensor in config["output"]]
        disabled = config.get("parameters", {}).get("DISABLE_OPTIMIZED_EXECUTION", {}).get("string_value", "false")
        self.optimized = disabled != "true"
        self.module = torch.jit.load(str(artifact_of(args)), map_location="cpu")

    def execute(self, requests) -> list:
        """One run for all requests."""
        return respond(requests, self.input_names, self._run)

    def _run(self, inputs: Arrays) -> Arrays:
        with torch.inference_mode(), torch.jit.optimized_execution(self.optimized):
            results = self.module(*(torch.from_numpy(inputs[name]) for name in self.input_names))
        return {name: result.numpy() for name, result in zip(self.output_names, results, strict=True)}
