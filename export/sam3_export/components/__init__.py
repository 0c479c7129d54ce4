"""The parts of SAM 3 that Triton serves as models of their own.

`COMPONENTS` is the one list of them: the exporter goes through it, and the export's report hands it on to `sam3-serve`,
`sam3 doctor` and the embedding cache. A further component is a module here, its model's folder in `model_repository/`
and a line in the list, behind those whose answers are its inputs.
"""

from sam3_export.components import image_encoder, mask_decoder
from sam3_export.components.component import Case, Component, References

COMPONENTS: tuple[Component, ...] = (image_encoder.COMPONENT, mask_decoder.COMPONENT)

__all__ = ["COMPONENTS", "Case", "Component", "References"]
