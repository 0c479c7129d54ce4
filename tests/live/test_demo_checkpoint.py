"""The demonstration checkpoint through the real server: it segments what is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sam3_export.demo.evaluate import held_out, overlap
from sam3_triton import Sam3Client

SCENES = 40


@pytest.fixture(scope="module")
def client(serve, exported_demo: Path) -> Iterator[Sam3Client]:
    with Sam3Client(serve(exported_demo).grpc_url) as client:
        yield client


@pytest.fixture(scope="module")
def scenes() -> list[tuple[np.ndarray, np.ndarray]]:
    """Images uint8 [H, W, 3] and targets bool [H, W] of seeds that were never trained on."""
    return [(scene.image, target) for scene, targets in held_out("plain", SCENES) for target in targets]


def inside(mask: np.ndarray) -> list[float]:
    """The pixel (x, y) of a mask that is nearest to the middle of its pixels."""
    pixels = np.argwhere(mask)[:, ::-1]
    return pixels[np.abs(pixels - pixels.mean(axis=0)).sum(axis=1).argmin()].tolist()


def box_around(mask: np.ndarray) -> list[float]:
    pixels = np.argwhere(mask)[:, ::-1]
    return [*(pixels.min(axis=0)).tolist(), *(pixels.max(axis=0) + 1).tolist()]


def test_a_click_and_a_box_find_the_target(client: Sam3Client, scenes) -> None:
    # On 300 scenes 0.88 and 0.88 were measured (export/sam3_export/demo/report.md).
    clicked = [overlap(client.predict(image, points=[inside(target)]).masks[0], target) for image, target in scenes]
    boxed = [overlap(client.predict(image, box=box_around(target)).masks[0], target) for image, target in scenes]
    assert np.mean(clicked) >= 0.75
    assert np.mean(boxed) >= 0.75


def test_a_background_click_removes_what_it_is_put_on(client: Sam3Client, scenes) -> None:
    removed, tried = 0, 0
    for image, target in scenes:
        click = inside(target)
        first = client.predict(image, points=[click]).masks[0]
        spill = first & ~target
        if spill.sum() < 20:
            continue
        x, y = inside(spill)
        second = client.predict(image, points=[click, [x, y]], labels=[1, 0]).masks[0]
        tried += 1
        removed += not second[int(y), int(x)]
    # 26 of 38 were measured; where the spill is a small hole afterwards, hole filling closes it again.
    assert tried >= 20
    assert removed / tried >= 0.6


def test_refinement_with_the_earlier_answer_is_no_worse(client: Sam3Client, scenes) -> None:
    plain, refined = [], []
    for image, target in scenes:
        first = client.predict(image, points=[inside(target)])
        wrong = first.masks[0] ^ target
        x, y = inside(wrong if wrong.any() else target)
        prompt = {"points": [inside(target), [x, y]], "labels": [1, int(target[int(y), int(x)])]}
        plain.append(overlap(client.predict(image, **prompt).masks[0], target))
        again = client.predict(image, **prompt, mask_input=first.low_res_logits[0])
        refined.append(overlap(again.masks[0], target))
    assert np.mean(refined) >= np.mean(plain) - 0.02
