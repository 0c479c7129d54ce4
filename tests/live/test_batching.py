"""Concurrent clicks share executions of the decoder, by Triton's statistics."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from observer import Observer
from pictures import fresh_image
from sam3_triton import Prediction, Sam3Client

POINTS = [[10, 10], [90, 20], [60, 70], [30, 40], [110, 5], [20, 60], [75, 35]]
BOX = [20, 10, 100, 70]
# One prompt of each length, from one to seven points (a box counts as two). Without padding, none could share a batch.
PROMPTS = [
    {"points": POINTS[:1]},
    {"box": BOX},
    {"points": POINTS[:3], "labels": [1, 0, 1]},
    {"box": BOX, "points": POINTS[:2]},
    {"points": POINTS[:5]},
    {"box": BOX, "points": POINTS[:4], "labels": [1, 1, 0, 0]},
    {"points": POINTS},
]
WAVES = 10


def test_clicks_with_different_numbers_of_points_share_a_decoder_batch(server) -> None:
    observer = Observer(server)
    with Sam3Client(server.grpc_url) as client:
        image_id = client.set_image(fresh_image())

        def click(prompt: dict) -> Prediction:
            return client.predict(image_id=image_id, **prompt)

        alone = [click(prompt) for prompt in PROMPTS]
        inferred, executed = observer.counts("sam3_mask_decoder")
        with ThreadPoolExecutor(len(PROMPTS)) as pool:
            waves = [list(pool.map(click, PROMPTS)) for _ in range(WAVES)]
        new_inferred, new_executed = observer.counts("sam3_mask_decoder")
    assert new_inferred - inferred == WAVES * len(PROMPTS)
    assert new_executed - executed < WAVES * len(PROMPTS)
    for wave in waves:
        for answer, expected in zip(wave, alone, strict=True):
            assert np.abs(answer.low_res_logits - expected.low_res_logits).max() < 1e-3
            assert np.abs(answer.scores - expected.scores).max() < 1e-5
