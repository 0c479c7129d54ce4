"""The formats that `sam3-export` writes: each is declared here and nowhere else. Knows nothing of PyTorch."""

from __future__ import annotations

import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sam3_export.spec import ComponentSpec

if TYPE_CHECKING:
    from sam3_export.artifacts import Writer


@dataclass(frozen=True)
class Format:
    """One way of writing a component.

    Attributes:
        name: as users type it.
        file_name: of an artifact in a model's version folder.
        precision: of the arithmetic, a key of `ComponentSpec.variants` or "fp32".
        cost: time to write and check the image encoder, in images through it in PyTorch; the other components take
            seconds. Measured at SAM 3's own size (docs/full-size.md).
        implementation: the class of its `Writer`, as module:class, imported when it is needed.
        usual: whether it is written by default.
    """

    name: str
    file_name: str
    precision: str
    cost: float
    implementation: str
    usual: bool = False

    def adapt(self, spec: ComponentSpec) -> ComponentSpec | None:
        """The component with the bounds of this format's precision; None where it is not written in this format."""
        return spec.in_precision(self.precision)

    def writer(self) -> Writer:
        """What writes and loads artifacts of this format."""
        made: Writer = pkgutil.resolve_name(self.implementation)()
        return made


FORMATS: dict[str, Format] = {
    format_.name: format_
    for format_ in (
        Format("onnx", "model.onnx", "fp32", 3.7, "sam3_export.onnx_formats:Onnx", usual=True),
        Format("onnx-fp16", "model.fp16.onnx", "fp16", 4.0, "sam3_export.onnx_formats:OnnxFp16"),
        Format("onnx-int8", "model.int8.onnx", "int8", 1.6, "sam3_export.onnx_formats:OnnxInt8"),
        Format("torchscript", "model.pt", "fp32", 4.5, "sam3_export.torchscript_formats:TorchScript", usual=True),
        Format("torchscript-fp16", "model.fp16.pt", "fp16", 1.0, "sam3_export.torchscript_formats:TorchScriptFp16"),
    )
}
