"""Answers requests from the cache, now or after the encode. Knows nothing of Triton."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from cache_errors import ErrorKind, kind_of
from embedding_cache import BusyError, EmbeddingCache, NotCachedError, image_id
from image_embedding import ImageEmbedding
from prompts import Prompt
from reply import Reply

AsTensors = Callable[[ImageEmbedding], dict[str, Any]]


class ImageKeyError(ValueError):
    """A request does not say which image it means, or contradicts itself."""


@dataclass(frozen=True)
class Question:
    """What a request holds; `None` where an input was not given."""

    image: bytes | None
    """The encoded image."""
    claimed_id: bytes | None
    """The id that the caller believes the image to have."""
    prompt: Prompt


class EmbeddingService:
    """Hits are answered on the thread that asks, misses on the executor's threads.

    `sweep` must be called again and again: it answers those who wait for an encode and have given up.
    """

    def __init__(
        self,
        cache: EmbeddingCache[ImageEmbedding, Reply],
        encode: Callable[[bytes], ImageEmbedding],
        executor: Executor,
        hit_tensors: AsTensors,
        miss_tensors: AsTensors,
        log: Callable[[str], None],
    ) -> None:
        """
        Args:
            encode: makes the embedding of an encoded image; called on the executor's threads.
            hit_tensors: makes the tensors of an embedding that was cached; called on the thread of `answer` alone.
            miss_tensors: makes those of a new one; called on the executor's threads.
            log: takes the traceback of what should not happen.
        """
        self._cache = cache
        self._encode = encode
        self._executor = executor
        self._hit_tensors = hit_tensors
        self._miss_tensors = miss_tensors
        self._log = log

    def answer(self, reply: Reply, read: Callable[[], Question]) -> None:
        """Answers a hit and an error at once, a miss after its encode. Never raises.

        Args:
            read: unpacks the request; the caller hears of it if that fails.
        """
        try:
            self._admit(reply, read())
        except ImageKeyError as error:
            reply.error(str(error), ErrorKind.INVALID_ARG)
        except NotCachedError:
            reply.error(f"no image with the id {reply.key!r} is cached; send IMAGE", ErrorKind.NOT_FOUND)
        except BusyError as error:
            reply.error(f"{error}; try again later", ErrorKind.UNAVAILABLE)
        except Exception:
            self._cache.leave(reply.key, reply)
            self._log(traceback.format_exc())
            reply.error("sam3_embedding_cache failed; the server's log says why", ErrorKind.INTERNAL)

    def sweep(self) -> None:
        """Answers those who no longer wait, and frees what is too old."""
        for key, reply in self._cache.waiting():
            if reply.is_late():
                message, kind = "the request's timeout passed before its image was encoded", ErrorKind.UNAVAILABLE
            elif reply.is_cancelled():
                message, kind = "the request was cancelled before its image was encoded", ErrorKind.CANCELLED
            else:
                continue
            if self._cache.leave(key, reply):
                reply.error(message, kind)
        self._cache.expire()

    def close(self) -> None:
        """Lets the encodes under way finish, which answers those who wait for them."""
        self._executor.shutdown(wait=True)

    def _admit(self, reply: Reply, question: Question) -> None:
        reply.key = _key_of(question)
        reply.prompt = question.prompt
        admission = self._cache.admit(reply.key, reply, question.image)
        if admission.embedding is not None:
            reply.embedding(admission.embedding, self._hit_tensors, hit=True)
        elif admission.must_encode:
            self._executor.submit(self._encode_next)

    def _encode_next(self) -> None:
        taken = self._cache.begin()
        if taken is None:
            return
        key, image = taken
        started = time.monotonic()
        try:
            embedding = self._encode(image)
        except Exception as error:  # whatever it is, those who wait must hear of it
            message = str(error)
            for reply in self._cache.fail(key):
                reply.error(message, kind_of(message))
        else:
            for reply in self._cache.complete(key, embedding, time.monotonic() - started):
                reply.embedding(embedding, self._miss_tensors, hit=False)


def _key_of(question: Question) -> str:
    """The cache's key of the image: computed where its bytes were given, else the caller's word."""
    claimed = None if question.claimed_id is None else question.claimed_id.decode("utf-8", "replace")
    if question.image is None:
        if claimed is None:
            raise ImageKeyError("neither IMAGE nor CACHED_IMAGE_ID was given")
        return claimed
    key = image_id(question.image)
    if claimed is not None and claimed != key:
        raise ImageKeyError(f"CACHED_IMAGE_ID is {claimed!r}, but the sha256 of IMAGE is {key}")
    return key
