"""The parts of SAM 3 that Triton serves as separate models.

`COMPONENTS` is the only list of them. The exporter iterates over it, and export.json passes it on to `sam3-serve`,
`sam3 doctor` and the embedding cache. To add a component, add a module here, a folder for its model in
`model_repository/`, and an entry to the list, after the components whose outputs it takes as inputs.
"""

from sam3_export.components import image_encoder, mask_decoder
from sam3_export.components.component import Case, Component, References

COMPONENTS: tuple[Component, ...] = (image_encoder.COMPONENT, mask_decoder.COMPONENT)

__all__ = ["COMPONENTS", "Case", "Component", "References"]
