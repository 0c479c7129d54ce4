"""Installing a set is one step, and a failed export leaves no trace."""

from __future__ import annotations

import errno
import fcntl
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import golden
import pytest
from repository import copy_repository
from sam3_export import cli, installation
from sam3_export.components import CLICKS, CONCEPTS, image_encoder, mask_decoder
from sam3_export.errors import ExportError
from sam3_export.formats import FORMATS

ENCODER, DECODER = image_encoder.NAME, mask_decoder.NAME
MODEL_NAMES = tuple(component.name for component in CLICKS)
WITH_CONCEPTS = (*MODEL_NAMES, *(component.name for component in CONCEPTS))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return copy_repository(tmp_path)


def install(repository: Path, name: str, model_names: tuple[str, ...] = MODEL_NAMES) -> None:
    staged = repository / "sam3" / "exports" / ".staging"
    for model in model_names:
        (staged / model).mkdir(parents=True)
        (staged / model / "model.onnx").write_text(name)
    installation.install(repository, staged, name, model_names)


def installed(repository: Path) -> tuple[str, str]:
    encoder, decoder = ((repository / model / "1" / "model.onnx").read_text() for model in (ENCODER, DECODER))
    return encoder, decoder


def tree(repository: Path) -> dict[str, bytes | str]:
    """Every file and link with its content; the locks aside."""
    return {
        str(path.relative_to(repository)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in repository.rglob("*")
        if (path.is_symlink() or path.is_file()) and not path.name.endswith(".lock")
    }


def test_a_set_replaces_the_one_before(repository: Path) -> None:
    install(repository, "first")
    assert installed(repository) == ("first", "first")
    install(repository, "second")
    assert installed(repository) == ("second", "second")
    assert not (repository / "sam3" / "exports" / "first").exists()


def test_the_models_of_concepts_are_there_only_if_concepts_were_exported(repository: Path) -> None:
    install(repository, "clicks")
    without = tree(repository)
    install(repository, "concepts", WITH_CONCEPTS)
    shown = {path.name for path in repository.iterdir()}
    assert shown > {"sam3_concept", "sam3_text_cache", "sam3_concept_postprocess", "sam3_encode_concepts"}
    for model in WITH_CONCEPTS:
        assert (repository / model / "1" / "model.onnx").read_text() == "concepts"
    install(repository, "clicks")
    assert tree(repository) == without


def test_a_model_in_place_of_a_link_is_not_replaced(repository: Path) -> None:
    (repository / "sam3_concept").mkdir()
    with pytest.raises(ExportError, match="sam3_concept was not made by sam3-export"):
        installation.check_repository(repository, MODEL_NAMES)


def test_a_repository_that_is_moved_keeps_its_artifacts(repository: Path, tmp_path: Path) -> None:
    install(repository, "first")
    moved = tmp_path / "elsewhere"
    shutil.move(repository, moved)
    assert installed(moved) == ("first", "first")


def test_nobody_sees_the_encoder_of_one_set_beside_the_decoder_of_another(repository: Path) -> None:
    install(repository, "0")
    done = threading.Event()
    wrong: list[object] = []

    def watch() -> None:
        # Reads `current` once, through which the links of both models go; it exists at any moment.
        current = repository / "sam3" / "exports" / "current"
        while not done.is_set():
            try:
                chosen = current.parent / current.readlink()
            except OSError as error:
                wrong.append(error)
                continue
            try:
                seen = tuple((chosen / model / "model.onnx").read_text() for model in MODEL_NAMES)
            except FileNotFoundError:  # replaced and deleted since it was read
                continue
            if len(set(seen)) != 1:
                wrong.append(seen)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(50):
        install(repository, str(number + 1))
    done.set()
    watcher.join()
    assert not wrong
    assert installed(repository) == ("50", "50")


def test_the_old_set_stays_until_the_rename_puts_the_new_one_in_its_place(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(repository, "first")
    replaced: list[tuple[str, tuple[str, str]]] = []
    replace = Path.replace

    def watched(path: Path, target: Path) -> Path:
        replaced.append((target.name, installed(repository)))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", watched)
    install(repository, "second")
    assert replaced == [("current", ("first", "first"))]


def test_installing_waits_for_a_server_that_is_loading(repository: Path) -> None:
    install(repository, "first")
    with (repository / "sam3" / "exports" / ".swap.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # as sam3-serve holds it while Triton loads
        exporter = threading.Thread(target=install, args=(repository, "second"))
        exporter.start()
        time.sleep(0.3)
        assert installed(repository) == ("first", "first")
        # An export that is interrupted now still has its artifacts to reuse.
        assert (repository / "sam3" / "exports" / ".staging" / DECODER / "model.onnx").exists()
    exporter.join(10)
    assert installed(repository) == ("second", "second")


def test_a_version_folder_of_somebody_else_is_left_alone(repository: Path) -> None:
    (repository / DECODER / "1").mkdir()
    with pytest.raises(ExportError, match="was not made by sam3-export"):
        installation.check_repository(repository, MODEL_NAMES)


def test_too_little_space_is_reported_before_the_work(repository: Path) -> None:
    with pytest.raises(ExportError, match=r"GB are needed, .* GB are free"):
        installation.check_space(repository, 10**18)


def run(repository: Path, *arguments: str) -> int:
    basic = ["--checkpoint", str(golden.CHECKPOINT), "--config", str(golden.CONFIG), "--repository", str(repository)]
    return cli.main([*basic, "--formats", "torchscript", *arguments])


def _altered_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """TorchScript is written with a weight that is slightly off."""
    import torch
    from sam3_export.torchscript_formats import TorchScript

    write = TorchScript.write

    def altered(self, module, spec, sample, path) -> None:  # type: ignore[no-untyped-def]
        if spec.model_name == DECODER:
            with torch.no_grad():
                module.decoder.upscale_conv2.bias.add_(0.05)
        write(self, module, spec, sample, path)

    monkeypatch.setattr(TorchScript, "write", altered)


def _full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 10, 0))


def _full_disk_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file system reports a full disk when half of the artifact is written."""
    write_bytes = Path.write_bytes

    def fill_up(path: Path, data: bytes) -> int:
        if path.name == "model.pt":
            write_bytes(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", fill_up)


def _unexportable(monkeypatch: pytest.MonkeyPatch) -> None:
    """For an operation that they cannot translate, the exporters raise a RuntimeError of many lines."""
    from sam3_export.torchscript_formats import TorchScript

    def fail(self, module, spec, sample, path) -> None:  # type: ignore[no-untyped-def]
        path.write_bytes(b"half")
        raise RuntimeError("no translation of aten::sort\nmore")

    monkeypatch.setattr(TorchScript, "write", fail)


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (_altered_weights, "mask decoder, one point, single mask: MASK_LOGITS differs from PyTorch"),
        (_full_disk, "GB are needed, 0.00 GB are free"),
        (_full_disk_on_the_way, "model.pt: no space left on the device"),
        (_unexportable, "mask decoder: torchscript failed (no translation of aten::sort)"),
    ],
)
def test_a_failed_export_leaves_the_repository_as_it_was(
    fault: Callable,
    line: str,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install(repository, "before")
    before = tree(repository)
    fault(monkeypatch)
    assert run(repository) == 1
    errors = [text for text in capsys.readouterr().err.splitlines() if text.startswith("sam3-export: ")]
    assert len(errors) == 1
    assert line in errors[0]
    assert tree(repository) == before


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--checkpoint", "nowhere.pt"], "nowhere.pt: no such file or directory"),
        (["--config", "nowhere.json"], "nowhere.json: No such file or directory"),
        (["--checkpoint", __file__], "test_installation.py: not a PyTorch checkpoint"),
        (["--repository", "nowhere"], "nowhere: not a model repository"),
    ],
)
def test_wrong_arguments_are_reported_in_one_line(
    arguments: list[str], line: str, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(repository, *arguments) == 1
    errors = [text for text in capsys.readouterr().err.splitlines() if text.startswith("sam3-export: ")]
    assert len(errors) == 1
    assert line in errors[0]


def test_an_unknown_format_is_reported(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(repository, "--formats", "onnx,tensorflow")
    assert f"unknown format tensorflow; choose from {', '.join(FORMATS)}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("precision", "machine"), [("fp16", "a machine with a GPU"), ("bf16", "a machine with AVX-512, or with a GPU")]
)
def test_an_export_that_takes_hours_on_this_machine_is_refused_at_once(
    precision: str,
    machine: str,
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("sam3_export.torchscript_formats.TorchScriptFp16.largest_on_slow_cpu", 1000)
    monkeypatch.setattr("sam3_export.torchscript_formats.has_fast_bf16", lambda: False)
    assert run(repository, "--formats", f"onnx,torchscript-{precision}") == 1
    assert f"takes hours in {precision} on this CPU; export this format on {machine}" in capsys.readouterr().err
    assert not (repository / "sam3" / "exports").exists()


def test_bf16_is_exported_at_any_size_where_the_cpu_is_fast_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from sam3_export.torchscript_formats import TorchScriptBf16

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("sam3_export.torchscript_formats.has_fast_bf16", lambda: True)
    TorchScriptBf16().check_machine(850_000_000)
