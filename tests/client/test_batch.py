"""How `sam3 batch` reads a file of prompts and continues an earlier run."""

from __future__ import annotations

import json
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sam3_triton import ConceptPrompt, Sam3Error
from sam3_triton.batch import prompts_file
from sam3_triton.batch.jobs import Job
from sam3_triton.batch.local_store import LocalStore
from sam3_triton.batch.prompts_file import Fault, Jobs
from sam3_triton.batch.report import Report, report_name
from sam3_triton.batch.shards import Shard
from sam3_triton.cli import main

PNG = b"a mask"
REPORT = report_name(None)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "b.jpg").write_bytes(b"a photo")
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "masks"
    folder.mkdir()
    return folder


def line(**content: Any) -> bytes:
    return json.dumps({"image": "b.jpg", "points": [[1, 2]], **content}).encode()


def parse(content: bytes, photos: Path, multimask: bool = False) -> tuple[Jobs, list[Fault]]:
    return prompts_file.parse(content, LocalStore(photos), multimask)


def job(photos: Path, number: int = 1, **content: Any) -> Job:
    jobs, faults = parse(b"\n" * (number - 1) + line(**content), photos)
    assert not faults
    return jobs[0]


def report_in(out: Path) -> Report:
    return Report(LocalStore(out), REPORT)


def is_done(report: Report, one: Job, photos: Path) -> bool:
    return report.is_done(one, LocalStore(photos))


def done(report: Report, one: Job, photos: Path) -> None:
    stamp = LocalStore(photos).status(one.image).stamp
    report.succeeded(one, [PNG] * len(one.outputs), np.full(len(one.outputs), 0.5), stamp)


def concept(photos: Path, number: int = 1, **content: Any) -> Job:
    jobs, faults = parse(b"\n" * (number - 1) + concept_line(**content), photos)
    assert not faults
    return jobs[0]


def concept_line(**content: Any) -> bytes:
    return json.dumps({"image": "b.jpg", "text": "cup", **content}).encode()


def found(report: Report, one: Job, photos: Path, count: int) -> None:
    stamp = LocalStore(photos).status(one.image).stamp
    report.succeeded(one, [PNG] * count, np.full(count, 0.5), stamp, {"presence": 0.75})


def entries(out: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (out / REPORT).read_text().splitlines()]


def test_masks_keep_sub_folders_and_differ_by_name_or_line(photos: Path) -> None:
    content = b"\n".join(
        [
            line(image="a/b.jpg", name="cup"),
            b"",
            line(image="./a/b.jpg"),
            line(image="a/b.jpg", multimask=True, name="Löffel 2"),
        ]
    )
    jobs, faults = parse(b"\xef\xbb\xbf" + content + b"\r\n", photos)
    assert not faults
    assert [(one.line, one.image, one.outputs) for one in jobs] == [
        (1, "a/b.jpg", ("a/b.cup.png",)),
        (3, "a/b.jpg", ("a/b.3.png",)),
        (4, "a/b.jpg", ("a/b.Löffel 2.png", "a/b.Löffel 2.2.png", "a/b.Löffel 2.3.png")),
    ]


def test_multimask_is_the_default_for_lines_without_the_key(photos: Path) -> None:
    jobs, _ = parse(line() + b"\n" + line(multimask=False), photos, multimask=True)
    assert [one.prompt.multimask for one in jobs] == [True, False]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"{", "not JSON: "),
        (b"\xff", "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[1]", "not a JSON object"),
        (b'{"image": "b.jpg", "box": [1, 2, 3, 4], "box": [1, 2, 3, 4]}', "'box' is given twice"),
        (line(point=[1, 2]), "unknown key 'point'"),
        (line(image=None), "image is missing"),
        (line(image=""), "image must be a file's path"),
        (line(image=7), "image must be a file's path"),
        (line(image="a\nb"), "image must be a file's path"),
        (line(image="../b.jpg"), "must be inside"),
        (line(image="a/../../b.jpg"), "must be inside"),
        (line(image="a/../b.jpg"), "must be inside"),
        (line(image="/b.jpg"), "must be inside"),
        (line(image="link/b.jpg"), "must be inside"),
        (line(image="\ud800"), "is not a valid file name"),
        (line(points=[1, 2]), "points must have the shape"),
        (line(points=[["1", "2"]]), "points must be a list of numbers"),
        (line(points=[[True, 2]]), "points must be a list of numbers"),
        (line(points=None), "no prompt"),
        (line(points=[[float("nan"), 2]]), "points must be finite"),
        (line(labels=[1, 0]), "1 points, but 2 labels"),
        (line(labels=[2]), "a label must be 1"),
        (line(box=[5, 5, 1, 1]), "box must be x1"),
        (line(multimask="yes"), "multimask must be true or false"),
        (line(name="../b"), "name must be at most 100 letters"),
        (line(name=""), "name must be at most 100 letters"),
        (line(name="a."), "name must be at most 100 letters"),
        (line(name=7), "name must be at most 100 letters"),
        (line(image="x" * 250), "file name of its mask would be too long"),
    ],
)
def test_an_invalid_line_is_reported_with_its_number(photos: Path, text: bytes, fault: str) -> None:
    (photos / "link").symlink_to(photos.parent)
    jobs, faults = parse(line() + b"\n" + text, photos)
    assert [one.line for one in jobs] == [1]
    assert [number for number, _ in faults] == [2]
    assert fault in faults[0][1]
    assert "\n" not in faults[0][1]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"name": "cup"}, {"name": "cup"}),
        ({"name": "2"}, {}),
        ({"multimask": True, "name": "cup"}, {"name": "cup.3"}),
        ({"image": "b.jpg", "name": "cup"}, {"image": "b.png", "name": "cup"}),
    ],
)
def test_two_lines_must_not_write_the_same_mask(photos: Path, first: dict[str, Any], second: dict[str, Any]) -> None:
    jobs, faults = parse(line(**first) + b"\n" + line(**second), photos)
    assert len(jobs) == 1
    assert faults[0][0] == 2
    assert "the same as that of line 1" in faults[0][1]


def test_all_invalid_lines_are_reported_before_anything_is_sent(
    photos: Path, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_bytes(b"\n".join([b"{", line(), line(name="/")]))
    assert main(["batch", str(photos), "--prompts", str(prompts), "-o", str(out)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"{prompts}:1: not JSON")
    assert lines[1].startswith(f"{prompts}:3: name must be")
    assert lines[2] == f"sam3: 2 invalid lines in {prompts}; nothing was sent"
    assert not list(out.iterdir())


@pytest.mark.parametrize(
    ("prompts", "out", "fault"),
    [
        ("prompts.jsonl", "photos", "the output folder must not be the folder of photos"),
        ("prompts.jsonl", "photos/../photos", "the output folder must not be the folder of photos"),
        ("over.jsonl", "photos/masks", "over.jsonl:1: its mask would overwrite a photo"),
        ("masks/report.jsonl", "masks", "the report would overwrite"),
        ("empty.jsonl", "masks", "no prompts in this file"),
        ("absent.jsonl", "masks", "No such file"),
        ("prompts.jsonl", "prompts.jsonl", "File exists"),
    ],
)
def test_a_run_that_would_overwrite_files_or_do_nothing_does_not_start(
    photos: Path, tmp_path: Path, prompts: str, out: str, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "masks").mkdir()
    for name in ("prompts.jsonl", "masks/report.jsonl"):
        (tmp_path / name).write_bytes(line())
    (tmp_path / "empty.jsonl").write_text("\n\n")
    (tmp_path / "over.jsonl").write_bytes(line(name="cup") + b"\n" + line(image="masks/b.cup.png"))
    before = sorted(tmp_path.rglob("*"))
    assert main(["batch", str(photos), "--prompts", str(tmp_path / prompts), "-o", str(tmp_path / out)]) == 1
    assert sorted(tmp_path.rglob("*")) == before
    assert fault in capsys.readouterr().err


def test_a_finished_prompt_is_skipped(photos: Path, out: Path) -> None:
    one = job(photos, multimask=True)
    assert not is_done(report_in(out), one, photos)
    done(report_in(out), one, photos)
    report = report_in(out)
    assert is_done(report, one, photos)
    assert is_done(report, job(photos, points=[[1.0, 2]], labels=[1], multimask=True), photos), (
        "the same prompt in other words"
    )
    (photos / "b.jpg").unlink()
    assert is_done(report, one, photos)


@pytest.mark.parametrize(
    "other", [{"points": [[1, 3]]}, {"labels": [0]}, {"box": [1, 1, 2, 2]}, {"multimask": True}, {"name": "cup"}]
)
def test_a_changed_prompt_is_computed_again(photos: Path, out: Path, other: dict[str, Any]) -> None:
    done(report_in(out), job(photos), photos)
    changed = job(photos, **other)
    assert not is_done(report_in(out), changed, photos)
    assert (changed.digest == job(photos).digest) == ("name" in other)


@pytest.mark.parametrize("loss", ["gone", "empty"])
def test_a_mask_that_is_not_there_is_made_again(photos: Path, out: Path, loss: str) -> None:
    one = job(photos, multimask=True)
    done(report_in(out), one, photos)
    mask = out / one.outputs[1]
    mask.unlink() if loss == "gone" else mask.write_bytes(b"")
    assert not is_done(report_in(out), one, photos)


def test_a_changed_photo_is_computed_again(photos: Path, out: Path) -> None:
    one = job(photos)
    done(report_in(out), one, photos)
    os.utime(photos / one.image, (1, 1))
    assert not is_done(report_in(out), one, photos)


def test_a_failure_is_retried_and_removes_the_old_masks(photos: Path, out: Path) -> None:
    done(report_in(out), job(photos, multimask=True), photos)
    changed = job(photos, points=[[1, 3]])
    report_in(out).failed(changed, "no luck")
    assert not is_done(report_in(out), changed, photos)
    assert [path.name for path in out.iterdir()] == [REPORT]


def test_fewer_masks_than_before_leave_no_old_ones(photos: Path, out: Path) -> None:
    done(report_in(out), job(photos, multimask=True), photos)
    done(report_in(out), job(photos), photos)
    assert sorted(path.name for path in out.iterdir()) == ["b.1.png", REPORT]


def test_an_edited_report_cannot_remove_files_outside_its_folder(photos: Path, out: Path) -> None:
    precious = out.parent / "precious.png"
    precious.write_bytes(PNG)
    one = job(photos)
    masks = ["../precious.png", str(precious), 7, REPORT]
    (out / REPORT).write_text(json.dumps({"output": one.outputs[0], "masks": masks}) + "\n")
    report_in(out).failed(one, "no luck")
    assert precious.exists()
    assert (out / REPORT).exists()


def test_a_report_with_an_incomplete_last_line_continues(photos: Path, out: Path) -> None:
    done(report_in(out), job(photos), photos)
    with (out / REPORT).open("a") as file:
        file.write('{"output": "b.2.png", "mas')
    report = report_in(out)
    assert is_done(report, job(photos), photos)
    done(report, job(photos, 3), photos)
    assert is_done(report_in(out), job(photos, 3), photos)


def test_the_report_has_one_line_for_each_prompt_in_order(photos: Path, out: Path) -> None:
    report = report_in(out)
    jobs = [job(photos, number) for number in (1, 2, 3)]
    report.failed(jobs[2], "no luck")
    report.failed(jobs[0], "no luck")
    done(report, jobs[0], photos)
    gone_failed, gone = job(photos, 8, name="gone_failed"), job(photos, 9, name="gone")
    report.failed(gone_failed, "no luck")
    done(report, gone, photos)
    report.tidy(jobs)
    assert [(entry["line"], "masks" in entry) for entry in entries(out)] == [(1, True), (3, False), (9, True)]
    assert entries(out)[1]["error"] == "no luck"
    assert is_done(report_in(out), gone, photos)


def test_a_named_prompt_that_moved_is_done_and_reported_with_its_new_line(photos: Path, out: Path) -> None:
    done(report_in(out), job(photos, 1, name="cup"), photos)
    moved = job(photos, 5, name="cup")
    report = report_in(out)
    assert is_done(report, moved, photos)
    report.tidy([moved])
    assert entries(out)[0]["line"] == 5


def test_a_mask_that_cannot_be_written_completely_is_not_written(
    photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        done(report_in(out), job(photos), photos)
    assert not list(out.iterdir())


def test_two_runs_do_not_share_a_folder(out: Path) -> None:
    def alone(shard: str | None) -> AbstractContextManager[None]:
        return LocalStore(out).alone(report_name(Shard.parse(shard) if shard else None), whole=shard is None)

    for first, second in ((None, None), ("0/2", "0/2"), (None, "1/2"), ("1/2", None)):
        with alone(first), pytest.raises(Sam3Error, match="another `sam3 batch` is writing to"), alone(second):
            pass
    with alone("0/2"), alone("1/2"):
        pass


def test_a_line_with_words_or_boxes_is_a_concept(photos: Path) -> None:
    boxes = {"boxes": [[1, 2, 3, 4], [5, 6, 7, 8]], "box_labels": [1, False], "name": "like this"}
    lines = [concept_line(threshold=0.25, nms_iou=0.9), json.dumps({"image": "b.jpg", **boxes}).encode(), line()]
    (words, examples, click), faults = parse(b"\n".join(lines), photos, multimask=True)
    assert not faults
    assert isinstance(words.prompt, ConceptPrompt)
    assert isinstance(examples.prompt, ConceptPrompt)
    assert (words.prompt.text, words.prompt.threshold, words.prompt.nms_iou) == ("cup", 0.25, 0.9)
    assert examples.prompt.box_labels is not None
    assert examples.prompt.box_labels.tolist() == [1, 0]
    assert (words.outputs, examples.outputs) == (("b.1.png",), ("b.like this.png",))
    assert words.masks(3) == ("b.1.png", "b.1.2.png", "b.1.3.png")
    assert words.masks(0) == ()
    assert click.masks(3) == click.outputs


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ({"text": ""}, "the text is empty"),
        ({"text": 7}, "text must be a string, not 7"),
        ({"points": [[1, 2]]}, "points does not go with text or boxes"),
        ({"multimask": True}, "multimask does not go with text or boxes"),
        ({"boxes": [["1", 2, 3, 4]]}, "boxes must be a list of numbers"),
        ({"boxes": [[3, 2, 1, 4]]}, "a box must be x0, y0, x1, y1"),
        ({"boxes": [[1, 2, 3, 4]], "box_labels": [1, 0]}, "1 boxes, but 2 labels"),
        ({"threshold": "0.5"}, "threshold must be from 0 to 1, not '0.5'"),
        ({"text": None, "threshold": 0.5, "points": [[1, 2]]}, "threshold needs text or boxes"),
    ],
)
def test_an_invalid_concept_is_reported(photos: Path, content: dict[str, Any], fault: str) -> None:
    _, faults = parse(concept_line(**content), photos)
    assert [number for number, _ in faults] == [1]
    assert fault in faults[0][1]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (concept_line(name="a"), line(name="a")),
        (concept_line(name="a"), line(name="a.2")),
        (line(name="a.7"), concept_line(name="a")),
        (concept_line(name="a"), concept_line(name="a.12")),
        (concept_line(name="a.12"), concept_line(name="a")),
        (line(name="a", multimask=True), concept_line(name="a")),
    ],
)
def test_the_masks_of_a_concept_may_not_meet_those_of_another_line(photos: Path, first: bytes, second: bytes) -> None:
    jobs, faults = parse(first + b"\n" + second, photos)
    assert len(jobs) == 1
    ((number, fault),) = faults
    assert number == 2
    assert "line 1" in fault


def test_names_that_only_look_alike_are_no_clash(photos: Path) -> None:
    lines = [concept_line(name="a"), line(name="a.x"), line(name="a.02"), line(name="ab"), concept_line(name="a.2x")]
    assert not parse(b"\n".join(lines), photos)[1]


def test_the_masks_of_a_concept_may_not_overwrite_a_photo(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = photos / "masks"
    out.mkdir()
    (out / "b.cup.12.png").write_bytes(b"a photo")
    prompts = photos.parent / "prompts.jsonl"
    prompts.write_bytes(concept_line(image="b.jpg", name="cup") + b"\n" + line(image="masks/b.cup.12.png"))
    assert main(["batch", str(photos), "--prompts", str(prompts), "-o", str(out)]) == 1
    assert "its mask would overwrite a photo" in capsys.readouterr().err


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_finished_concept_is_skipped(photos: Path, out: Path, count: int) -> None:
    one = concept(photos)
    report = report_in(out)
    found(report, one, photos, count)
    assert is_done(report, one, photos)
    assert is_done(report_in(out), one, photos)
    assert len(list(out.glob("*.png"))) == count
    assert entries(out)[0]["presence"] == 0.75
    assert not is_done(report_in(out), concept(photos, threshold=0.25), photos)
    assert not is_done(report_in(out), concept(photos, text="plate"), photos)
    assert not is_done(report_in(out), concept(photos, boxes=[[1, 2, 3, 4]]), photos)


def test_a_concept_without_instances_keeps_its_line_beside_another_file(photos: Path, out: Path) -> None:
    report = report_in(out)
    found(report, concept(photos, name="none"), photos, 0)
    report.tidy([job(photos)])
    assert [entry["output"] for entry in entries(out)] == ["b.none.png"]


def test_fewer_instances_than_before_leave_no_old_masks(photos: Path, out: Path) -> None:
    report = report_in(out)
    found(report, concept(photos), photos, 3)
    found(report, concept(photos, threshold=0.75), photos, 1)
    assert [path.name for path in out.glob("*.png")] == ["b.1.png"]
    report.failed(concept(photos), "a fault")
    assert not list(out.glob("*.png"))
    assert not is_done(report, concept(photos), photos)


def test_a_concept_whose_mask_is_gone_is_found_again(photos: Path, out: Path) -> None:
    report = report_in(out)
    found(report, concept(photos), photos, 3)
    (out / "b.1.2.png").unlink()
    assert not is_done(report, concept(photos), photos)
