"""docker/kubernetes as kubectl renders it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from repository import PROJECT

BIN = Path(sys.executable).parent
KUBERNETES = PROJECT / "docker" / "kubernetes"
COMPONENTS = ("monitoring", "autoscaling")
Manifest = dict[str, Any]


def render(folder: Path) -> list[Manifest]:
    """The manifests of a kustomization."""
    result = subprocess.run([BIN / "kubectl", "kustomize", folder], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return list(yaml.safe_load_all(result.stdout))


def render_with_components(folder: Path) -> list[Manifest]:
    """The manifests with every component, by a kustomization that is written to the empty `folder`."""
    there = Path(os.path.relpath(KUBERNETES, folder))
    components = [str(there / "components" / name) for name in COMPONENTS]
    content = {"namespace": "sam3", "resources": [str(there / "base")], "components": components}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return render(folder)


def only(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The one manifest of this kind and name."""
    (found,) = [one for one in manifests if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def workloads(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Deployments and StatefulSets by name."""
    return {one["metadata"]["name"]: one for one in manifests if one["kind"] in ("Deployment", "StatefulSet")}


def container(workload: Manifest) -> Manifest:
    """The one container of a workload's pods."""
    (found,) = workload["spec"]["template"]["spec"]["containers"]
    return found


def expressions(manifests: list[Manifest]) -> dict[str, str]:
    """Every expression for Prometheus in the autoscaler and the dashboard, by where it comes from."""
    triggers = only(manifests, "ScaledObject", "sam3-triton")["spec"]["triggers"]
    found = {trigger["name"]: trigger["metadata"]["query"] for trigger in triggers}
    dashboard = json.loads(only(manifests, "ConfigMap", "sam3-dashboard")["data"]["sam3.json"])
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            found[f"{panel['title']} {target['refId']}"] = target["expr"].replace("$namespace", "sam3")
    return found
