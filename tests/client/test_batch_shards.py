"""How `sam3 batch` splits prompts among several runs, and what a large file of prompts costs."""

from __future__ import annotations

import json
import random
import tracemalloc
from itertools import chain, pairwise
from pathlib import Path

import pytest
from sam3_triton.batch.local_store import LocalStore
from sam3_triton.batch.prompts_file import Jobs, parse
from sam3_triton.batch.report import report_name
from sam3_triton.batch.shards import Shard, photo_number
from sam3_triton.cli import main


def lines(photos: int, each: int) -> list[bytes]:
    """Prompts with names: `each` for every photo, not in succession."""
    return [
        json.dumps({"image": f"{photo % 7}/{photo}.jpg", "points": [[1, 2]], "name": f"n{number}"}).encode()
        for number in range(each)
        for photo in range(photos)
    ]


def jobs_of(content: list[bytes], folder: Path) -> Jobs:
    jobs, faults = parse(b"\n".join(content), LocalStore(folder))
    assert not faults
    return jobs


def test_each_photo_is_in_one_shard_whatever_the_order_of_the_lines(tmp_path: Path) -> None:
    content = lines(photos=200, each=3)
    shards = [Shard(index, 4) for index in range(4)]
    parts = [[one.outputs for one in jobs_of(content, tmp_path).of_shard(shard)] for shard in shards]
    assert sorted(chain(*parts)) == sorted(one.outputs for one in jobs_of(content, tmp_path))
    assert all(90 < len(part) < 210 for part in parts), "about 150 each"
    random.Random(0).shuffle(content)
    shuffled = [jobs_of(content, tmp_path).of_shard(shard) for shard in shards]
    assert [sorted(one.outputs for one in jobs) for jobs in shuffled] == [sorted(part) for part in parts]
    photos = [{one.image for one in jobs} for jobs in shuffled]
    assert sum(map(len, photos)) == len(set().union(*photos)) == 200


def test_a_photos_shard_stays_the_same_in_later_versions() -> None:
    numbers = {"a/b.jpg": 8, "Löffel.png": 9, "\udcff.png": 7}
    assert {image: photo_number(image) % 10 for image in numbers} == numbers


def test_prompts_of_a_photo_follow_each_other(tmp_path: Path) -> None:
    images = [one.image for one in jobs_of(lines(photos=50, each=3), tmp_path).grouped()]
    assert images[:4] == ["0/0.jpg", "0/0.jpg", "0/0.jpg", "1/1.jpg"]
    assert sum(one != other for one, other in pairwise(images)) == 49


def test_reports_of_shards_have_names_of_their_own() -> None:
    assert report_name(Shard.parse("3/16")) == "report-00003-of-00016.jsonl"
    assert report_name(Shard.parse("0/1")) == "report-00000-of-00001.jsonl"


@pytest.mark.parametrize(
    ("shard", "fault"),
    [
        ("16/16", "shards are numbered from 0 to 15, not 16"),
        ("0/0", "the number of shards must be from 1 to 100000, not 0"),
        ("-1/4", "expected K/N, such as 3/16 for the shard 3 of 16, not '-1/4'"),
        ("3", "expected K/N"),
        ("/4", "expected K/N"),
        ("$(JOB_COMPLETION_INDEX)/4", "expected K/N"),
    ],
)
def test_a_wrong_shard_is_wrong_usage(shard: str, fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["batch", "photos", "--prompts", "prompts.jsonl", "-o", "masks", f"--shard={shard}"])
    assert stopped.value.code == 2
    assert f"argument --shard: {fault}" in capsys.readouterr().err


@pytest.mark.parametrize("shard", ["0/2", "1/2"])
def test_each_shard_checks_the_whole_file(shard: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "prompts.jsonl"
    # The photos are in different shards, and their masks would have one name.
    content = [{"image": image, "points": [[1, 2]], "name": "cup"} for image in ("g.jpg", "g.png")]
    assert {photo_number(one["image"]) % 2 for one in content} == {0, 1}
    prompts.write_text("".join(json.dumps(one) + "\n" for one in content))
    out = tmp_path / "masks"
    assert main(["batch", str(tmp_path), "--prompts", str(prompts), "-o", str(out), "--shard", shard]) == 1
    assert f"{prompts}:2: its mask would be g.cup.png, the same as that of line 1" in capsys.readouterr().err
    assert not out.exists()


def test_a_shard_without_prompts_is_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "masks"
    prompts.write_bytes(lines(photos=1, each=1)[0])
    shard = f"{(photo_number('0/0.jpg') + 1) % 2}/2"
    assert main(["batch", str(tmp_path), "--prompts", str(prompts), "-o", str(out), "--shard", shard]) == 0
    assert capsys.readouterr().out.startswith("0 of 0 prompts done: ")


def test_a_line_costs_little_memory(tmp_path: Path) -> None:
    content = b"\n".join(lines(photos=1000, each=3))
    parse(content[:1000].rpartition(b"\n")[0], LocalStore(tmp_path))
    tracemalloc.start()
    jobs, _ = parse(content, LocalStore(tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # 110 bytes are measured; a list of jobs takes 1300.
    assert peak / len(jobs) < 250
