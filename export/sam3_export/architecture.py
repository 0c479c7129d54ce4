"""The sizes of a SAM 3 network, and the PyTorch network built from them."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam3_export.concept_architecture import ConceptArchitecture
from sam3_export.errors import ExportError

if TYPE_CHECKING:
    from transformers import Sam3TrackerModel

# Meta's ViT normalises with this epsilon; transformers' default of 1e-6 shifts the logits by whole units.
META_LAYER_NORM_EPS = 1e-5


@dataclass(frozen=True)
class Architecture:
    """The sizes of a SAM 3 network; the defaults are those of Meta's released checkpoint.

    Units are pixels (`image_size`, `pretrain_image_size`, `patch_size`), patches
    (`window_size`) and channels (the sizes of layers).

    Attributes:
        concepts: the sizes of the half that finds every instance of a concept; None if it is missing or not exported.
    """

    image_size: int = 1008
    pretrain_image_size: int = 336
    patch_size: int = 14
    hidden_size: int = 1024
    intermediate_size: int = 4736
    num_hidden_layers: int = 32
    num_attention_heads: int = 16
    window_size: int = 24
    global_attn_indexes: tuple[int, ...] = (7, 15, 23, 31)
    fpn_hidden_size: int = 256
    decoder_mlp_size: int = 2048
    layer_norm_eps: float = META_LAYER_NORM_EPS
    concepts: ConceptArchitecture | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "concepts":
                continue
            if field.name == "global_attn_indexes":
                layers = range(self.num_hidden_layers)
                if not all(isinstance(index, int) and index in layers for index in value):
                    raise ValueError(f"global_attn_indexes must be layer numbers below {len(layers)}: {value}")
            elif field.name == "layer_norm_eps":
                if not isinstance(value, float) or value <= 0:
                    raise ValueError(f"layer_norm_eps must be a positive number, not {value!r}")
            elif not isinstance(value, int) or isinstance(value, bool) or value <= 0:
                raise ValueError(f"{field.name} must be a positive integer, not {value!r}")
        for whole, part in (
            ("image_size", "patch_size"),
            ("pretrain_image_size", "patch_size"),
            ("hidden_size", "num_attention_heads"),
        ):
            if getattr(self, whole) % getattr(self, part):
                raise ValueError(
                    f"{whole} ({getattr(self, whole)}) must be a multiple of {part} ({getattr(self, part)})"
                )

    @property
    def grid_size(self) -> int:
        """Side of the image embedding, in patches (72 for SAM 3)."""
        return self.image_size // self.patch_size

    @property
    def low_res_size(self) -> int:
        """Side of the low-resolution logits and of a mask input (288 for SAM 3)."""
        return 4 * self.grid_size

    @classmethod
    def from_json(cls, path: Path) -> Architecture:
        """Reads a JSON object with any of this class's fields; the other fields keep their defaults.

        They may also be one level deeper, in `config`, beside `concepts`.

        Raises:
            ExportError: the file is missing or is not JSON, or has an unknown key or an invalid value.
        """
        try:
            return cls.of_sizes(_object(path))
        except (TypeError, ValueError) as error:
            raise ExportError(f"{path}: {error}") from error

    @classmethod
    def of_sizes(cls, values: dict[str, Any]) -> Architecture:
        """The architecture with sizes as `from_json` reads them, such as those in the report of an export.

        Raises:
            ValueError, TypeError: an unknown key or an invalid value.
        """
        names = {field.name for field in fields(cls)}
        _check_keys(values, {"config", "concepts"} if "config" in values else names)
        concepts = values.get("concepts")
        values = values.get("config", {name: value for name, value in values.items() if name != "concepts"})
        _check_keys(values, names - {"concepts"})
        if concepts is not None:
            _check_keys(concepts, {field.name for field in fields(ConceptArchitecture)})
        sizes: dict[str, Any] = {
            name: tuple(value) if name == "global_attn_indexes" else value for name, value in values.items()
        }
        return cls(**sizes, concepts=None if concepts is None else ConceptArchitecture(**concepts))

    @classmethod
    def of_model(cls, model: Sam3TrackerModel) -> Architecture:
        """The sizes of a loaded network."""
        backbone = model.config.vision_config.backbone_config
        return cls(
            image_size=backbone.image_size,
            pretrain_image_size=backbone.pretrain_image_size,
            patch_size=backbone.patch_size,
            hidden_size=backbone.hidden_size,
            intermediate_size=backbone.intermediate_size,
            num_hidden_layers=backbone.num_hidden_layers,
            num_attention_heads=backbone.num_attention_heads,
            window_size=backbone.window_size,
            global_attn_indexes=tuple(backbone.global_attn_indexes),
            fpn_hidden_size=model.config.vision_config.fpn_hidden_size,
            decoder_mlp_size=model.config.mask_decoder_config.mlp_dim,
            layer_norm_eps=META_LAYER_NORM_EPS,
        )

    def build(self) -> Sam3TrackerModel:
        """Builds a network of these sizes with new weights, in evaluation mode, in fp32, on the CPU."""
        from transformers import Sam3TrackerConfig, Sam3TrackerModel

        grid = self.grid_size
        backbone: dict[str, Any] = {
            "model_type": "sam3_vit_model",
            "image_size": self.image_size,
            "pretrain_image_size": self.pretrain_image_size,
            "patch_size": self.patch_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "window_size": self.window_size,
            "global_attn_indexes": list(self.global_attn_indexes),
            "layer_norm_eps": self.layer_norm_eps,
        }
        config = Sam3TrackerConfig(
            vision_config={
                "model_type": "sam3_vision_model",
                "backbone_config": backbone,
                "fpn_hidden_size": self.fpn_hidden_size,
                # transformers' default has a fourth level, x 1/2, which the tracker drops.
                "scale_factors": [4.0, 2.0, 1.0],
                "backbone_feature_sizes": [[4 * grid, 4 * grid], [2 * grid, 2 * grid], [grid, grid]],
            },
            prompt_encoder_config={
                "hidden_size": self.fpn_hidden_size,
                "image_size": self.image_size,
                "patch_size": self.patch_size,
            },
            mask_decoder_config={
                "hidden_size": self.fpn_hidden_size,
                "iou_head_hidden_dim": self.fpn_hidden_size,
                "mlp_dim": self.decoder_mlp_size,
            },
        )
        return Sam3TrackerModel(config).eval()


def _object(path: Path) -> Any:
    try:
        values: Any = json.loads(path.read_text())
    except OSError as error:
        raise ExportError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ExportError(f"{path}: not a JSON file ({error})") from error
    return values


def _check_keys(values: Any, known: set[str]) -> None:
    if not isinstance(values, dict):
        raise TypeError(f"expected a JSON object of sizes, found {type(values).__name__}")
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"unknown key {', '.join(unknown)}")
