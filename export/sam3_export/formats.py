"""The formats that sam3-export writes, by the names that users type."""

from __future__ import annotations

from sam3_export.artifacts import Format
from sam3_export.onnx_formats import Onnx, OnnxFp16, OnnxInt8
from sam3_export.torchscript_formats import TorchScript, TorchScriptFp16

FORMATS: dict[str, Format] = {
    format_.name: format_ for format_ in (Onnx(), OnnxFp16(), OnnxInt8(), TorchScript(), TorchScriptFp16())
}
