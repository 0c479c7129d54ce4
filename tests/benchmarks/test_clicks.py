"""Images and clicks."""

from __future__ import annotations

import io
from collections import Counter

import numpy as np
from PIL import Image

from benchmarks.clicks import SIDE, clicks_on, fresh_images, zipf_trace


def test_fresh_images_are_never_the_same_file_twice():
    images = fresh_images(30) + fresh_images(30)

    assert len(set(images)) == 60


def test_fresh_images_are_photos_of_the_size_they_say():
    first, other = (np.asarray(Image.open(io.BytesIO(image))) for image in fresh_images(2))

    assert first.shape == other.shape == (SIDE, SIDE, 3)
    assert first.std() > 10
    assert (first != other).any()


def test_clicks_take_the_images_in_turns():
    images = fresh_images(3)
    clicks = clicks_on(images, 2)

    assert [click.image for click in clicks] == images + images
    assert len({click.point for click in clicks}) == 6
    assert all(0 <= value < SIDE for click in clicks for value in click.point)


def test_a_trace_clicks_on_few_images_most_and_is_the_same_each_time():
    images = fresh_images(12)
    trace = zipf_trace(images, 600)
    shares = Counter(click.image for click in trace)

    assert trace == zipf_trace(images, 600)
    assert len(shares) == 12
    assert shares[images[0]] > 2.5 * shares[images[2]] > 0
