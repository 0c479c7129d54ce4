from __future__ import annotations

import image_preprocess
import pytest
from cache_errors import INVALID_IMAGE, EncodeError, ErrorKind, kind_of


def test_what_sam3_preprocess_refuses_is_the_callers_fault() -> None:
    assert image_preprocess.INVALID_IMAGE == INVALID_IMAGE
    with pytest.raises(image_preprocess.ImageError) as caught:
        image_preprocess.decode(b"no image")
    assert kind_of(str(caught.value)) is ErrorKind.INVALID_ARG


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("invalid image: it is empty (0 bytes)", ErrorKind.INVALID_ARG),
        ("Failed for execute the inference request. Model 'sam3_encode' is not ready.", ErrorKind.UNAVAILABLE),
        ("Failed for execute the inference request. Model 'sam3_encode_concepts' is not ready.", ErrorKind.UNAVAILABLE),
        ("Server not ready", ErrorKind.UNAVAILABLE),
        ("sam3_preprocess failed; the server's log says why", ErrorKind.INTERNAL),
        ("Model 'sam3_image_encoder' is not ready", ErrorKind.INTERNAL),
        ("a fault that quotes 'invalid image: '", ErrorKind.INTERNAL),
        ("", ErrorKind.INTERNAL),
    ],
)
def test_the_message_of_a_failed_encode_gives_its_kind(message: str, kind: ErrorKind) -> None:
    assert kind_of(message) is kind


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("in ensemble 'sam3_encode', invalid image: it is empty", "invalid image: it is empty"),
        ("in ensemble 'sam3_encode_concepts', invalid image: it is empty", "invalid image: it is empty"),
        ("in ensemble 'sam3', in ensemble 'sam3_encode', Server not ready", "Server not ready"),
        ("no free slot in ensemble 'sam3_encode', sorry", "no free slot in ensemble 'sam3_encode', sorry"),
    ],
)
def test_errors_do_not_name_the_inner_ensembles(message: str, told: str) -> None:
    assert str(EncodeError(message)) == told
