"""The Kubernetes Job of `sam3 batch`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml
from repository import PROJECT
from sam3_triton import cli
from sam3_triton.batch.command import INTERRUPTED, SOME_FAILED, STOPPED

JOB = PROJECT / "docker" / "kubernetes" / "batch-job.yaml"


def test_kubernetes_knows_every_field() -> None:
    command = [Path(sys.executable).parent / "kubernetes-validate", "--strict", JOB]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr


def test_each_index_is_a_shard() -> None:
    job = yaml.safe_load(JOB.read_text())["spec"]
    assert job["completionMode"] == "Indexed"
    (container,) = job["template"]["spec"]["containers"]
    assert container["command"][0] == "sam3"
    shards = []
    for index in range(job["completions"]):
        # Kubernetes replaces the name of a variable of the container; an Indexed Job adds this one.
        command = [part.replace("$(JOB_COMPLETION_INDEX)", str(index)) for part in container["command"]]
        options = cli._parser().parse_args(command[1:])
        shards.append((options.shard.index, options.shard.count))
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        assert mounts[options.folder]["readOnly"]
        assert options.prompts.startswith(f"{options.folder}/")
        assert not mounts[options.output].get("readOnly")
    assert shards == [(index, job["completions"]) for index in range(job["completions"])]


def test_only_wrong_usage_ends_the_whole_job() -> None:
    job = yaml.safe_load(JOB.read_text())["spec"]
    (rule,) = [rule for rule in job["podFailurePolicy"]["rules"] if rule["action"] == "FailJob"]
    assert not {STOPPED, SOME_FAILED, INTERRUPTED} & set(rule["onExitCodes"]["values"])
