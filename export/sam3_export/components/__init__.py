"""The parts of SAM 3 that Triton serves as separate models.

`CLICKS` and `CONCEPTS` are the only lists of them. The exporter iterates over them, and export.json passes them on to
`sam3-serve`, `sam3 doctor` and the embedding cache. To add a component, add a module here, a folder for its model in
`model_repository/`, and an entry to a list, after the components whose outputs it takes as inputs.
"""

from sam3_export.architecture import Architecture
from sam3_export.components import concept_detector, image_encoder, mask_decoder, text_encoder
from sam3_export.components.component import Case, Component, References

# For clicks, and what concept prompts need besides.
CLICKS: tuple[Component, ...] = (image_encoder.COMPONENT, mask_decoder.COMPONENT)
CONCEPTS: tuple[Component, ...] = (text_encoder.COMPONENT, concept_detector.COMPONENT)


def components_of(architecture: Architecture) -> tuple[Component, ...]:
    """The components of a network with these sizes."""
    return CLICKS if architecture.concepts is None else (*CLICKS, *CONCEPTS)


__all__ = ["CLICKS", "CONCEPTS", "Case", "Component", "References", "components_of"]
