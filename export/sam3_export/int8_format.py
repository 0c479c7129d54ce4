"""The int8 format: the image encoder's products of activations and weights in 8 bits, for CPUs with VNNI.

Weights are quantised at export, with a scale for each output channel; activations at run time, with a scale for each
row, that is for each patch. ONNX Runtime's own dynamic quantisation has one scale for a whole activation, and changes
some masks too much (docs/precisions.md).

Weights are signed: with unsigned ones an image takes 1.6 times as long. Without VNNI, ONNX Runtime adds pairs of
signed products in 16 bits, which overflow.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx_ir.tape import Tape
from torch import nn

from sam3_export.errors import ExportError
from sam3_export.formats import FORMATS
from sam3_export.onnx_formats import ONNX_OPSET, Onnx
from sam3_export.spec import Arrays, ComponentSpec

_CONTRIB = "com.microsoft"
# Symmetric: activations are uint8 1 to 255, of which 128 stands for 0; weights int8 -127 to 127.
_ZERO, _LARGEST = 128, 127
# So that neither a channel nor a row of zeros divides by zero.
_LEAST_SCALE = 1e-30


class OnnxInt8(Onnx):
    """ONNX with 8-bit products of activations and weights. Products of two activations, in attention, stay in fp32."""

    def check_machine(self, parameters: int) -> None:
        """See `Writer`."""
        if not products_are_exact():
            raise ExportError("onnx-int8: this CPU has no VNNI, so sums of 8-bit products overflow; leave it out")

    def write(self, module: nn.Module, spec: ComponentSpec, sample: Arrays, path: Path) -> None:
        """See `Writer`. Starts from the fp32 file beside it, if there is one."""
        full = path.with_name(FORMATS["onnx"].file_name)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            if not full.exists():
                full = Path(folder) / full.name
                super().write(module, spec, sample, full)
            model = ir.load(full)
            quantise(model)
            ir.save(model, path)


def products_are_exact() -> bool:
    """Whether ONNX Runtime adds the largest products of uint8 and int8 without overflow on this CPU."""
    import onnxruntime

    rows, inner, columns = 8, 64, 16  # whole blocks of its kernels
    x = ir.val("x", ir.DataType.UINT8, (rows, inner))
    made = Tape()
    weights = made.initializer(ir.tensor(np.full((inner, columns), _LARGEST, np.int8), name="weights"))
    y = made.op("MatMulInteger", [x, weights])
    y.name, y.type = "y", ir.TensorType(ir.DataType.INT32)
    graph = ir.Graph([x], [y], nodes=made.nodes, initializers=[weights], opset_imports={"": ONNX_OPSET})
    model = ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    sums = session.run(None, {"x": np.full((rows, inner), 255, np.uint8)})[0]
    return bool((sums == 255 * _LARGEST * inner).all())


def quantise(model: ir.Model) -> None:
    """Replaces each product of an activation and a weight matrix, fp32, by one in 8 bits.

    Raises:
        RuntimeError: there is none.
    """
    graph = model.graph
    products = [node for node in graph if node.op_type == "MatMul" and _weights(node) is not None]
    if not products:
        raise RuntimeError("the fp32 file has no product of an activation and weights")
    constants = _Constants.of(graph)
    quantised: dict[ir.Value, _Rows] = {}
    for node in products:
        activation, weights = node.inputs[0], _weights(node)
        assert activation is not None
        assert weights is not None
        made = Tape()
        if activation not in quantised:  # query, key and value share theirs
            quantised[activation] = _quantised(made, activation, weights.shape[0], constants)
        result = _product(made, quantised[activation], weights, node, constants)
        for value in made.initializers:
            graph.register_initializer(value)
        graph.insert_before(node, made.nodes)
        node.outputs[0].replace_all_uses_with(result)
        graph.remove(node, safe=True)
    for name in [name for name, value in graph.initializers.items() if not value.uses()]:
        del graph.initializers[name]
    model.opset_imports[_CONTRIB] = 1


def _weights(node: ir.Node) -> np.ndarray | None:
    """The weights [K, N] of a product; None if it multiplies two activations."""
    second = node.inputs[1]
    constant = None if second is None else second.const_value
    return constant.numpy() if constant is not None and len(constant.shape) == 2 else None


@dataclass(frozen=True)
class _Constants:
    """Initializers that all products share."""

    one: ir.Value
    columns: ir.Value
    share: ir.Value
    least_scale: ir.Value
    zero: ir.Value
    zeros: ir.Value

    @classmethod
    def of(cls, graph: ir.Graph) -> _Constants:
        def add(name: str, array: np.ndarray) -> ir.Value:
            value = Tape().initializer(ir.tensor(array, name=f"int8_{name}"))
            graph.register_initializer(value)
            return value

        return cls(
            one=add("one", np.array(1, np.float32)),
            columns=add("columns", np.array([1])),
            share=add("share", np.array(1 / _LARGEST, np.float32)),
            least_scale=add("least_scale", np.array(_LEAST_SCALE, np.float32)),
            zero=add("zero", np.array(_ZERO, np.uint8)),
            zeros=add("zeros", np.array([_ZERO], np.uint8)),
        )


@dataclass(frozen=True)
class _Rows:
    """An activation [..., K] as rows: uint8 [M, K], and the scale of each, fp32 [M]."""

    values: ir.Value
    scales: ir.Value


def _quantised(made: Tape, activation: ir.Value, width: int, constants: _Constants) -> _Rows:
    shape = made.initializer(ir.tensor(np.array([-1, width]), name=f"{activation.name}_as_rows"))
    rows = made.op("Reshape", [activation, shape])
    highest, lowest = (made.op(name, [rows, constants.columns], {"keepdims": 0}) for name in ("ReduceMax", "ReduceMin"))
    largest = made.op("Max", [highest, made.op("Neg", [lowest]), constants.least_scale])
    scales = made.op("Mul", [largest, constants.share])
    zeros = made.op("Expand", [constants.zeros, made.op("Shape", [scales])])
    return _Rows(made.op("QuantizeLinear", [rows, scales, zeros], {"axis": 0}), scales)


def _product(made: Tape, rows: _Rows, weights: np.ndarray, node: ir.Node, constants: _Constants) -> ir.Value:
    """The product of quantised rows and weights, fp32, in the shape of the node's own."""
    output = node.outputs[0]
    if output.shape is None:
        raise RuntimeError(f"the exporter gave {output.name} no shape")

    def add(name: str, array: np.ndarray) -> ir.Value:
        return made.initializer(ir.tensor(array, name=f"{output.name}_{name}"))

    scales = np.maximum(np.abs(weights).max(axis=0) / _LARGEST, _LEAST_SCALE).astype(np.float32)
    levels = np.rint(weights / scales).astype(np.int8)
    product = made.op(
        "MatMulIntegerToFloat",
        [
            rows.values,
            add("weights", levels),
            constants.one,
            add("scales", scales),
            constants.zero,
            add("zeros", np.zeros_like(scales, np.int8)),
        ],
        domain=_CONTRIB,
    )
    scaled = made.op("Mul", [product, made.op("Unsqueeze", [rows.scales, constants.columns])])
    # At most the batch axis is dynamic.
    shape = add("shape", np.array([axis if isinstance(axis, int) else -1 for axis in output.shape]))
    result = ir.Value(name=f"{output.name}_int8", shape=output.shape, type=output.type)
    return made.op("Reshape", [scaled, shape], output=result)
