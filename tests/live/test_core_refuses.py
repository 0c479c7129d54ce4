"""Breaks configs once each and expects Triton's core to refuse them when it loads the model.

The core is the same for the native backends and the stand-ins, so `sam3_export.native_backends` has no rules for these.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import run_triton
from repository import PROJECT, copy_repository, link_artifacts
from sam3_export.demo import CHECKPOINT
from tritonclient.utils import InferenceServerException

ENCODER, CACHE, ENCODE, PUBLIC = "sam3_image_encoder", "sam3_embedding_cache", "sam3_encode", "sam3"
WARMUP = "parameters [", 'model_warmup { name: "w" batch_size: 1 }\nparameters ['
DECODED_SCORES = 'input_map { key: "SCORES"        value: "scores" }', ""

# By name of the copy: the model, the change to its config, and a part of Triton's reason.
REFUSED = {
    # Any model.
    "unparsed": (ENCODER, ("max_batch_size", "max_batch_sise"), "failed to read text proto"),
    "renamed": (ENCODER, ('name: "renamed"', 'name: "other"'), "directory name must equal model name"),
    "platform": (ENCODER, ("backend:", 'platform: "pytorch_libtorch" backend:'), "unexpected 'platform' and 'backend'"),
    "negative_batch": (ENCODER, ("max_batch_size: 1", "max_batch_size: -1"), "must be non-negative"),
    "preferred": (ENCODER, ("{ max_queue", "{ preferred_batch_size: 9 max_queue"), "must be <= max batch size"),
    "cpu_with_gpus": (
        ENCODER,
        ("KIND_CPU", "KIND_CPU gpus: [ 0 ]"),
        "has kind KIND_CPU but specifies one or more GPUs",
    ),
    "instance_profile": (ENCODER, ("KIND_CPU", 'KIND_CPU profile: "0"'), "only supported for TensorRT models"),
    "warmup": (ENCODER, WARMUP, "missing required input(s) ['PIXELS']"),
    "empty_axis": (CACHE, ("dims: [ -1, 4 ]", "dims: [ -1, 0 ]"), "model input 'BOXES' dimension must be integer >= 1"),
    # Ensembles.
    "instances": (
        ENCODE,
        ("input [", "instance_group { count: 1 }\ninput ["),
        "instance group should not be specified",
    ),
    "optimized": (ENCODE, ("input [", "optimization { }\ninput ["), "optimization should not be specified"),
    "unknown_model": (ENCODE, ('"sam3_preprocess"', '"sam3_decode"'), "not available or ambiguous: sam3_decode"),
    "unknown_input": (ENCODE, ('key: "PIXELS" value', 'key: "PICTURE" value'), "non-existing input PICTURE"),
    "unknown_output": (ENCODE, ('key: "PIXELS"  ', 'key: "PICTURE"  '), "non-existing output PICTURE"),
    "data_type": (ENCODE, ("TYPE_FP16", "TYPE_FP32"), "inconsistent data type: TYPE_FP32"),
    "dims": (ENCODE, ("[ 1, -1, -1, -1 ]", "[ 1, -1, -1 ]"), "inconsistent shape: [1,-1,-1]"),
    "batch": (ENCODE, ("max_batch_size: 0", "max_batch_size: 32"), "only allows maximum batch size to be 1"),
    "unwritten": (ENCODE, ('value: "pixels"', 'value: "picture"'), "depending tensors, 'pixels', is not connected"),
    "unread": (PUBLIC, DECODED_SCORES, "ensemble tensor 'scores' is unused"),
}


# The tensorrt profile runs nowhere else in the tests: here on the CPU, at the size of the demonstration model.
TENSORRT = PROJECT / "ensemble_configs" / "tensorrt" / f"{ENCODER}.pbtxt"
SIZE = json.loads(CHECKPOINT.with_suffix(".json").read_text())["image_size"]
MOVED = ("KIND_GPU count: 1 gpus: [ 0 ]", "KIND_CPU count: 1"), ("[ 1008, 1008, 3 ]", f"[ {SIZE}, {SIZE}, 3 ]")
COPIES = {"copied_cache": CACHE, "copied_encode": ENCODE, "copied_sam3": PUBLIC}


def add_copy(repository: Path, name: str, model: str, *changes: tuple[str, str], config: Path | None = None) -> None:
    """Adds a copy of a model under another name, with texts in its config replaced."""
    text = (config or repository / model / "config.pbtxt").read_text()
    for old, new in ((f'name: "{model}"', f'name: "{name}"'), *changes):
        assert old in text
        text = text.replace(old, new, 1)
    (repository / name).mkdir()
    (repository / name / "config.pbtxt").write_text(text)
    (repository / name / "1").symlink_to((repository / model / "1").resolve())


@pytest.fixture(scope="module")
def reason(exported_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Has one server load a model and returns why it refused; empty: it did not."""
    folder = tmp_path_factory.mktemp("broken")
    repository, log = copy_repository(folder), folder / "log"
    link_artifacts(exported_demo, repository)
    for name, (model, change, _) in REFUSED.items():
        add_copy(repository, name, model, change)
    for name, model in COPIES.items():
        add_copy(repository, name, model)
    add_copy(repository, "tensorrt", ENCODER, *MOVED, config=TENSORRT)
    with run_triton(repository, log, "--load-model=sam3", "--load-model=sam3_encode") as (_, control):

        def load(model: str) -> str:
            logged = log.stat().st_size
            try:
                control.load_model(model, client_timeout=120)
            except InferenceServerException as error:
                # Of a config that is refused before its backend is asked, only the log says why.
                lines = log.read_bytes()[logged:].decode().splitlines()
                return "\n".join([str(error.message()), *(line for line in lines if f"'{model}'" in line)])
            return ""

        yield load


@pytest.mark.parametrize("name", REFUSED)
def test_the_core_refuses_a_broken_config(reason: Callable[[str], str], name: str) -> None:
    assert REFUSED[name][2] in reason(name)


@pytest.mark.parametrize("name", [*COPIES, "tensorrt"])
def test_the_core_loads_configs_as_they_are(reason: Callable[[str], str], name: str) -> None:
    assert reason(name) == ""
