"""What an export leaves when it fails, and what the next one makes of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from repository import copy_repository
from sam3_export import checkpoint, cli, exporter
from sam3_export.checkpoint import Checkpoint
from sam3_export.components import CLICKS, image_encoder, mask_decoder
from sam3_export.demo import CHECKPOINT
from sam3_export.digests import sha256
from sam3_export.errors import ExportError
from sam3_export.staging import staging

DECODER, ENCODER = f"{mask_decoder.NAME}/model.onnx", f"{image_encoder.NAME}/model.onnx"
# The demonstration checkpoint has concept prompts, too.
ONLY_CLICKS = ("--components", "clicks")
REUSED = "onnx: reusing the mask decoder of an earlier run"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository in which an export with the key "key" was interrupted after the decoder, within the encoder."""
    repository = copy_repository(tmp_path)
    with staging(repository, "key", [DECODER, ENCODER]) as staged:
        for path in (DECODER, ENCODER):
            (staged.folder / path).parent.mkdir()
            (staged.folder / path).write_text("content")
        staged.add(DECODER, {"format": "onnx"})
        (staged.folder / "golden").mkdir()
    return repository


def root(repository: Path) -> Path:
    return repository / "sam3" / "exports" / ".staging"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_only_what_has_passed_is_reused(repository: Path) -> None:
    with staging(repository, "key", [DECODER, ENCODER]) as staged:
        assert list(staged.passed) == [DECODER]
        assert staged.passed[DECODER]["format"] == "onnx"
        assert staged.passed[DECODER]["bytes"] == len("content")
        assert files(staged.folder) == {mask_decoder.NAME, DECODER}


def test_the_user_reads_what_is_kept(capsys: pytest.CaptureFixture[str], repository: Path) -> None:
    assert capsys.readouterr().err == f"Kept in {root(repository)} for the next export: {DECODER}\n"


def _truncated(kept: Path) -> None:
    (kept / "set" / DECODER).write_text("cont")


def _altered(kept: Path) -> None:
    (kept / "set" / DECODER).write_text("c0ntent")


def _lost(kept: Path) -> None:
    (kept / "set" / DECODER).unlink()


def _damaged_record(kept: Path) -> None:
    (kept / "passed.json").write_text("{")


@pytest.mark.parametrize("damage", [_truncated, _altered, _lost, _damaged_record])
def test_a_damaged_file_is_not_reused(damage: Callable[[Path], None], repository: Path) -> None:
    damage(root(repository) / "key")
    with staging(repository, "key", [DECODER]) as staged:
        assert not staged.passed
        assert not files(staged.folder)


def test_what_belongs_to_another_key_is_deleted(repository: Path) -> None:
    with staging(repository, "other", [DECODER]) as staged:
        assert not staged.passed
        assert files(root(repository)) == {"other", "other/set"}


def test_an_artifact_that_is_not_exported_this_time_is_deleted(repository: Path) -> None:
    with staging(repository, "key", [ENCODER]) as staged:
        assert not staged.passed
        assert not files(staged.folder)


def test_an_export_in_which_nothing_passed_leaves_nothing(tmp_path: Path) -> None:
    repository = copy_repository(tmp_path)
    with staging(repository, "key", [DECODER]) as staged:
        (staged.folder / "half").write_text("content")
    assert not root(repository).exists()


def test_a_second_export_at_the_same_time_is_refused_and_spoils_nothing(repository: Path) -> None:
    with staging(repository, "key", [DECODER]) as staged:
        with pytest.raises(ExportError, match="another sam3-export"), staging(repository, "other", []):
            pass
        assert (staged.folder / DECODER).read_text() == "content"


def _other_weights(loaded: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    return replace(loaded, sha256="0" * 64)


def _other_sizes(loaded: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    return replace(loaded, architecture=replace(loaded.architecture, window_size=1))


def _other_config(loaded: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    """A directory of transformers can state what `Architecture` does not."""
    loaded.model.config.mask_decoder_config.hidden_act = "relu"
    return loaded


def _other_package(loaded: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    monkeypatch.setattr(exporter, "version", lambda name: "2" if name == "onnxruntime" else "1")
    return loaded


def _other_code(loaded: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> Checkpoint:
    monkeypatch.setattr(exporter, "sha256", lambda paths: sha256([path for path in paths if path.name != "parity.py"]))
    return loaded


@pytest.mark.parametrize("change", [_other_weights, _other_sizes, _other_config, _other_package, _other_code])
def test_the_key_depends_on_everything_that_makes_an_artifact(
    change: Callable[[Checkpoint, pytest.MonkeyPatch], Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = checkpoint.load(str(CHECKPOINT), CHECKPOINT.with_suffix(".json"))
    key = exporter.artifact_key(loaded)
    assert exporter.artifact_key(checkpoint.load(str(CHECKPOINT), CHECKPOINT.with_suffix(".json"))) == key
    assert exporter.artifact_key(change(loaded, monkeypatch)) != key


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which an export of the demonstration checkpoint was killed after the decoder had passed."""
    repository = copy_repository(tmp_path_factory.mktemp("killed"))
    command = [
        sys.executable,
        "-m",
        "sam3_export.cli",
        *ONLY_CLICKS,
        "--formats",
        "onnx",
        "--repository",
        str(repository),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("onnx: writing the image encoder"):
                time.sleep(1)  # within that work
                os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    return repository


def test_an_export_after_a_killed_one_reuses_what_had_passed(killed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder,) = root(killed).iterdir()
    record = json.loads((folder / "passed.json").read_text())
    assert list(record) == [DECODER]
    written = (folder / "set" / DECODER).stat().st_ino
    assert cli.main([*ONLY_CLICKS, "--formats", "onnx", "--repository", str(killed)]) == 0
    steps = capsys.readouterr().err
    assert REUSED in steps
    assert "writing the mask decoder" not in steps
    current = killed / "sam3" / "exports" / "current"
    assert (current / DECODER).stat().st_ino == written
    report = json.loads((current / "export.json").read_text())["artifacts"]
    assert set(report) == {DECODER, ENCODER}
    assert report[DECODER] == record[DECODER]
    assert report[DECODER]["sha256"] == sha256([current / DECODER])
    assert not root(killed).exists()


def test_an_export_that_was_refused_at_its_end_is_installed_without_writing_anything_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = copy_repository(tmp_path)
    command = [*ONLY_CLICKS, "--formats", "torchscript", "--repository", str(repository)]
    config = tmp_path / "ensemble_configs" / "torchscript" / "sam3_image_encoder.pbtxt"
    right = config.read_text()
    config.write_text(right.replace("TYPE_UINT8", "TYPE_UINT16"))
    assert cli.main(command) == 1
    assert "not fit for Triton's native backends" in capsys.readouterr().err
    config.write_text(right)
    monkeypatch.setattr("sam3_export.torchscript_formats.TorchScript.write", None)
    assert cli.main(command) == 0
    assert "torchscript: replaying the golden clicks: logits" in capsys.readouterr().err
    current = repository / "sam3" / "exports" / "current"
    assert {path.name for path in current.iterdir()} == {
        "export.json",
        "golden",
        *[component.name for component in CLICKS],
    }
    assert len(json.loads((current / "export.json").read_text())["artifacts"]) == 2
