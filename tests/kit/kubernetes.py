"""The shipped Kubernetes files as kubectl renders them, and what they mean: as data."""

from __future__ import annotations

import ipaddress
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tools.paths import DEPLOY

KUBERNETES = DEPLOY / "kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
DEFINITIONS = {
    **dict.fromkeys(
        ("ServiceMonitor", "PrometheusRule"),
        (OPERATOR, "example/prometheus-operator-crd/monitoring.coreos.com_{}s.yaml"),
    ),
    "ExternalSecret": (
        "github.com/external-secrets/external-secrets@v1.3.2",
        "config/crds/bases/external-secrets.io_{}s.yaml",
    ),
}
"""Where a kind that is not Kubernetes' own is defined: the module, and the file in it."""

Object = dict[str, Any]


def kustomized(folder: Path) -> list[Object]:
    """What `kubectl apply -k` would send to a cluster."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.load_all(done.stdout, yaml.CSafeLoader))


@cache
def rendered(overlay: str) -> list[Object]:
    return kustomized(KUBERNETES / "overlays" / overlay)


def of_kind(objects: list[Object], *kinds: str) -> list[Object]:
    return [each for each in objects if each["kind"] in kinds]


def groups(rules: Object) -> list[Object]:
    """What a file or an object of rules has, with each expression in one line."""
    return [
        {
            **group,
            "rules": [{**rule, "expr": " ".join(rule["expr"].split())} for rule in group["rules"]],
        }
        for group in rules["groups"]
    ]


def named(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = (each for each in of_kind(objects, kind) if each["metadata"]["name"] == name)
    return found


def labels(thing: Object) -> dict[str, str]:
    return thing["metadata"].get("labels", {})


def templates(objects: list[Object]) -> dict[str, Object]:
    """The pods that there will be, by the workload that makes them."""
    found: dict[str, Object] = {}
    for each in objects:
        spec = each.get("spec", {})
        job = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in job:
            found[f"{each['kind']}/{each['metadata']['name']}"] = job["template"]
    return found


def container(template: Object) -> Object:
    (only,) = template["spec"]["containers"]
    return only


def variables(template: Object) -> dict[str, str]:
    """The variables whose value stands in the file."""
    env = container(template).get("env", ())
    return {each["name"]: each["value"] for each in env if "value" in each}


def ports(template: Object) -> dict[str, int]:
    return {each["name"]: each["containerPort"] for each in container(template).get("ports", ())}


def selects(selector: Mapping[str, Any], given: Mapping[str, str]) -> bool:
    """Whether a selector with matchLabels alone chooses what has these labels."""
    assert set(selector) <= {"matchLabels"}, selector
    return selector.get("matchLabels", {}).items() <= given.items()


@dataclass(frozen=True)
class Peer:
    """One end of a connection: a pod, or an address outside of the cluster."""

    namespace: Mapping[str, str] = field(default_factory=dict[str, str])
    """Labels of its namespace."""
    pod: Mapping[str, str] = field(default_factory=dict[str, str])
    ports: Mapping[str, int] = field(default_factory=dict[str, int])
    ours: bool = False
    """Whether it stands in our namespace, whose policies hold for it."""
    address: str | None = None


def admitted(objects: list[Object], source: Peer, target: Peer, port: int, protocol: str) -> bool:
    """Whether the NetworkPolicies let a connection through, at both ends."""
    wanted = {"protocol": protocol, "port": port}

    def passes(rule: Object, there: Peer) -> bool:
        offered = (
            {**each, "port": target.ports.get(each["port"], each["port"])} for each in rule["ports"]
        )
        return wanted in offered and any(
            _is(peer, there) for peer in rule.get("to") or rule["from"]
        )

    def lets(direction: str, here: Peer, there: Peer) -> bool:
        concerned = [
            each["spec"]
            for each in of_kind(objects, "NetworkPolicy")
            if direction in each["spec"]["policyTypes"]
            and here.ours
            and selects(each["spec"]["podSelector"], here.pod)
        ]
        rules = [rule for spec in concerned for rule in spec.get(direction.lower(), ())]
        # Whom no policy concerns, nothing is refused.
        return not concerned or any(passes(rule, there) for rule in rules)

    return lets("Egress", source, target) and lets("Ingress", target, source)


def _is(peer: Mapping[str, Any], there: Peer) -> bool:
    if block := peer.get("ipBlock"):
        if there.address is None:
            return False
        address = ipaddress.ip_address(there.address)
        return address in ipaddress.ip_network(block["cidr"]) and not any(
            address in ipaddress.ip_network(each) for each in block.get("except", ())
        )
    if there.address is not None:
        return False
    where = (
        selects(peer["namespaceSelector"], there.namespace)
        if "namespaceSelector" in peer
        else there.ours
    )
    return where and selects(peer.get("podSelector", {}), there.pod)


@cache
def operator_schema(kind: str) -> Object:
    """An operator's schema of a kind, which refuses what it does not know."""
    module, where = DEFINITIONS[kind]
    done = subprocess.run(
        ["go", "mod", "download", "-json", module], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    path = Path(json.loads(done.stdout)["Dir"], where.format(kind.lower()))
    definition = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)["spec"]
    assert definition["names"]["kind"] == kind
    (version,) = (each for each in definition["versions"] if each["storage"])
    schema = version["schema"]["openAPIV3Schema"]
    for node in _objects(schema):
        node.setdefault("additionalProperties", False)
        for each in node["properties"].values():
            if "pattern" in each:
                # Go takes flags anywhere.
                each["pattern"] = each["pattern"].replace("^(?i)", "(?i)^")
    # The API server's own business, which the definition leaves open.
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


def _objects(schema: Object) -> Iterator[Object]:
    """Each part that lists its properties; a definition drops all others, if not told to keep."""
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        yield schema
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from _objects(schema[key])
    for part in schema.get("properties", {}).values():
        yield from _objects(part)


def _relabel(label: str) -> str:
    return re.sub(r"\W", "_", label)


def discovered(objects: list[Object], address: Mapping[str, str]) -> list[Object]:
    """All targets as Kubernetes' discovery shows them to Prometheus.

    For each port of each Service, with one pod behind it, at `address` by the port's name.
    """
    targets: list[Object] = []
    for service in of_kind(objects, "Service"):
        selector = {"matchLabels": service["spec"]["selector"]}
        for template in templates(objects).values():
            if not selects(selector, labels(template)):
                continue
            shown = {
                "__meta_kubernetes_namespace": service["metadata"]["namespace"],
                "__meta_kubernetes_service_name": service["metadata"]["name"],
                "__meta_kubernetes_pod_name": "a-pod",
                "__meta_kubernetes_pod_phase": "Running",
                "__meta_kubernetes_pod_container_name": container(template)["name"],
            }
            for name, value in labels(service).items():
                shown[f"__meta_kubernetes_service_label_{_relabel(name)}"] = value
                shown[f"__meta_kubernetes_service_labelpresent_{_relabel(name)}"] = "true"
            targets += [
                {
                    "targets": [address[port["name"]]],
                    "labels": {
                        **shown,
                        "__meta_kubernetes_endpoint_port_name": port["name"],
                    },
                }
                for port in service["spec"]["ports"]
                if port["name"] in address
            ]
    return targets


def scrape_configs(monitor: Object, discovery: Path) -> list[Object]:
    """What the operator (generateServiceMonitorConfig) makes of a ServiceMonitor.

    Targets come from the file `discovery` in place of the cluster, all of them for one shard.
    Fields that our monitors do not use are refused.
    """
    spec = monitor["spec"]
    assert set(spec) <= {"selector", "endpoints", "jobLabel", "scrapeProtocols"}
    configs: list[Object] = []
    for index, endpoint in enumerate(spec["endpoints"]):
        known = {"port", "interval", "scrapeTimeout", "honorLabels", "relabelings"}
        assert set(endpoint) <= known
        config: Object = {
            "job_name": f"serviceMonitor/victor/{monitor['metadata']['name']}/{index}",
            "honor_labels": endpoint.get("honorLabels", False),
            "scrape_interval": endpoint["interval"],
            "scrape_timeout": endpoint["scrapeTimeout"],
            "file_sd_configs": [{"files": [str(discovery)]}],
            "relabel_configs": list(_relabelings(spec, endpoint)),
        }
        if protocols := spec.get("scrapeProtocols"):
            config["scrape_protocols"] = protocols
        configs.append(config)
    return configs


def _relabelings(spec: Object, endpoint: Object) -> Iterator[Object]:
    meta = "__meta_kubernetes_"
    yield {"source_labels": ["job"], "target_label": "__tmp_prometheus_job_name"}
    for name, value in sorted(spec["selector"]["matchLabels"].items()):
        kinds = ("service_label", "service_labelpresent")
        sources = [f"{meta}{kind}_{_relabel(name)}" for kind in kinds]
        yield {"action": "keep", "source_labels": sources, "regex": f"({value});true"}
    source = [f"{meta}endpoint_port_name"]
    yield {"action": "keep", "source_labels": source, "regex": endpoint["port"]}
    for name, target in (
        ("namespace", "namespace"),
        ("service_name", "service"),
        ("pod_name", "pod"),
        ("pod_container_name", "container"),
    ):
        yield {"source_labels": [meta + name], "target_label": target}
    phase = [f"{meta}pod_phase"]
    yield {"action": "drop", "source_labels": phase, "regex": "(Failed|Succeeded)"}
    yield {"source_labels": [f"{meta}service_name"], "target_label": "job"}
    if label := spec.get("jobLabel"):
        source = [f"{meta}service_label_{_relabel(label)}"]
        yield {"source_labels": source, "target_label": "job", "regex": "(.+)"}
    yield {"target_label": "endpoint", "replacement": endpoint["port"]}
    for given in endpoint.get("relabelings", ()):
        yield {re.sub("([A-Z])", r"_\1", key).lower(): value for key, value in given.items()}
