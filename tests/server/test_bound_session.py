"""ONNX Runtime with bound inputs and outputs, on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from sam3_server import ServerError
from sam3_server.bound_session import BoundSession
from sam3_server.onnx_providers import requested
from sam3_server.session_options import session_options


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A model that doubles fp16 rows and inverts flags."""
    tensors = [("ROWS", TensorProto.FLOAT16, ["batch", 3]), ("FLAGS", TensorProto.BOOL, ["batch"])]
    results = [("DOUBLE", TensorProto.FLOAT16, ["batch", 3]), ("INVERSE", TensorProto.BOOL, ["batch"])]
    nodes = [helper.make_node("Add", ["ROWS", "ROWS"], ["DOUBLE"]), helper.make_node("Not", ["FLAGS"], ["INVERSE"])]
    values = [[helper.make_tensor_value_info(*one) for one in group] for group in (tensors, results)]
    model = helper.make_model(
        helper.make_graph(nodes, "test", *values), ir_version=10, opset_imports=[helper.make_opsetid("", 18)]
    )
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_it_runs_arrays_of_any_layout(path: Path) -> None:
    session = BoundSession(path, session_options({}), requested({}, None), None)
    assert session.input_names == ["ROWS", "FLAGS"]
    for batch in (1, 5):
        rows = np.arange(batch * 6, dtype=np.float16).reshape(batch, 6)[:, ::2]  # not contiguous
        rows.flags.writeable = False  # as Triton's tensors may be
        flags = np.arange(batch) % 2 == 0
        outputs = session.run({"ROWS": rows, "FLAGS": flags})
        np.testing.assert_array_equal(outputs["DOUBLE"], rows * 2)
        np.testing.assert_array_equal(outputs["INVERSE"], ~flags)
        assert outputs["DOUBLE"].dtype == np.float16


def test_outputs_stay_in_onnx_runtimes_memory_and_outlive_the_next_run(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = BoundSession(path, session_options({}), requested({}, None), None)
    addresses = []
    view = session._array
    monkeypatch.setattr(
        session, "_array", lambda value, dtype: addresses.append(value.data_ptr()) or view(value, dtype)
    )
    first, second = (
        session.run({"ROWS": np.full((2, 3), one, np.float16), "FLAGS": [True] * np.ones(2, bool)}) for one in (1, 2)
    )
    assert [one["DOUBLE"].ctypes.data for one in (first, second)] == addresses[::2]  # no copy
    assert (first["DOUBLE"] == 2).all()
    assert (second["DOUBLE"] == 4).all()


def test_cuda_that_is_not_there_does_not_become_the_cpu(path: Path) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(ServerError, match=r"the config asks for a GPU \(CUDAExecutionProvider\), but"):
        BoundSession(path, session_options({}), requested({}, 0), 0)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ServerError, match=r"cannot load .+/model.onnx: "):
        BoundSession(tmp_path / "model.onnx", session_options({}), requested({}, None), None)


def test_parameters_for_threads_and_memory_are_read() -> None:
    given = {"intra_op_thread_count": "3", "enable_mem_arena": "false", "enable_mem_pattern": "0"}
    options = session_options({name: {"string_value": value} for name, value in given.items()})
    assert options.intra_op_num_threads == 3
    assert (options.enable_cpu_mem_arena, options.enable_mem_pattern) == (False, False)
    default = session_options({"profile": {"string_value": "cpu"}})
    assert (default.enable_cpu_mem_arena, default.enable_mem_pattern) == (True, True)


@pytest.mark.parametrize(
    ("name", "fault"),
    [("intra_op_thread_count", "must be a whole number, not 'all'"), ("enable_mem_pattern", "must be 0, 1, false or")],
)
def test_a_value_that_the_native_backend_refuses_is_named(name: str, fault: str) -> None:
    with pytest.raises(ServerError, match=f"{name} {fault}"):
        session_options({name: {"string_value": "all"}})
