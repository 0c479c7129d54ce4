"""The pods of docker/kubernetes in podman, which plays Kubernetes' YAML.

What differs from a cluster:

- A pod has the name of its StatefulSet or Deployment (with the number, for a Triton). Podman's DNS serves that name, in
  place of a Service's. So each Deployment has one pod, HAProxy's domain of the Tritons is podman's, and a Triton's name
  resolves also while it is not ready.
- Tritons run on the CPU: profile `cpu`, the image `sam3-triton:cpu`, no `nvidia.com/gpu`. They drain for less time.
- The claim of the models is a folder. An `emptyDir` in memory is a folder in this machine's memory that everyone may
  write to, as kubelet makes it; podman would make one on the disk that belongs to root.
- podman runs no probes (its own need systemd) and no preStop; the tests send the probes.
- podman would publish every container port on this machine. They are left out, and reached at the pod's address.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
import yaml
from containers import Podman
from manifests import Manifest, container, workloads

DOMAIN = "dns.podman"
DRAIN_S = 3


class Pods:
    """Starts and stops the pods of the manifests in one network; each is known by its name."""

    def __init__(self, podman: Podman, network: str, manifests: list[Manifest], models: Path) -> None:
        self._podman, self._network, self._manifests, self._models = podman, network, manifests, models
        self._memory: dict[str, Path] = {}
        self._addresses: dict[str, str] = {}

    def start(self, name: str) -> None:
        """Starts `sam3-proxy`, `sam3-gateway` or `sam3-triton-N`."""
        self._memory[name] = Path(tempfile.mkdtemp(prefix="sam3-pod-", dir="/dev/shm"))
        self._memory[name].chmod(0o777)
        maps = [one for one in self._manifests if one["kind"] == "ConfigMap"]
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump_all([*maps, self._pod(name)], file)
            file.flush()
            self._podman("kube", "play", "--network", self._network, file.name)
        infra = self._podman("pod", "inspect", "--format", "{{.InfraContainerID}}", name)
        address = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        self._addresses[name] = self._podman("inspect", "--format", address, infra)

    def stop(self, name: str) -> int:
        """Stops the pod within its grace period, and deletes it; returns the container's exit code."""
        workload = self._workload(name)
        grace_s = workload["spec"]["template"]["spec"].get("terminationGracePeriodSeconds", 30)
        one = f"{name}-{container(workload)['name']}"
        self._podman("stop", "--time", str(grace_s), one)
        code = int(self._podman("inspect", "--format", "{{.State.ExitCode}}", one))
        self.remove(name)
        return code

    def remove(self, name: str) -> None:
        """Deletes the pod at once."""
        self._podman.try_("pod", "rm", "--force", "--time", "0", name)
        shutil.rmtree(self._memory.pop(name), ignore_errors=True)

    def close(self) -> None:
        """Deletes all pods."""
        for name in list(self._memory):
            self.remove(name)

    def run(self, name: str, command: list[str]) -> str:
        """Runs a command in the pod's container, as a probe does.

        Raises:
            AssertionError: it failed.
        """
        return self._podman("exec", f"{name}-{container(self._workload(name))['name']}", *command)

    def log(self, name: str) -> str:
        """What the pod's container has written."""
        result = self._podman.try_("logs", f"{name}-{container(self._workload(name))['name']}")
        return result.stdout + result.stderr

    def address(self, name: str) -> str:
        """The pod's address."""
        return self._addresses[name]

    def url(self, name: str, port: str) -> str:
        """The address of a port of the pod, by the port's name."""
        ports = {one["name"]: one["containerPort"] for one in container(self._workload(name))["ports"]}
        return f"{self.address(name)}:{ports[port]}"

    def wait_until_ready(self, name: str, timeout_s: float = 120) -> None:
        """Sends the readiness probe until it passes."""
        probe = container(self._workload(name))["readinessProbe"]["httpGet"]
        url = f"http://{self.url(name, probe['port'])}{probe['path']}"
        wait_until(lambda: _status(url) == 200, f"{name} is not ready", timeout_s, lambda: self.log(name)[-3000:])

    def _workload(self, name: str) -> Manifest:
        return workloads(self._manifests)[name.rstrip("-0123456789")]

    def _pod(self, name: str) -> Manifest:
        template = copy.deepcopy(self._workload(name)["spec"]["template"])
        spec, (one,) = template["spec"], template["spec"]["containers"]
        for key in ("startupProbe", "readinessProbe", "livenessProbe", "lifecycle", "ports"):
            one.pop(key, None)
        one["resources"]["limits"].pop("nvidia.com/gpu", None)
        one["image"] = {"sam3-triton": "localhost/sam3-triton:cpu", "sam3-gateway": "localhost/sam3-gateway"}.get(
            one["image"], one["image"]
        )
        if name.startswith("sam3-triton"):
            one["args"][one["args"].index("gpu")] = "cpu"
            one["args"][one["args"].index("--drain-s") + 1] = str(DRAIN_S)
        for entry in one.get("env", []):
            if entry["name"] == "SAM3_TRITON_DOMAIN":
                entry["value"] = DOMAIN
        one["env"] = [entry for entry in one.get("env", []) if "fieldRef" not in entry.get("valueFrom", {})]
        for volume in spec["volumes"]:
            self._put_on_this_machine(volume, name)
        metadata = {**template["metadata"], "name": name}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}

    def _put_on_this_machine(self, volume: dict[str, Any], name: str) -> None:
        if volume.pop("persistentVolumeClaim", None):
            volume["hostPath"] = {"path": str(self._models), "type": "Directory"}
        elif volume.get("emptyDir", {}).get("medium") == "Memory":
            del volume["emptyDir"]
            volume["hostPath"] = {"path": str(self._memory[name]), "type": "Directory"}


def wait_until(
    condition: Callable[[], bool], otherwise: str, timeout_s: float = 120, details: Callable[[], str] = lambda: ""
) -> None:
    """Waits until the condition holds.

    Raises:
        AssertionError: it did not in time.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"{otherwise} after {timeout_s:.0f} s\n{details()}"
        time.sleep(0.2)


def _status(url: str) -> int | None:
    try:
        return requests.get(url, timeout=15).status_code
    except requests.RequestException:
        return None
