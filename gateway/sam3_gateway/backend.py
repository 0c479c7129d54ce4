"""What segments for the gateway: the protocol that its routes rely on, and the Triton that the settings name."""

from __future__ import annotations

from typing import Protocol

from sam3_triton import AsyncSam3Client, CachedImage, EncodedImage, Prediction, Prompt

from sam3_gateway.settings import Settings


class Backend(Protocol):
    """Where masks come from. Methods raise `sam3_triton.Sam3Error`; cancelling one cancels its request."""

    async def segment(self, image: EncodedImage | CachedImage, prompt: Prompt, *, logits: bool) -> Prediction:
        """Segments an image; `logits` asks for the low-resolution logits too."""

    async def prefetch(self, image: EncodedImage) -> bool:
        """Has an image encoded and cached; returns whether it was cached already."""

    async def is_ready(self) -> bool:
        """Whether a click on a small picture is answered."""

    async def close(self) -> None:
        """Closes the connections; called once, at the end."""


def connect(settings: Settings) -> Backend:
    """The client of the Triton that the settings name; nothing is sent yet.

    Raises:
        InvalidUrlError: not the address of a Triton.
        MissingExtraError: an HTTP address, without the client's extra `http`.
    """
    return AsyncSam3Client(settings.triton, settings.timeout_s, shared_memory=settings.shared_memory)
