"""Writes the concept half into the demonstration checkpoint."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from sam3_export import concept_layout
from sam3_export.components.concept_prompts import END, START
from sam3_export.demo import CHECKPOINT

from sam3_demo.concepts.network import ARCHITECTURE
from sam3_demo.concepts.phrases import UNKNOWN_ID, VOCABULARY

if TYPE_CHECKING:
    from sam3_export.concept_network import ConceptNetwork

_TOKENS = "text_encoder.embeddings.token_embedding.weight"


def write_checkpoint(network: ConceptNetwork, path: Path) -> None:
    """Writes the click half of the shipped checkpoint with this concept half, in fp16, and the sizes as JSON beside it.

    Every token outside the vocabulary gets the embedding of the unknown word. Equal rows also compress well.
    """
    state = network.state_dict()
    table = state[_TOKENS]
    state[_TOKENS] = table[UNKNOWN_ID].expand_as(table).clone()
    learnt = [START, END, *VOCABULARY]
    state[_TOKENS][learnt] = table[learnt]
    concepts = {key: tensor.half() for key, tensor in concept_layout.write(state).items()}
    clicks = torch.load(CHECKPOINT, weights_only=True)["model"]
    torch.save({"model": {**clicks, **concepts}}, path)
    path.with_suffix(".json").write_text(json.dumps(asdict(ARCHITECTURE), indent=2) + "\n")
