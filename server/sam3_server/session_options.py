"""ONNX Runtime's session options from the parameters of a model's config, as its native Triton backend reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnxruntime

from sam3_server.errors import ServerError

_COUNTS = {"intra_op_thread_count": "intra_op_num_threads", "inter_op_thread_count": "inter_op_num_threads"}
_SWITCHES = {"enable_mem_arena": "enable_cpu_mem_arena", "enable_mem_pattern": "enable_mem_pattern"}


def session_options(parameters: Mapping[str, Mapping[str, str]]) -> Any:
    """`onnxruntime.SessionOptions` with the native backend's parameters for threads and memory.

    Args:
        parameters: of a model's config, as Triton passes it to a Python model.

    Raises:
        ServerError: a value that the native backend does not accept.
    """
    given = {name: value["string_value"] for name, value in parameters.items()}
    options = onnxruntime.SessionOptions()
    for name in _COUNTS.keys() & given.keys():
        if not given[name].isdecimal():
            raise ServerError(f"{name} must be a whole number, not {given[name]!r}")
        setattr(options, _COUNTS[name], int(given[name]))
    for name in _SWITCHES.keys() & given.keys():
        if given[name].lower() not in ("0", "1", "false", "true"):
            raise ServerError(f"{name} must be 0, 1, false or true, not {given[name]!r}")
        setattr(options, _SWITCHES[name], given[name].lower() in ("1", "true"))
    # Without this, the threads spin between runs on cores that a click's other models need.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options
