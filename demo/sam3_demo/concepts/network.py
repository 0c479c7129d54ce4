"""The concept half of the demonstration network: its sizes, its initial weights, and its answers in training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import torch
from sam3_export import checkpoint, concept_network
from sam3_export.architecture import Architecture
from sam3_export.components.attention import hide
from sam3_export.components.box_examples import EMPTY
from sam3_export.components.concept_prompts import END, START
from sam3_export.components.detector_modules import ConceptDetector
from sam3_export.components.image_encoder import centre_of
from sam3_export.components.text_encoder import TextEncoder
from sam3_export.concept_architecture import ConceptArchitecture
from sam3_export.demo import CHECKPOINT
from torch import Tensor, nn
from torch.nn import functional as F

from sam3_demo.concepts.phrases import CONTEXT, UNKNOWN_ID, VOCABULARY
from sam3_demo.concepts.scenes import AXES
from sam3_demo.network import DEMO

if TYPE_CHECKING:
    from sam3_export.concept_network import ConceptNetwork

_SIDE = 6  # queries along each side of the picture
SIZES = ConceptArchitecture(
    text_hidden_size=32,  # of the 49,408 words' embeddings, which are most of a small text encoder
    text_num_hidden_layers=2,
    text_num_attention_heads=4,
    text_context_length=CONTEXT,
    detr_encoder_layers=2,
    detr_decoder_layers=3,
    detr_num_attention_heads=6,
    detr_intermediate_size=256,
    num_queries=_SIDE**2,
    geometry_layers=1,
    num_upsampling_stages=2,
    scoring_hidden_size=256,
)
ARCHITECTURE: Architecture = replace(DEMO, concepts=SIZES)
_WORDS = 9  # tokens that the longest phrase has; those behind it are padding, which nothing sees
_FIRST_SIZE = 0.25  # of every query's box, before the first layer moves it


@dataclass(frozen=True)
class Answers:
    """What a batch of M queries (phrases) gets in training, from each of L decoder layers with Q queries (slots).

    logits: fp32 [L, M, Q]; boxes: fp32 [L, M, Q, 4], cx cy w h; presence: fp32 [M], a logit.
    match: fp32 [M, g, g], for each cell the logit that its object matches.
    cells: for each axis of `AXES` the logits of its values and of background, fp32 [B, values + 1, g, g].
    meanings: for each axis of `AXES` the logits of its values and of any, from the text alone, fp32 [M, values + 1].
    extents: fp32 [B, 4, g, g], left, top, right and bottom of the object in a cell.
    slots: fp32 [M, Q, C], the last layer's queries; pixels, prompt and bias: what the mask head needs beside them.
    """

    logits: Tensor
    boxes: Tensor
    presence: Tensor
    match: Tensor
    cells: list[Tensor]
    meanings: list[Tensor]
    extents: Tensor
    slots: Tensor
    pixels: Tensor
    prompt: Tensor
    bias: Tensor


def fresh() -> ConceptNetwork:
    """The network with its initial weights, and the centre of the trunk's features, in training mode."""
    loaded = checkpoint.load(str(CHECKPOINT), CHECKPOINT.with_suffix(".json"), concepts=False)
    network = concept_network.build(ARCHITECTURE)
    initialise(network)
    # The same layers as the click model's, which is a better start than random ones.
    for own, clicks in zip(network.levels, loaded.model.vision_encoder.neck.fpn_layers, strict=True):
        own.load_state_dict(clicks.state_dict())
    # The click model keeps its coarse features small (see `sam3_demo.initial`); here they have a deviation of about 1.
    coarse = cast("nn.Conv2d", network.levels[2].proj2)
    coarse.weight.data.mul_(2.5)
    for level in network.levels[:2]:
        level.requires_grad_(False)
    return network.train()


def click_centre() -> Tensor:
    """See `image_encoder.centre_of`; of the click model's trunk, fp32 [1, D, 1, 1]."""
    return centre_of(checkpoint.load(str(CHECKPOINT), CHECKPOINT.with_suffix(".json"), concepts=False))


@torch.no_grad()
def initialise(network: ConceptNetwork) -> None:
    """Replaces the weights by PyTorch's defaults, which suit so narrow a network better, unless set below."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.Embedding):
            module.reset_parameters()
    embeddings = network.text_encoder.embeddings
    table = embeddings.token_embedding.weight
    table.zero_()
    learnt = [START, END, UNKNOWN_ID, *VOCABULARY]
    table[learnt] = 0.15 * torch.randn(len(learnt), table.shape[1])
    embeddings.position_embedding.weight.normal_(0, 0.05)
    decoder = network.detr_decoder
    # Queries start on a grid, so that each learns its own neighbourhood.
    centres = (torch.arange(_SIDE) + 0.5) / _SIDE
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    size = torch.full_like(x, _FIRST_SIZE)
    decoder.reference_points.weight.copy_(torch.logit(torch.stack([x, y, size, size], dim=2).flatten(0, 1)))
    decoder.query_embed.weight.mul_(0.3)
    decoder.box_head.layer3.weight.mul_(0.1)
    decoder.box_head.layer3.bias.zero_()


class Trainee(nn.Module):
    """Text encoder and detector as they are served, with gradients, and heads that only training needs."""

    def __init__(self, network: ConceptNetwork, centre: Tensor) -> None:
        super().__init__()
        self.network = network
        self.text = TextEncoder(network)
        self.detector = ConceptDetector(network, ARCHITECTURE.grid_size, centre)
        channels = ARCHITECTURE.fpn_hidden_size
        # DETR's decoder gives few and late gradients; these heads tell every cell and every text at once what it should
        # know.
        self.match = nn.Linear(channels, 1)
        self.values = nn.ModuleList(nn.Linear(channels, len(values) + 1) for values in AXES.values())
        self.meanings = nn.ModuleList(nn.Linear(channels, len(values) + 1) for values in AXES.values())
        self.extent = nn.Linear(channels, 4)
        self._queries: list[Tensor] = []
        self._moves: list[Tensor] = []
        network.detr_decoder.output_layer_norm.register_forward_hook(lambda *call: self._queries.append(call[2]))
        network.detr_decoder.box_head.register_forward_hook(lambda *call: self._moves.append(call[2]))

    def forward(self, features: Tensor, tokens: Tensor, coords: Tensor, labels: Tensor) -> Answers:
        """Answers M queries about B pictures, M / B for each in turn; the arguments are those of `samples.Batch`."""
        detector, dtype = self.detector, self.match.weight.dtype
        several = len(tokens) // len(features)
        coarse, cells, extents = self.look(features)
        attended = self._attend(coarse.flatten(2).transpose(1, 2)).repeat_interleave(several, 0)
        coarse = coarse.repeat_interleave(several, 0)
        rows = coarse.flatten(2).transpose(1, 2)
        words = self.text(tokens)[0][:, :_WORDS]
        meanings = self.meanings_of(tokens, words)
        examples = detector.box_examples(coarse, rows, rows + detector.positions, coords, labels)
        prompt = torch.cat([words, examples], dim=1)
        seen = torch.cat([tokens[:, :_WORDS] != 0, F.pad(labels != EMPTY, (0, 1), value=True)], dim=1)
        bias = hide(~seen, dtype)[:, None, None]
        pixels = self._encode(attended, prompt, bias)
        match = self.match(pixels).squeeze(2).unflatten(1, coarse.shape[2:])
        self._queries.clear()
        self._moves.clear()
        slots, _, presence = detector._decode(pixels, detector.positions, prompt, bias)
        logits = torch.stack([detector._logits(queries, prompt, seen) for queries in self._queries])
        boxes = self._boxes(len(tokens))
        presence = presence.squeeze(1)
        return Answers(logits, boxes, presence, match, cells, meanings, extents, slots, pixels, prompt, bias)

    def look(self, features: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """The coarse features [B, C, g, g], `Answers.cells` and `Answers.extents`."""
        coarse = self.detector.levels[2](features.to(self.detector.centre.dtype) + self.detector.centre)
        rows = coarse.permute(0, 2, 3, 1)
        cells = [head(rows).permute(0, 3, 1, 2) for head in self.values]
        return coarse, cells, self.extent(rows).permute(0, 3, 1, 2)

    def _attend(self, pixels: Tensor, layer: int = 0) -> Tensor:
        """A layer's self-attention. That of the first one knows no prompt, so it is the same for all of a picture's."""
        attend = self.detector.encoder.layers[layer]
        normed = attend.layer_norm1(pixels)
        located = normed + self.detector.positions
        return pixels + attend.self_attn(located, located, normed)[0]

    def _encode(self, pixels: Tensor, prompt: Tensor, bias: Tensor) -> Tensor:
        """As `ConceptDetector._encode`, behind the first layer's self-attention."""
        for number, layer in enumerate(self.detector.encoder.layers):
            if number:
                pixels = self._attend(pixels, number)
            pixels = pixels + layer.cross_attn(layer.layer_norm2(pixels), prompt, prompt, bias)[0]
            pixels = pixels + layer.mlp(layer.layer_norm3(pixels))
        return pixels

    def _boxes(self, count: int) -> Tensor:
        """The boxes after each layer, which `_decode` returns only after the last; [L, M, Q, 4]."""
        reference, boxes = self.network.detr_decoder.reference_points.weight.expand(count, -1, -1), []
        for move in self._moves:
            boxes.append((reference + move).sigmoid())
            reference = torch.logit(boxes[-1], eps=1e-3)
        return torch.stack(boxes)

    def meanings_of(self, tokens: Tensor, words: Tensor) -> list[Tensor]:
        """See `Answers.meanings`; `words` fp32 [M, T, C] are the text's features."""
        last = words[torch.arange(len(tokens)), (tokens == END).int().argmax(1)]  # it has seen all others
        return [head(last) for head in self.meanings]

    def masks(self, features: Tensor, answers: Answers, rows: Tensor, chosen: Tensor) -> Tensor:
        """Mask logits [R, 1, 4g, 4g] of one slot for each of some rows.

        Args:
            features: of the rows' pictures, [R, D, g, g].
            rows: int64 [R]; chosen: int64 [R], a slot for each.
        """
        detector = self.detector
        with torch.no_grad():  # the finer levels are the click model's
            backbone = features.to(detector.centre.dtype) + detector.centre
            fine, middle = (level(backbone) for level in detector.levels[:2])
        slots = answers.slots[rows, chosen].unsqueeze(1)
        return detector._mask_logits(
            slots, (fine, middle), answers.pixels[rows], answers.prompt[rows], answers.bias[rows]
        )
