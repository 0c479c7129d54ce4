"""The formats that `sam3-export` writes, each declared only here. Does not import PyTorch."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sam3_export.spec import ComponentSpec

if TYPE_CHECKING:
    from sam3_export.artifacts import Writer


@dataclass(frozen=True)
class Format:
    """A file format and a precision in which components are exported.

    Attributes:
        name: as given to `--formats`.
        description: one line for `--help`.
        file_name: of an artifact in a model's version folder.
        precision: of the arithmetic, a key of `ComponentSpec.variants` or "fp32".
        cost: time to write and check the image encoder, in units of one image through it in PyTorch; the other
            components take seconds. Measured at SAM 3's own size (docs/full-size.md).
        implementation: its `Writer` class, as module:class, imported when it is needed.
        usual: whether it is written by default.
        models: the only components that are written in it, by model name; if empty, all with bounds in its precision.
    """

    name: str
    description: str
    file_name: str
    precision: str
    cost: float
    implementation: str
    usual: bool = False
    models: tuple[str, ...] = ()

    def adapt(self, spec: ComponentSpec) -> ComponentSpec | None:
        """The component with the bounds of this format's precision; None if it is not written in this format."""
        if self.models and spec.model_name not in self.models:
            return None
        return spec.in_precision(self.precision)

    def writer(self) -> Writer:
        """Creates the format's `Writer`."""
        made: Writer = pkgutil.resolve_name(self.implementation)()
        return made


FORMATS: dict[str, Format] = {
    format_.name: format_
    for format_ in (
        Format(
            name="onnx",
            description="fp32, for ONNX Runtime on CPUs",
            file_name="model.onnx",
            precision="fp32",
            cost=3.7,
            implementation="sam3_export.onnx_formats:Onnx",
            usual=True,
        ),
        Format(
            name="onnx-fp16",
            description="fp16, for ONNX Runtime on GPUs",
            file_name="model.fp16.onnx",
            precision="fp16",
            cost=4.0,
            implementation="sam3_export.onnx_formats:OnnxFp16",
        ),
        Format(
            name="onnx-tensorrt",
            description="fp16 encoder, for TensorRT; needs the other models of onnx-fp16",
            file_name="model.tensorrt.onnx",
            precision="fp16",
            cost=4.0,
            implementation="sam3_export.onnx_formats:OnnxTensorRT",
            models=("sam3_image_encoder",),
        ),
        Format(
            name="onnx-int8",
            description="8-bit encoder, smaller and faster, for CPUs with VNNI; needs the other models of onnx",
            file_name="model.int8.onnx",
            precision="int8",
            cost=2.0,
            implementation="sam3_export.int8_format:OnnxInt8",
        ),
        Format(
            name="torchscript",
            description="fp32, for PyTorch on CPUs",
            file_name="model.pt",
            precision="fp32",
            cost=4.5,
            implementation="sam3_export.torchscript_formats:TorchScript",
            usual=True,
        ),
        Format(
            name="torchscript-fp16",
            description="fp16, for PyTorch on GPUs; at SAM 3's size, export it on a GPU",
            file_name="model.fp16.pt",
            precision="fp16",
            cost=1.0,
            implementation="sam3_export.torchscript_formats:TorchScriptFp16",
        ),
        Format(
            name="torchscript-bf16",
            description="bf16, as in Meta's predictor, for PyTorch on GPUs, and on CPUs with bf16 instructions",
            file_name="model.bf16.pt",
            precision="bf16",
            cost=2.7,
            implementation="sam3_export.torchscript_formats:TorchScriptBf16",
        ),
    )
}
