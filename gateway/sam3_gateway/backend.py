"""The backend that segments images: the protocol that the routes use, and a connection to Triton."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sam3_triton import (
    AsyncSam3Client,
    CachedImage,
    ConceptPrompt,
    EncodedImage,
    Instances,
    Prediction,
    Prefetch,
    Prompt,
    ServedModel,
)

from sam3_gateway.settings import Settings


class Backend(Protocol):
    """A source of masks. Its methods raise `sam3_triton.Sam3Error`. Cancelling a call cancels its request."""

    async def segment_objects(
        self, image: EncodedImage | CachedImage, prompts: Sequence[Prompt], *, logits: bool
    ) -> list[Prediction]:
        """Returns a prediction for each object. `logits` also requests the low-resolution logits."""

    async def find_concepts(
        self, image: EncodedImage | CachedImage, prompts: Sequence[ConceptPrompt]
    ) -> list[Instances]:
        """Returns the instances of each concept. Raises `ConceptsNotServedError` if it has no concept prompts."""

    async def serves_concepts(self) -> bool:
        """Returns whether it has concept prompts."""

    async def prefetch(self, image: EncodedImage) -> Prefetch:
        """Encodes and caches an image."""

    async def probe(self) -> ServedModel:
        """Sends a click on a small picture. Returns the model that answered; raises if no mask came back."""

    async def close(self) -> None:
        """Closes the connections. Called once, at shutdown."""


def connect(settings: Settings) -> Backend:
    """Returns a client for the Triton in the settings. It does not connect yet.

    Raises:
        InvalidUrlError: the setting `triton` is invalid.
        MissingExtraError: `triton` is an HTTP address, and the client's extra `http` is not installed.
    """
    return AsyncSam3Client(settings.triton, settings.timeout_s, shared_memory=settings.shared_memory)
