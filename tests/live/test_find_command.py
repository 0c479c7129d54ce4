"""`sam3 find`, concepts in `sam3 batch`, and `sam3 doctor` against the real server."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import golden
import golden_concepts
import numpy as np
import pytest
from observer import Observer
from PIL import Image
from sam3_triton import Sam3Client
from sam3_triton.cli import main

CASE = next(case for case in golden_concepts.cases() if case.name == "coffee/text_and_two_boxes")
BOXES = ["--box", ",".join(map(str, CASE.boxes[0])), "--not-box", ",".join(map(str, CASE.boxes[1]))]


@pytest.fixture(scope="module")
def concept_server(serve, exported_concepts: Path):
    return serve(exported_concepts)


def test_find_writes_what_the_client_returns(
    concept_server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, texts = tmp_path / "a" / "found", ["A red coffee cup", "cat"]
    command = ["find", str(CASE.photo), *texts, *BOXES, "--threshold", "0.45", "-o", str(out), "--overlay"]
    assert main([*command, "--url", concept_server.grpc_url]) == 0
    told = capsys.readouterr().out
    with Sam3Client(concept_server.grpc_url) as client:
        expected = client.find(CASE.photo, text=texts, boxes=CASE.boxes, box_labels=[1, 0], threshold=0.45)
    report = json.loads((out / "instances.json").read_text())
    assert (report["height"], report["width"]) == CASE.size
    assert report["image_id"] == expected[0].image_id
    assert report["model"]["checkpoint_sha256"] == expected[0].model.checkpoint_sha256
    names = []
    for result, found, stem in zip(report["results"], expected, ("a-red-coffee-cup", "cat"), strict=True):
        # The texts of a call may share a batch, which rounds differently.
        assert (result["text"], result["total"]) == (found.text, found.total)
        assert result["presence"] == pytest.approx(found.presence, abs=1e-5)
        assert [instance["score"] for instance in result["instances"]] == pytest.approx(found.scores, abs=1e-5)
        assert [instance["box"] for instance in result["instances"]] == pytest.approx(found.boxes, abs=0.05)
        assert [instance["mask"] for instance in result["instances"]] == [
            f"{stem}.{rank}.png" for rank in range(1, len(found.scores) + 1)
        ]
        for instance, mask in zip(result["instances"], found.masks, strict=True):
            assert golden.iou(np.asarray(Image.open(out / instance["mask"])) > 0, mask) > 0.99
            assert str(out / instance["mask"]) in told
            names.append(instance["mask"])
    assert len(names) > 1
    assert {path.name for path in out.iterdir()} == {*names, "instances.json", "overlay.png"}
    overlay, photo = Image.open(out / "overlay.png"), Image.open(CASE.photo).convert("RGB")
    assert overlay.size == photo.size
    assert (np.asarray(overlay) != np.asarray(photo)).any()
    assert f"A red coffee cup: {expected[0].total} instance" in told


def test_find_of_nothing(concept_server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found"
    command = ["find", str(CASE.photo), *BOXES, "--threshold", "1", "-o", str(out)]
    assert main([*command, "--url", f"http://{concept_server.http_url}"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("like the boxes: no instances above 1, presence 0.")
    assert [path.name for path in out.iterdir()] == ["instances.json"]
    (result,) = json.loads((out / "instances.json").read_text())["results"]
    assert (result["text"], result["instances"]) == (None, [])


def test_find_does_not_overwrite_the_photo(concept_server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("overlay.png", "cat.1.png"):
        photo = tmp_path / name
        shutil.copy(CASE.photo, photo)
        command = ["find", str(photo), "cat", "--threshold", "0.1", "-o", str(tmp_path), "--overlay"]
        assert main([*command, "--url", concept_server.grpc_url]) == 1
        assert f"{name} would overwrite the photo" in capsys.readouterr().err
        assert photo.read_bytes() == CASE.photo.read_bytes()
        photo.unlink()
    assert not list(tmp_path.iterdir())


def test_a_batch_of_clicks_and_concepts(concept_server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos, out, prompts = tmp_path / "photos", tmp_path / "masks", tmp_path / "prompts.jsonl"
    photos.mkdir()
    shutil.copy(CASE.photo, photos / "coffee.png")
    lines = [
        {"image": "coffee.png", "points": [[300, 200]]},
        {"image": "coffee.png", "text": "cat", "threshold": 0.45, "name": "cat"},
        {"image": "coffee.png", "boxes": CASE.boxes, "box_labels": [1, 0], "threshold": 0.45, "name": "like"},
        {"image": "coffee.png", "text": "cat", "threshold": 1, "name": "none"},
        {"image": "coffee.png", "text": "a\x07b", "name": "bad"},
    ]

    def run(*these: dict) -> int:
        prompts.write_text("".join(json.dumps(line) + "\n" for line in these))
        command = ["batch", str(photos), "--prompts", str(prompts), "-o", str(out)]
        return main([*command, "--url", concept_server.grpc_url])

    assert run(*lines) == 3
    assert "control character" in capsys.readouterr().err
    entries = [json.loads(line) for line in (out / "report.jsonl").read_text().splitlines()]
    with Sam3Client(concept_server.grpc_url) as client:
        cats = client.find(CASE.photo, text="cat", threshold=0.45)
        similar = client.find(CASE.photo, boxes=CASE.boxes, box_labels=[1, 0], threshold=0.45)
    for entry, found in ((entries[1], cats), (entries[2], similar)):
        assert len(entry["masks"]) == len(found.scores) > 1
        for name, mask in zip(entry["masks"], found.masks, strict=True):
            assert golden.iou(np.asarray(Image.open(out / name)) > 0, mask) > 0.99
        assert entry["scores"] == pytest.approx(found.scores.tolist(), abs=1e-5)
        assert entry["boxes"] == pytest.approx(found.boxes, abs=0.05)
        assert entry["presence"] == pytest.approx(found.presence, abs=1e-5)
    assert entries[1]["masks"][:2] == ["coffee.cat.png", "coffee.cat.2.png"]
    assert (entries[3]["masks"], entries[3]["scores"]) == ([], [])
    assert "control character" in entries[4]["error"]
    # A second run does only what has changed.
    written = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    assert run(*lines[:4]) == 0
    assert "4 of 4 prompts done (4 of them by earlier runs)" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.glob("*.png")} == written
    higher = float(cats.scores[0] + cats.scores[1]) / 2
    assert run(lines[0], {**lines[1], "threshold": higher}) == 0
    assert sorted(path.name for path in out.glob("coffee.cat*")) == ["coffee.cat.png"]


def test_doctor(concept_server, exported_concepts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--url", concept_server.grpc_url, "--repository", str(exported_concepts)]) == 0
    told = capsys.readouterr().out
    assert re.search(r"^ok       concepts       served: an answer came back in \d+ ms$", told, re.MULTILINE)
    assert ", with concept prompts, exported at" in told
    for model in ("sam3_text_encoder", "sam3_concept_detector"):
        assert f"artifacts      {model}: model.onnx" in told
    assert re.search(r"all 13 are ready", told)
    metrics = Observer(concept_server).metrics()
    each = metrics["bytes"] / metrics["entries"]
    assert f"({each / 1e6:.1f} MB each)" in told, "the features for concepts count, too"


def test_doctor_finds_a_server_that_lacks_the_repositorys_concepts(
    server, exported_concepts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--url", server.grpc_url, "--repository", str(exported_concepts)]) == 1
    told = capsys.readouterr().out
    assert "fault    concepts       the repository has concept prompts, but the server does not serve them" in told


def test_doctor_replays_golden_concepts(
    concept_server, exported_concepts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["doctor", "--url", concept_server.grpc_url, "--golden", "--repository"]
    assert main([*command, str(exported_concepts)]) == 0
    told = capsys.readouterr().out
    assert "ok       golden         3 golden clicks on model.onnx agree with PyTorch: " in told
    assert "ok       golden         3 golden concepts on model.onnx agree with PyTorch: " in told

    repository = tmp_path / "model_repository"
    shutil.copytree(exported_concepts, repository, symlinks=True)
    path = repository / "sam3" / "exports" / "current" / "golden" / "concepts.json"
    document = json.loads(path.read_text())
    for harm, fault in (
        (lambda: document["concepts"][1]["instance_boxes"][0].reverse(), "the tolerances of model.onnx are scores"),
        (lambda: document["bounds"].clear(), "the server runs model.onnx, which this export does not contain"),
        (document.clear, "the golden concepts in .* are damaged"),
    ):
        harm()
        path.write_text(json.dumps(document))
        assert main([*command, str(repository)]) == 1
        assert re.search(f"fault    golden         .*{fault}", capsys.readouterr().out)
    path.unlink()
    assert main([*command, str(repository)]) == 1
    assert "no golden concepts: " in capsys.readouterr().out


def test_doctor_finds_missing_models_of_concepts(
    exported_concepts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = tmp_path / "model_repository"
    shutil.copytree(exported_concepts, repository, symlinks=True)
    (repository / "sam3_concept").unlink()
    assert main(["doctor", "--url", "127.0.0.1:9", "--repository", str(repository)]) == 1
    told = capsys.readouterr().out
    assert f"the export has concept prompts, but {repository / 'sam3_concept'} is missing" in told
