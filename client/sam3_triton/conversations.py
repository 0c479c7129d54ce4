"""The calls to Triton that each operation needs, and their order. This module does no I/O.

A conversation is a generator: it yields calls, receives their answers or errors, and returns the result of the
operation. `Sam3Client` and `AsyncSam3Client` run the same conversations.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeVar

import numpy as np

from sam3_triton.concepts import ConceptPrompt
from sam3_triton.errors import ConceptsNotServedError, ImageNotCachedError, ServerUnavailableError
from sam3_triton.images import CachedImage, EncodedImage
from sam3_triton.instances import Instances
from sam3_triton.objects import tensors_of
from sam3_triton.predictions import Prediction, Prefetch
from sam3_triton.prompts import Prompt
from sam3_triton.served_model import ServedModel
from sam3_triton.wire import CONCEPT_MODEL, MODEL, Arrays, Call

T = TypeVar("T")
Conversation = Generator[Call, Arrays, T]

_LOGITS = "LOW_RES_LOGITS"
_PREDICTION = ("MASKS", "SCORES", "IMAGE_ID", "CACHE_HIT", "MODEL")
_INSTANCES = (
    "SCORES",
    "INSTANCE_BOXES",
    "MASKS",
    "PRESENCE",
    "TOTAL",
    "TRUNCATED",
    "ORIGINAL_SIZE",
    "IMAGE_ID",
    "CACHE_HIT",
    "MODEL",
)
# Few images have more instances of a concept, and the server draws 32 masks in one batch tier.
_FIRST_INSTANCES = 32
# What stands for boxes alone, so that the server has it in its cache.
_ANY_TEXT = np.array([b"visual"], np.object_)
# A small picture, for checks of the server.
PROBE_IMAGE = EncodedImage.of(np.full((16, 16, 3), 128, np.uint8))
_PROBE_POINTS = np.array([[[8, 8]]], np.float32)


def segment(
    image: EncodedImage | CachedImage, prompts: Sequence[Prompt], logits: bool
) -> Conversation[list[Prediction]]:
    """Segments objects of an image. An `EncodedImage` is sent by its id first, and uploaded only if the server does not
    have it.

    Args:
        logits: whether to request the low-resolution logits.

    Returns: a prediction for each object.

    Raises:
        InvalidInputError: the prompts cannot share a request.
        ImageNotCachedError: the server does not have the cached image.
    """
    inputs = tensors_of(prompts)
    outputs = (*_PREDICTION, _LOGITS) if logits else _PREDICTION
    answer = yield from _ask(image, inputs, outputs)
    served = ServedModel.of(answer["MODEL"])
    return [
        Prediction(
            mask_pngs=tuple(answer["MASKS"][index].tolist()),
            scores=answer["SCORES"][index],
            image_id=answer["IMAGE_ID"][0].decode(),
            cache_hit=bool(answer["CACHE_HIT"][0]),
            model=served,
            _logits=answer[_LOGITS][index] if logits else None,
        )
        for index in range(len(prompts))
    ]


def find(image: EncodedImage | CachedImage, prompt: ConceptPrompt) -> Conversation[Instances]:
    """Finds the instances of a concept. The image is sent as in `segment`.

    If the prompt asks for all instances and there are more than 32, a second call asks for that many.

    Raises:
        ImageNotCachedError: the server does not have the cached image.
        ConceptsNotServedError: the server has no concept prompts.
    """
    asked = prompt.max_instances or _FIRST_INSTANCES
    answer = yield from _ask(image, prompt.tensors(asked), _INSTANCES, CONCEPT_MODEL)
    cache_hit, total = bool(answer["CACHE_HIT"][0]), int(answer["TOTAL"][0])
    if prompt.max_instances is None and total > asked:
        answer = yield from _ask(image, prompt.tensors(total), _INSTANCES, CONCEPT_MODEL)
    height, width = answer["ORIGINAL_SIZE"].tolist()
    return Instances(
        text=prompt.text,
        presence=float(answer["PRESENCE"][0]),
        truncated=bool(answer["TRUNCATED"][0]),
        total=total,
        scores=answer["SCORES"],
        boxes=answer["INSTANCE_BOXES"],
        mask_pngs=tuple(answer["MASKS"].tolist()),
        image_size=(width, height),
        image_id=answer["IMAGE_ID"][0].decode(),
        cache_hit=cache_hit,
        model=ServedModel.of(answer["MODEL"]),
    )


def serves_concepts() -> Conversation[bool]:
    """Asks whether the server has concept prompts: its cache of texts, which needs no image."""
    try:
        yield Call({"TEXT": _ANY_TEXT}, ("TRUNCATED",), "sam3_text_cache")
    except ConceptsNotServedError:
        return False
    return True


def set_image(image: EncodedImage) -> Conversation[Prefetch]:
    """Has the server encode and cache an image."""
    answer = yield from _id_first(image, {}, ("CACHE_HIT", "MODEL"))
    return Prefetch(bool(answer["CACHE_HIT"][0]), ServedModel.of(answer["MODEL"]))


def model() -> Conversation[ServedModel]:
    """Asks for the model that the server runs, and sends no image.

    Not of `sam3`: Triton asks a step of an ensemble for all of its outputs, and most of the cache's need an image.
    """
    answer = yield Call({}, ("MODEL",), "sam3_embedding_cache")
    return ServedModel.of(answer["MODEL"])


def probe() -> Conversation[ServedModel]:
    """Sends a click on a small picture, to check every model that clicks need. The encoder runs only the first time."""
    yield Call({"IMAGE": _image_tensor(PROBE_IMAGE)}, ("ORIGINAL_SIZE",), "sam3_preprocess", PROBE_IMAGE.image_id)
    answer = yield from _id_first(PROBE_IMAGE, {"POINTS": _PROBE_POINTS}, ("MASKS", "MODEL"))
    return ServedModel.of(answer["MODEL"])


def _ask(
    image: EncodedImage | CachedImage, inputs: Arrays, outputs: tuple[str, ...], model: str = MODEL
) -> Conversation[Arrays]:
    if isinstance(image, CachedImage):
        return (yield Call({**_id_input(image.image_id), **inputs}, outputs, model, image.image_id))
    return (yield from _id_first(image, inputs, outputs, model))


def _id_first(
    image: EncodedImage, inputs: Arrays, outputs: tuple[str, ...], model: str = MODEL
) -> Conversation[Arrays]:
    try:
        return (yield Call({**_id_input(image.image_id), **inputs}, outputs, model, image.image_id))
    except ImageNotCachedError:
        pass
    try:
        return (yield Call({"IMAGE": _image_tensor(image), **inputs}, outputs, model, image.image_id))
    except ImageNotCachedError as error:  # the image was sent, so the model is missing
        raise ServerUnavailableError(str(error)) from error


def _image_tensor(image: EncodedImage) -> np.ndarray:
    return np.array([image.data], np.object_)


def _id_input(image_id: str) -> Arrays:
    return {"CACHED_IMAGE_ID": np.array([image_id.encode()], np.object_)}
