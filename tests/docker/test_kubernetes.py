"""docker/kubernetes renders, knows only fields that exist, and agrees with the commands and ports that it refers to."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from cloudcoil.models.istio.networking.v1 import DestinationRule, VirtualService
from cloudcoil.models.keda.v1alpha1 import ScaledObject
from cloudcoil.models.prometheus_operator.v1 import PodMonitor, PrometheusRule
from manifests import (
    BIN,
    COMPONENTS,
    KUBERNETES,
    Manifest,
    container,
    expressions,
    only,
    render,
    render_with_components,
    workloads,
)
from repository import PROJECT
from sam3_gateway import settings
from sam3_gateway.app import create_app
from sam3_gateway.backend import connect
from sam3_server import cli as serve_cli
from sam3_server.ports import GRPC_PORT, HEALTH_PORT, HTTP_PORT, METRICS_PORT
from sam3_triton import cli

HERE = Path(__file__).parent
BASE = KUBERNETES / "base"
MONITORING = KUBERNETES / "components" / "monitoring"
POLICY = PROJECT / "server" / "sam3_server" / "proxy" / "policy.cfg"
ENVOY = KUBERNETES / "examples" / "envoy.yaml"
EXAMPLES = sorted({*ENVOY.parent.glob("*.yaml")} - {ENVOY})
# A request may take this long until Triton stops (sam3-serve's own limit is a little shorter).
REQUEST_S = 35
CUSTOM = {one.__name__: one for one in (DestinationRule, VirtualService, ScaledObject, PodMonitor, PrometheusRule)}
GATEWAY_API = yaml.safe_load((HERE / "gateway_api.yaml").read_text())

Command = list[str]


@pytest.fixture(scope="module")
def manifests(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """Everything, with every component."""
    return render_with_components(tmp_path_factory.mktemp("kustomization"))


@pytest.fixture(scope="module")
def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The container of each workload."""
    return {name: container(workload) for name, workload in workloads(manifests).items()}


def check_fields(manifest: Manifest) -> None:
    """Fails for a field of a custom resource that its definition does not have, or a value of another type."""
    if manifest["kind"] in GATEWAY_API:
        jsonschema.validate(manifest["spec"], GATEWAY_API[manifest["kind"]])
    else:
        CUSTOM[manifest["kind"]].model_validate(manifest, extra="forbid")


def is_custom(manifest: Manifest) -> bool:
    group = manifest["apiVersion"].rpartition("/")[0]
    return ("." in group and not group.endswith(".k8s.io")) or group == "gateway.networking.k8s.io"


def check(manifests: list[Manifest], folder: Path) -> None:
    """Checks custom resources by their own definitions, and everything else by those of Kubernetes."""
    file = folder / "core.yaml"
    file.write_text(yaml.safe_dump_all(one for one in manifests if not is_custom(one)))
    result = subprocess.run(
        [BIN / "kubernetes-validate", "--strict", file], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stdout + result.stderr
    for manifest in filter(is_custom, manifests):
        check_fields(manifest)


def test_kubernetes_knows_every_field(manifests: list[Manifest], tmp_path: Path) -> None:
    kinds = {one["kind"] for one in manifests}
    assert {"StatefulSet", "PodDisruptionBudget", "NetworkPolicy", "PodMonitor", "ScaledObject"} <= kinds
    check(manifests, tmp_path)


@pytest.mark.parametrize(
    "example", [path for path in EXAMPLES if path.name != "envoy.yaml"], ids=lambda path: path.stem
)
def test_the_examples_fields_are_known(example: Path, tmp_path: Path) -> None:
    check(list(yaml.safe_load_all(example.read_text())), tmp_path)
    assert "x-sam3-image-id" in example.read_text()


def test_the_settings_file_renders_the_base_in_its_namespace(manifests: list[Manifest]) -> None:
    rendered = render(KUBERNETES)
    names = {(one["kind"], one["metadata"]["name"]) for one in rendered}
    assert names < {(one["kind"], one["metadata"]["name"]) for one in manifests}
    assert {one["metadata"]["namespace"] for one in rendered} == {"sam3"}
    images = [container(workload)["image"] for workload in workloads(rendered).values()]
    assert sorted(image.partition("/")[0] for image in images) == ["docker.io", *["registry.example.com"] * 2]
    assert {path.name for path in (KUBERNETES / "components").iterdir()} == set(COMPONENTS)


def test_what_refers_to_pods_finds_them(manifests: list[Manifest], pods: dict[str, Manifest]) -> None:
    names = {"app.kubernetes.io/name": set(pods), "app.kubernetes.io/part-of": {"sam3"}, "sam3-client": {"true"}}
    for label, value in _labels_that_are_selected(manifests):
        assert value in names[label], value
    for service in (one for one in manifests if one["kind"] == "Service"):
        name = service["metadata"]["name"]
        assert service["spec"]["selector"] == {"app.kubernetes.io/name": name}
        ports = {port["name"]: port["containerPort"] for port in pods[name]["ports"]}
        for port in service["spec"]["ports"]:
            assert port["port"] == ports[port["targetPort"]]
    for monitor in (one for one in manifests if one["kind"] == "PodMonitor"):
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert endpoint["port"] in {port["name"] for port in pods[monitor["metadata"]["name"]]["ports"]}
    assert only(manifests, "StatefulSet", "sam3-triton")["spec"]["serviceName"] == "sam3-triton"


def _labels_that_are_selected(value: Any) -> list[tuple[str, str]]:
    if isinstance(value, list):
        return [pair for item in value for pair in _labels_that_are_selected(item)]
    if not isinstance(value, dict):
        return []
    labels = value.get("matchLabels", {}).items()
    selected = [(label, one) for label, one in labels if not label.startswith("kubernetes.io/")]
    return selected + [pair for item in value.values() for pair in _labels_that_are_selected(item)]


def test_only_the_ports_that_are_needed_are_open(manifests: list[Manifest]) -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in manifests if one["kind"] == "NetworkPolicy"}

    def ports(policy: str, direction: str) -> list[int]:
        return sorted(port["port"] for rule in policies[policy].get(direction, []) for port in rule["ports"])

    assert ports("sam3-gateway", "ingress") == [settings.DEFAULT_PORT]
    assert ports("sam3-gateway", "egress") == [53, 53, HTTP_PORT, GRPC_PORT]
    assert ports("sam3-proxy", "ingress") == [HTTP_PORT, GRPC_PORT]
    assert ports("sam3-proxy", "egress") == [53, 53, HTTP_PORT, GRPC_PORT, HEALTH_PORT]
    assert ports("sam3-triton", "ingress") == [HTTP_PORT, GRPC_PORT, HEALTH_PORT]
    assert ports("sam3-triton", "egress") == []
    assert ports("sam3-triton-metrics", "ingress") == [METRICS_PORT]
    assert ports("sam3-proxy-metrics", "ingress") == [8404]
    (source,) = policies["sam3-proxy"]["ingress"][0]["from"]
    job = yaml.safe_load((KUBERNETES / "batch-job.yaml").read_text())
    for client in (only(manifests, "Deployment", "sam3-gateway"), job):
        labels = client["spec"]["template"]["metadata"]["labels"]
        assert source["podSelector"]["matchLabels"].items() <= labels.items()
    assert {"name": "SAM3_URL", "value": f"sam3-proxy:{GRPC_PORT}"} in container(job)["env"]


def test_every_pod_is_confined(manifests: list[Manifest]) -> None:
    assert not only(manifests, "ServiceAccount", "sam3")["automountServiceAccountToken"]
    assert set(workloads(manifests)) == {"sam3-triton", "sam3-proxy", "sam3-gateway"}
    for name, workload in workloads(manifests).items():
        pod, one = workload["spec"]["template"]["spec"], container(workload)
        assert pod["serviceAccountName"] == "sam3"
        assert not pod["automountServiceAccountToken"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(one["resources"]["requests"]) == {"cpu", "memory"}
        assert "memory" in one["resources"]["limits"]
        assert only(manifests, "PodDisruptionBudget", name)["spec"]["maxUnavailable"] == 1


def test_tritons_command_and_probes_are_understood(manifests: list[Manifest], pods: dict[str, Manifest]) -> None:
    triton = pods["sam3-triton"]
    script, *arguments = triton["args"]
    assert (PROJECT / "docker" / Path(script).name).exists()
    options = serve_cli._parser().parse_args(arguments)
    assert (PROJECT / "ensemble_configs" / options.profile).is_dir()
    golden = cli._parser().parse_args(triton["startupProbe"]["exec"]["command"][1:])
    assert golden.golden
    (models,) = [mount for mount in triton["volumeMounts"] if mount.get("readOnly")]
    assert golden.repository == Path(models["mountPath"])
    ports = {port["name"]: port["containerPort"] for port in triton["ports"]}
    assert ports == {"http": HTTP_PORT, "grpc": GRPC_PORT, "metrics": METRICS_PORT, "health": HEALTH_PORT}
    paths = [triton[probe]["httpGet"] for probe in ("readinessProbe", "livenessProbe")]
    assert paths == [{"path": f"/health/{name}", "port": "health"} for name in ("ready", "live")]
    pod = only(manifests, "StatefulSet", "sam3-triton")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= options.drain_s + REQUEST_S
    # The proxies notice that a replica drains before it stops.
    readiness = triton["readinessProbe"]
    assert options.drain_s >= readiness["periodSeconds"] * readiness["failureThreshold"]


def test_the_gateway_takes_its_settings(pods: dict[str, Manifest], monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = pods["sam3-gateway"]
    for entry in gateway["env"]:
        assert entry["name"].removeprefix("SAM3_GATEWAY_").lower() in settings.Settings.model_fields
        monkeypatch.setenv(entry["name"], entry.get("value", "a key"))
    read = settings.read([])
    assert read.triton == f"sam3-proxy:{GRPC_PORT}"
    probed = {gateway[probe]["httpGet"]["path"] for probe in ("readinessProbe", "livenessProbe")}
    assert probed == {"/health/ready", "/health/live"}
    assert probed <= create_app(read, connect(read)).openapi()["paths"].keys()
    assert [port["containerPort"] for port in gateway["ports"]] == [settings.DEFAULT_PORT]


def test_the_proxies_run_the_servers_policy() -> None:
    assert (BASE / "policy.cfg").read_bytes() == POLICY.read_bytes()


def test_haproxy_takes_the_configuration(pods: dict[str, Manifest]) -> None:
    if not shutil.which("haproxy"):
        pytest.skip("no haproxy; on Debian: apt-get install haproxy")
    (domain,) = [entry for entry in pods["sam3-proxy"]["env"] if "value" in entry]
    mount = pods["sam3-proxy"]["volumeMounts"][0]["mountPath"]
    command = [word.replace(mount, str(BASE)) for word in pods["sam3-proxy"]["command"]]
    environment = {**os.environ, domain["name"]: domain["value"].replace("$(NAMESPACE)", "sam3")}
    result = subprocess.run([*command, "-c"], capture_output=True, text=True, env=environment, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "warning" not in result.stderr.lower(), result.stderr


def test_every_replica_has_a_server_with_its_number(manifests: list[Manifest]) -> None:
    largest = only(manifests, "ScaledObject", "sam3-triton")["spec"]["maxReplicaCount"]
    pattern = r"server sam3-triton-(\d+) sam3-triton-(\d+)\.\$\{SAM3_TRITON_DOMAIN\}:(\d+) id (\d+)"
    found = re.findall(pattern, (BASE / "fleet.cfg").read_text())
    expected = [(str(n), str(n), str(port), str(n + 1)) for port in (GRPC_PORT, HTTP_PORT) for n in range(largest)]
    assert found == expected
    # Another fleet with the same Prometheus does not count.
    for query in expressions(manifests).values():
        metrics = re.findall(r"\b(?:sam3|nv|haproxy)[_:]\w+", re.sub(r'"[^"]*"', "", query))
        assert len(re.findall(r'namespace="sam3"', query)) == len(metrics), query
    # Applying the manifests must not undo what the autoscalers decided.
    assert "replicas" not in only(manifests, "StatefulSet", "sam3-triton")["spec"]
    assert "replicas" not in only(manifests, "Deployment", "sam3-gateway")["spec"]


def test_envoy_takes_its_example() -> None:
    file = KUBERNETES / "examples" / "envoy.yaml"
    result = subprocess.run(
        [BIN / "envoy", "--mode", "validate", "-c", file], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert "header_name: x-sam3-image-id" in file.read_text()


def test_prometheus_takes_rules_and_queries(manifests: list[Manifest], tmp_path: Path) -> None:
    if not shutil.which("promtool"):
        pytest.skip("no promtool; on Debian: apt-get install prometheus")
    rules = only(manifests, "PrometheusRule", "sam3")["spec"]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    queries = [{"alert": where, "expr": query} for where, query in expressions(manifests).items()]
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": queries}]}))
    shutil.copy(HERE / "alerts.yaml", tmp_path)
    for command in (["check", "rules", "rules.yaml", "queries.yaml"], ["test", "rules", "alerts.yaml"]):
        result = subprocess.run(["promtool", *command], capture_output=True, text=True, cwd=tmp_path, timeout=60)
        assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_is_tested(manifests: list[Manifest]) -> None:
    (group,) = only(manifests, "PrometheusRule", "sam3")["spec"]["groups"]
    alerts = {rule["alert"] for rule in group["rules"] if "alert" in rule}
    cases = [
        case for test in yaml.safe_load((HERE / "alerts.yaml").read_text())["tests"] for case in test["alert_rule_test"]
    ]
    assert alerts == {case["alertname"] for case in cases if case.get("exp_alerts")}
    assert alerts <= {case["alertname"] for case in cases if not case.get("exp_alerts")}


def test_the_dashboard_is_complete(manifests: list[Manifest]) -> None:
    dashboard = json.loads(only(manifests, "ConfigMap", "sam3-dashboard")["data"]["sam3.json"])
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(dashboard))) <= variables
    cells: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        its = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert max(x for x, _ in its) < 24, panel["title"]
        assert not its & cells, panel["title"]
        cells |= its
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
