"""A click, split where it passes from one program to the next."""

from __future__ import annotations

import pytest

from benchmarks.waterfall import STEPS, read, segments

MS = 1_000_000


def trace() -> dict[str, dict[str, int]]:
    """A click with a step every 10 ms; the cache answers before its call returns, as it does."""
    times = {"sam3": {"GRPC_WAITREAD_END": 2 * MS, "GRPC_SEND_START": 35 * MS, "GRPC_SEND_END": 36 * MS}}
    for number, model in enumerate(STEPS):
        start = (4 + 10 * number) * MS
        times[model] = {
            "REQUEST_START": start,
            "COMPUTE_START": start + 1 * MS,
            "COMPUTE_INPUT_END": start + 3 * MS,
            "COMPUTE_OUTPUT_START": start + 9 * MS,
        }
    times[STEPS[0]]["COMPUTE_OUTPUT_START"] = 30 * MS
    return times


def test_the_parts_are_all_that_the_caller_waited():
    found = segments(trace(), 0, 40 * MS)

    assert sum(segment.milliseconds for segment in found) == pytest.approx(40)
    assert all(segment.milliseconds >= 0 for segment in found)


def test_each_part_is_where_it_belongs():
    found = segments(trace(), 0, 40 * MS)
    of = {(segment.step, segment.kind): segment.milliseconds for segment in found if segment.step in STEPS}

    assert of["sam3_mask_decoder", "queue"] == 1
    assert of["sam3_mask_decoder", "copies"] == 2
    assert of["sam3_mask_decoder", "compute"] == 6
    assert of["sam3_mask_decoder", "ensemble"] == 1
    # Its answer counts from when the next model began, however late its call returned.
    assert of["sam3_embedding_cache", "compute"] == 7
    assert of["sam3_embedding_cache", "ensemble"] == 0
    assert [segment.milliseconds for segment in found if segment.kind == "client"] == [2, 4]
    assert [segment.milliseconds for segment in found if segment.kind == "network"] == [2, 1]


def test_an_answer_unpacked_before_triton_records_it_sent_gives_no_negative_time():
    *_, network, client = segments(trace(), 0, 35 * MS + MS // 2)

    assert (network.milliseconds, client.milliseconds) == (0.5, 0)


def test_a_file_of_triton_is_read_by_model():
    entries = [
        {"id": 2, "model_name": "sam3_mask_decoder", "model_version": 1, "parent_id": 1},
        {"id": 2, "timestamps": [{"name": "REQUEST_START", "ns": 5}]},
        {"id": 1, "model_name": "sam3", "model_version": 1},
        {"id": 1, "timestamps": [{"name": "REQUEST_START", "ns": 3}]},
        {"id": 1, "timestamps": [{"name": "GRPC_SEND_END", "ns": 9}]},
    ]

    expected = {"sam3_mask_decoder": {"REQUEST_START": 5}, "sam3": {"REQUEST_START": 3, "GRPC_SEND_END": 9}}
    assert read(entries) == expected
