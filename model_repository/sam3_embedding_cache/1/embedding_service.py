"""Answers requests from the cache, at once or after an encode. Independent of Triton."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from cache_errors import ErrorKind, kind_of
from concept_prompts import ConceptPrompt
from embedding_cache import BusyError, EmbeddingCache, NotCachedError, image_id
from image_embedding import ImageEmbedding
from prompts import Prompt, PromptError
from reply import Reply

AsTensors = Callable[[ImageEmbedding], dict[str, Any]]


class ImageKeyError(ValueError):
    """A request names no image, or its id does not fit its image."""


@dataclass(frozen=True)
class Question:
    """The inputs of a request; `None` for an input that was not given."""

    image: bytes | None
    """The encoded image."""
    claimed_id: bytes | None
    """The image's id according to the caller."""
    prompt: Prompt
    concept: ConceptPrompt


class EmbeddingService:
    """Answers hits on the calling thread, misses on the executor's threads.

    `sweep` must be called periodically: it answers waiting requests that have timed out or were cancelled.
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
            hit_tensors: makes the tensors of a cached embedding; called only on the thread of `answer`.
            miss_tensors: makes the tensors of a new embedding; called on the executor's threads.
            log: receives the traceback of an unexpected error.
        """
        self._cache = cache
        self._encode = encode
        self._executor = executor
        self._hit_tensors = hit_tensors
        self._miss_tensors = miss_tensors
        self._log = log

    def answer(self, reply: Reply, read: Callable[[], Question]) -> None:
        """Answers hits and errors at once, misses after their encode. Never raises.

        Args:
            read: unpacks the request; if it raises, the caller gets an error.
        """
        if reply.wants_model_only:
            reply.model()
            return
        try:
            self._admit(reply, read())
        except (ImageKeyError, PromptError) as error:
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
        """Answers waiting requests that have timed out or were cancelled, and drops expired embeddings."""
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
        """Waits until all encodes have finished and their requests are answered."""
        self._executor.shutdown(wait=True)

    def _admit(self, reply: Reply, question: Question) -> None:
        reply.key = _key_of(question)
        reply.prompt, reply.concept = question.prompt, question.concept
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
        except Exception as error:  # whatever it is, the waiting requests need an answer
            message = str(error)
            for reply in self._cache.fail(key):
                reply.error(message, kind_of(message))
        else:
            for reply in self._cache.complete(key, embedding, time.monotonic() - started):
                reply.embedding(embedding, self._miss_tensors, hit=False)


def _key_of(question: Question) -> str:
    """The cache's key of the image: computed if its bytes were given, otherwise the caller's."""
    claimed = None if question.claimed_id is None else question.claimed_id.decode("utf-8", "replace")
    if question.image is None:
        if claimed is None:
            raise ImageKeyError("neither IMAGE nor CACHED_IMAGE_ID was given")
        return claimed
    key = image_id(question.image)
    if claimed is not None and claimed != key:
        raise ImageKeyError(f"CACHED_IMAGE_ID is {claimed!r}, but the sha256 of IMAGE is {key}")
    return key
