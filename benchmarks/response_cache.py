"""The same ensemble with Triton's response cache in place of the project's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sam3_server import TritonServer, installation

from benchmarks.services import repository_copy, serving

NAME = "Triton's response cache"
# Of its keys and values together; as much as the project's cache has by default.
_CACHE_BYTES = 2**30


@contextmanager
def serving_with_response_cache(repository: Path) -> Iterator[TritonServer]:
    """A server that keeps nothing in the embedding cache, and answers of `sam3_encode` in Triton's.

    So its key is the image file; by id, without the file, nothing is found. Enabled on `sam3_image_encoder` it works
    as well, but then each click decodes its image; with `sam3_preprocess` beside it, Triton 2.51 hands the encoder a
    request without inputs.
    """
    with repository_copy(repository, sam3_embedding_cache={"cache_bytes": "0"}) as copy, installation.find() as found:
        config = copy / "sam3_encode" / "config.pbtxt"
        config.write_text(config.read_text() + "response_cache { enable: true }\n")
        caches = found.binary.resolve().parent.parent / "caches"
        flags = (f"--cache-config=local,size={_CACHE_BYTES}", f"--cache-directory={caches}")
        with serving(copy, flags) as server:
            yield server
