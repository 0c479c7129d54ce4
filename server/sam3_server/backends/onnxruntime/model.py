"""Stand-in for Triton's ONNX Runtime backend, on the CPU."""

from __future__ import annotations

import onnxruntime
import triton_python_backend_utils as pb_utils
from sam3_server.standin import Arrays, artifact_of, artifact_path, config_of, respond

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
        """Opens the session, with the native backend's thread parameters."""
        parameters = config_of(args).get("parameters", {})
        options = onnxruntime.SessionOptions()
        for name, key in (
            ("intra_op_num_threads", "intra_op_thread_count"),
            ("inter_op_num_threads", "inter_op_thread_count"),
        ):
            if key in parameters:
                setattr(options, name, int(parameters[key]["string_value"]))
        # Without this, the threads spin between runs on cores that a click's other models need.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        path = artifact_of(args)
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.input_names = [node.name for node in self.session.get_inputs()]
        self.output_names = [node.name for node in self.session.get_outputs()]

    def execute(self, requests) -> list:
        """Runs all requests as one batch."""
        return respond(requests, self.input_names, self._run)

    def _run(self, inputs: Arrays) -> Arrays:
        return dict(zip(self.output_names, self.session.run(self.output_names, inputs), strict=True))


def _declaration(node, batched: bool) -> dict:
    dims = [axis if isinstance(axis, int) else -1 for axis in node.shape]
    if batched:
        if dims[0] != -1:
            raise pb_utils.TritonModelException(
                f"{node.name} has a fixed first axis ({dims[0]}): this model does not support batching"
            )
        dims = dims[1:]
    return {"name": node.name, "data_type": _TYPES[node.type], "dims": dims}
