"""As many processes decode and resize images as can be busy."""

from __future__ import annotations

import re

PREPROCESS, CACHE = "sam3_preprocess", "sam3_embedding_cache"
_COUNT = re.compile(r"(instance_group *\[ *\{ *kind: *KIND_CPU +count: *)\d+")
_CONCURRENT_ENCODES = re.compile(r'key: *"max_concurrent_encodes" *value *\{ *string_value: *"(\d+)"')


def with_instances(config: str, cache_config: str, cores: int) -> str:
    """Sets one instance for each core, but not more than the cache has images prepared at a time.

    Args:
        config: of `sam3_preprocess`; without a count it is left alone.
        cache_config: of `sam3_embedding_cache`, whose parameter `max_concurrent_encodes` is the bound.
    """
    bound = _CONCURRENT_ENCODES.search(cache_config)
    instances = min(cores, int(bound[1])) if bound else cores
    return _COUNT.sub(rf"\g<1>{instances}", config)
