"""A Triton model in place of the mask decoder: it sleeps, as if a GPU were busy, and answers an empty mask."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One click after the other."""

    def initialize(self, args: dict[str, str]) -> None:
        """Reads how long a click takes."""
        config = json.loads(args["model_config"])
        self._seconds = float(config["parameters"]["seconds"]["string_value"])
        self._sizes = {one["name"]: [int(size) for size in one["dims"]] for one in config["output"]}

    def execute(self, requests: list[Any]) -> list[Any]:
        """Sleeps for each request, and answers logits below 0 and scores of 0."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        time.sleep(self._seconds)
        objects = pb_utils.get_input_tensor_by_name(request, "POINT_COORDS").as_numpy().shape[1]
        candidates = pb_utils.get_input_tensor_by_name(request, "MASK_TOKENS").as_numpy().shape[1]
        shape = (1, objects, candidates)
        logits = np.full((*shape, *self._sizes["MASK_LOGITS"][2:]), -10, np.float32)
        answers = {"MASK_LOGITS": logits, "SCORES": np.zeros(shape, np.float32)}
        wanted = request.requested_output_names()
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, answers[name]) for name in wanted])
