"""Models loaded one by one, with Triton's explicit model control."""

from __future__ import annotations

from pathlib import Path

import pytest
from pictures import fresh_image
from processes import run_triton
from sam3_triton import Sam3Client, ServerUnavailableError


def test_without_the_encoder_a_miss_is_unavailable(exported: Path, tmp_path: Path) -> None:
    image = fresh_image()
    with run_triton(exported, tmp_path / "log", "--load-model=sam3") as (url, control), Sam3Client(url) as client:
        with pytest.raises(ServerUnavailableError, match="sam3_encode"):
            client.predict(image, points=[[5, 5]])
        control.load_model("sam3_encode")
        assert not client.predict(image, points=[[5, 5]]).cache_hit
