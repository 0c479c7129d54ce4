"""The demonstration checkpoint through the real server: it segments the prompted object."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from sam3_demo.held_out import held_out, overlap
from sam3_triton import Sam3Client

SCENES = 40


@pytest.fixture(scope="module")
def client(serve, exported_demo: Path) -> Iterator[Sam3Client]:
    with Sam3Client(serve(exported_demo).grpc_url) as client:
        yield client


@pytest.fixture(scope="module")
def scenes() -> list[tuple[np.ndarray, np.ndarray]]:
    """Images uint8 [H, W, 3] and targets bool [H, W] from seeds that were not used in training."""
    return [(scene.image, target) for scene, targets in held_out("plain", SCENES) for target in targets]


def inside(mask: np.ndarray) -> list[float]:
    """The pixel (x, y) of a mask that is nearest to the mean of its pixels."""
    pixels = np.argwhere(mask)[:, ::-1]
    return pixels[np.abs(pixels - pixels.mean(axis=0)).sum(axis=1).argmin()].tolist()


def deepest(mask: np.ndarray) -> tuple[tuple[int, int], float]:
    """The pixel (x, y) of a mask that is farthest from its border, and how far, in pixels."""
    distances = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(distances.argmax(), distances.shape)
    return (int(x), int(y)), float(distances[y, x])


def box_around(mask: np.ndarray) -> list[float]:
    pixels = np.argwhere(mask)[:, ::-1]
    return [*(pixels.min(axis=0)).tolist(), *(pixels.max(axis=0) + 1).tolist()]


def test_a_click_and_a_box_find_the_target(client: Sam3Client, scenes) -> None:
    # On 300 scenes 0.88 and 0.88 were measured (export/sam3_export/demo/report.md).
    clicked = [overlap(client.predict(image, points=[inside(target)]).masks[0], target) for image, target in scenes]
    boxed = [overlap(client.predict(image, box=box_around(target)).masks[0], target) for image, target in scenes]
    assert np.mean(clicked) >= 0.75
    assert np.mean(boxed) >= 0.75


def test_a_background_click_removes_its_place_from_the_mask(client: Sam3Client) -> None:
    removed, before, after = [], 0, 0
    for scene, targets in held_out("plain", 3 * SCENES):
        for target in targets:
            first = client.predict(scene.image, points=[inside(target)]).masks[0]
            (x, y), depth = deepest(first & ~target)
            if depth < 4:  # a rim: thinner than one of the mask decoder's own pixels (72 for the image's 252)
                continue
            second = client.predict(scene.image, points=[inside(target), [x, y]], labels=[1, 0]).masks[0]
            removed.append(not second[y, x])
            before += (first & ~target).sum()
            after += (second & ~target).sum()
    # Measured: 13 of 17 removed; 19 % of the excess area is left.
    assert len(removed) >= 10
    assert np.mean(removed) >= 0.6
    assert after < before / 2


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
