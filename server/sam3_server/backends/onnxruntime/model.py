"""Stand-in for Triton's ONNX Runtime backend, on the CPU or a GPU."""

from __future__ import annotations

import onnxruntime
import triton_python_backend_utils as pb_utils
from sam3_server import onnx_providers
from sam3_server.bound_session import BoundSession
from sam3_server.errors import ServerError
from sam3_server.session_options import session_options
from sam3_server.standin import GpuTensors, NumpyTensors, artifact_of, artifact_path, config_of, respond

_TYPES = {
    "tensor(float)": "TYPE_FP32",
    "tensor(float16)": "TYPE_FP16",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(bool)": "TYPE_BOOL",
}


class TritonPythonModel:
    """One session of one ONNX file."""

    @staticmethod
    def auto_complete_config(auto_complete_model_config):
        """Reads the tensors from the model file, as the native backend does."""
        config = auto_complete_model_config.as_dict()
        path = artifact_path(pb_utils.get_model_dir(), config)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for add, nodes in (
            (auto_complete_model_config.add_input, session.get_inputs()),
            (auto_complete_model_config.add_output, session.get_outputs()),
        ):
            for node in nodes:
                add(_declaration(node, batched=config["max_batch_size"] > 0))
        return auto_complete_model_config

    def initialize(self, args) -> None:
        """Opens the session with the providers and the parameters of the config."""
        config, path = config_of(args), artifact_of(args)
        device = int(args["model_instance_device_id"]) if args["model_instance_kind"] == "GPU" else None
        try:
            providers = onnx_providers.requested(config, device)
            self.session = BoundSession(path, session_options(config.get("parameters", {})), providers, device)
        except ServerError as error:
            raise pb_utils.TritonModelException(str(error)) from error
        self.tensors = GpuTensors(self.session.gpu) if self.session.gpu else NumpyTensors()

    def execute(self, requests) -> list:
        """Runs all requests as one batch."""
        return respond(requests, self.session.input_names, self.session.run, self.tensors)


def _declaration(node, batched: bool) -> dict:
    dims = [axis if isinstance(axis, int) else -1 for axis in node.shape]
    if batched:
        if dims[0] != -1:
            raise pb_utils.TritonModelException(
                f"{node.name} has a fixed first axis ({dims[0]}): this model does not support batching"
            )
        dims = dims[1:]
    return {"name": node.name, "data_type": _TYPES[node.type], "dims": dims}
