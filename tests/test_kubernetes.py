"""The Kubernetes files: rendered by kubectl, and held against schemas, rules and each other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.kit.kubernetes import (
    KUBERNETES,
    OVERLAYS,
    Object,
    Peer,
    admitted,
    container,
    groups,
    kustomized,
    labels,
    named,
    of_kind,
    operator_schema,
    ports,
    rendered,
    selects,
    templates,
    variables,
)
from tests.stack.collectors import validate
from tests.stack.processes import program
from tools import markdown
from tools.paths import COLLECTOR, DEPLOY, ROOT
from victor_otel.signals import settings
from victor_otel.signals.settings import Settings
from victor_otel.victor import catalog

pytestmark = pytest.mark.stack

README = (KUBERNETES / "README.md").read_text(encoding="utf-8")
OPERATORS = ("ServiceMonitor", "PrometheusRule")
EXTERNAL = "ExternalSecret"
OLDEST, NEWEST = "1.30", "1.37"
each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)
ROWS = dict.fromkeys(OVERLAYS, ("gateway",)) | {"fleet": ("gateway", "agent")}
"""The rows of Collectors in each overlay."""
WORKLOAD = {"gateway": "StatefulSet/collector", "agent": "Deployment/collector-agent"}
SETTING = re.compile(r"\$\{env:(VICTOR_COLLECTOR_\w+)(?::-([^}]*))?}")


def config(objects: list[Object]) -> Mapping[str, Object]:
    return {each["metadata"]["name"]: each for each in of_kind(objects, "ConfigMap")}


# The files themselves.


def known(objects: list[Object], version: str) -> int:
    """How many objects are Kubernetes' own; it knows every field of theirs."""
    core = [each for each in objects if each["kind"] not in OPERATORS]
    for each in core:
        assert kubernetes_validate.validate(each, version, strict=True) == version
    return len(core)


@each_overlay
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_knows_every_field(overlay: str, version: str) -> None:
    assert known(rendered(overlay), version) > 15


@pytest.mark.parametrize("kind", OPERATORS)
def test_the_operator_knows_every_field(kind: str) -> None:
    objects = of_kind(rendered("production"), kind)
    assert objects
    for each in objects:
        jsonschema.validate(each, operator_schema(kind))


def test_the_operators_schema_refuses_what_it_does_not_know() -> None:
    monitor = json.loads(json.dumps(named(rendered("production"), "ServiceMonitor", "victor")))
    monitor["spec"]["endpoints"][0]["honourLabels"] = True
    with pytest.raises(jsonschema.ValidationError, match="honourLabels"):
        jsonschema.validate(monitor, operator_schema("ServiceMonitor"))


def test_the_oldest_version_is_the_one_that_the_readme_asks_for() -> None:
    assert f"Kubernetes {OLDEST} or newer" in README


@each_overlay
def test_every_object_fits_into_what_kubectl_apply_writes_beside_it(overlay: str) -> None:
    # The whole object goes into an annotation, and annotations hold 256 KiB.
    for each in rendered(overlay):
        assert len(json.dumps(each).encode()) < 250 * 1024, each["metadata"]["name"]


@each_overlay
def test_every_object_is_in_the_namespace_and_there_is_one_of_each_name(overlay: str) -> None:
    objects = rendered(overlay)
    assert {each["metadata"].get("namespace", "none") for each in objects} == {"victor", "none"}
    (namespace,) = (each for each in objects if "namespace" not in each["metadata"])
    assert (namespace["kind"], namespace["metadata"]["name"]) == ("Namespace", "victor")
    names = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(set(names)) == len(names)


def test_what_is_generated_is_as_generated() -> None:
    command = [sys.executable, "-m", "tools.kubernetes", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_no_file_is_left_out() -> None:
    texts = "".join(path.read_text("utf-8") for path in KUBERNETES.rglob("kustomization.yaml"))
    for path in KUBERNETES.rglob("*.yaml"):
        assert path.name == "kustomization.yaml" or path.name in texts, path


# Monitoring.


def test_prometheus_rules_are_the_shipped_rules() -> None:
    shipped = {
        f"victor-{path.stem}": groups(yaml.safe_load(path.read_text(encoding="utf-8")))
        for path in (DEPLOY / "prometheus" / "rules").glob("*.yml")
    }
    objects = of_kind(rendered("production"), "PrometheusRule")
    assert {each["metadata"]["name"]: groups(each["spec"]) for each in objects} == shipped


def test_promtool_finds_no_fault_with_the_rules_in_the_objects(tmp_path: Path) -> None:
    for each in of_kind(rendered("production"), "PrometheusRule"):
        path = tmp_path / f"{each['metadata']['name']}.yml"
        path.write_text(yaml.safe_dump(each["spec"]), encoding="utf-8")
    done = subprocess.run(
        [program("promtool"), "check", "rules", *tmp_path.iterdir()], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_dashboards_are_the_shipped_ones_as_the_sidecar_wants_them() -> None:
    maps = config(rendered("production"))
    found: dict[str, Any] = {}
    for name, each in maps.items():
        if name.startswith("victor-dashboard-"):
            assert labels(each)["grafana_dashboard"] == "1"
            assert each["metadata"]["annotations"]["grafana_folder"] == "Victor"
            ((key, text),) = each["data"].items()
            assert key == f"victor-{name.removeprefix('victor-dashboard-')}.json"
            found[json.loads(text)["uid"]] = json.loads(text)
    paths = (DEPLOY / "grafana" / "dashboards").glob("*.json")
    shipped = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    assert found == {each["uid"]: each for each in shipped}
    assert len(found) == 4


def test_monitors_find_ports_of_services_and_every_page_is_scraped() -> None:
    objects = rendered("production")
    scraped: list[tuple[str, str]] = []
    for monitor in of_kind(objects, "ServiceMonitor"):
        spec = monitor["spec"]
        (service,) = (
            each for each in of_kind(objects, "Service") if selects(spec["selector"], labels(each))
        )
        offered = {each["name"] for each in service["spec"]["ports"]}
        for endpoint in spec["endpoints"]:
            assert endpoint["port"] in offered
            scraped.append((service["metadata"]["name"], endpoint["port"]))
    assert sorted(scraped) == [
        ("collector-metrics", "long"),
        ("collector-metrics", "short"),
        ("collector-metrics", "telemetry"),
        ("victor-metrics", "metrics"),
    ]


def test_monitors_scrape_as_the_shipped_prometheus_does() -> None:
    shipped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
    honest = {
        each["job_name"]: each.get("honor_labels", False) for each in shipped["scrape_configs"]
    }
    for monitor in of_kind(rendered("production"), "ServiceMonitor"):
        for endpoint in monitor["spec"]["endpoints"]:
            assert endpoint.get("honorLabels", False) == honest[monitor["metadata"]["name"]]
            assert endpoint["interval"] == shipped["global"]["scrape_interval"]
            assert endpoint["scrapeTimeout"] == shipped["global"]["scrape_timeout"]


def test_endpoint_is_the_only_label_that_we_share_with_the_operator() -> None:
    ours = {
        label.prometheus_name
        for area in catalog.AREAS
        for each in area.metrics
        for label in each.labels
    }
    theirs = {"namespace", "service", "pod", "container", "endpoint", "node", "job", "instance"}
    assert ours & theirs == {"endpoint"}


@pytest.mark.parametrize("kind", OPERATORS)
def test_the_charts_prometheus_looks_for_the_release(kind: str) -> None:
    objects = of_kind(rendered("production"), kind)
    assert {labels(each)["release"] for each in objects} == {"kube-prometheus-stack"}


# What refers to what.


@each_overlay
def test_selectors_select(overlay: str) -> None:
    objects = rendered(overlay)
    pods = templates(objects)
    for each in of_kind(objects, "Deployment", "StatefulSet"):
        own = pods[f"{each['kind']}/{each['metadata']['name']}"]
        chosen = [pod for pod in pods.values() if selects(each["spec"]["selector"], labels(pod))]
        assert chosen == [own]
        for spread in own["spec"].get("topologySpreadConstraints", ()):
            assert selects(spread["labelSelector"], labels(own))
    for each in of_kind(objects, "PodDisruptionBudget"):
        chosen = [
            name for name, pod in pods.items() if selects(each["spec"]["selector"], labels(pod))
        ]
        assert [name.partition("/")[2] for name in chosen] == [each["metadata"]["name"]]
    for each in of_kind(objects, "HorizontalPodAutoscaler"):
        scaled = each["spec"]["scaleTargetRef"]
        # Its replicas would be set back by each apply.
        assert "replicas" not in named(objects, scaled["kind"], scaled["name"])["spec"]
    for each in of_kind(objects, "NetworkPolicy"):
        assert any(selects(each["spec"]["podSelector"], labels(pod)) for pod in pods.values())


@each_overlay
def test_services_lead_to_ports_of_one_workload(overlay: str) -> None:
    objects = rendered(overlay)
    for service in of_kind(objects, "Service"):
        selector = {"matchLabels": service["spec"]["selector"]}
        (pod,) = (pod for pod in templates(objects).values() if selects(selector, labels(pod)))
        for port in service["spec"]["ports"]:
            assert ports(pod)[port["targetPort"]] == port["port"]
    stateful = named(objects, "StatefulSet", "collector")
    headless = named(objects, "Service", stateful["spec"]["serviceName"])
    assert headless["spec"]["clusterIP"] == "None"


@each_overlay
def test_every_volume_and_account_exists(overlay: str) -> None:
    objects = rendered(overlay)
    maps, accounts = config(objects), {"victor", "collector"}
    assert accounts == {each["metadata"]["name"] for each in of_kind(objects, "ServiceAccount")}
    for each in of_kind(objects, "ServiceAccount"):
        assert each["automountServiceAccountToken"] is False
    claims = {
        f"StatefulSet/{each['metadata']['name']}": {
            claim["metadata"]["name"] for claim in each["spec"].get("volumeClaimTemplates", ())
        }
        for each in of_kind(objects, "StatefulSet")
    }
    for name, pod in templates(objects).items():
        spec = pod["spec"]
        assert spec["serviceAccountName"] in accounts
        volumes = {each["name"]: each for each in spec["volumes"]}
        mounts = container(pod)["volumeMounts"]
        assert {each["name"] for each in mounts} == set(volumes) | claims.get(name, set())
        for mount in mounts:
            if reference := volumes.get(mount["name"], {}).get("configMap"):
                data = maps[reference["name"]]["data"]
                assert mount.get("subPath", next(iter(data))) in data


SECRETS = {"fleet": {"collector-tls", "collector-token"}}
"""Those that an overlay needs beside the others'."""


@each_overlay
def test_secrets_are_required_and_none_is_shipped(overlay: str) -> None:
    objects = rendered(overlay)
    assert not of_kind(objects, "Secret")
    asked: set[str] = set()
    for pod in templates(objects).values():
        given = container(pod)
        references = [each["secretRef"] for each in given.get("envFrom", ())]
        references += [
            each["valueFrom"]["secretKeyRef"] for each in given["env"] if "valueFrom" in each
        ]
        volumes = [each["secret"] for each in pod["spec"]["volumes"] if "secret" in each]
        assert not any(each.get("optional") for each in (*references, *volumes))
        asked |= {each["name"] for each in references} | {each["secretName"] for each in volumes}
    assert asked == {"victor-api", "victor-provider"} | SECRETS.get(overlay, set())
    for name in asked:
        assert f"create secret generic {name}" in README


@each_overlay
def test_arguments_name_mounted_files_and_listening_ports(overlay: str) -> None:
    objects = rendered(overlay)
    pods = templates(objects)
    victor = pods["Deployment/victor"]
    command = container(victor)["command"]
    assert command == ["victor", "serve", "--host", "0.0.0.0", "--port", str(ports(victor)["api"])]
    assert int(variables(victor)["VICTOR_PROMETHEUS_PORT"]) == ports(victor)["metrics"]
    for row in ROWS[overlay]:
        collector = pods[WORKLOAD[row]]
        mounted = {each["mountPath"]: each["name"] for each in container(collector)["volumeMounts"]}
        assert variables(collector)["VICTOR_COLLECTOR_QUEUE"].rsplit("/", 1)[0] in mounted
        given = CONFIGURATIONS[overlay, row]
        folder = "/etc/victor-collector"
        assert container(collector)["args"] == [f"--config={folder}/{name}" for name in given]
        volumes = {each["name"]: each for each in collector["spec"]["volumes"]}
        there = config(objects)[volumes[mounted[folder]]["configMap"]["name"]]["data"]
        # A copy says where it is from.
        assert {name: there[name].split("\n", 1)[1] for name in given} == {
            name: (COLLECTOR / name).read_text("utf-8") for name in given
        }
        read = "".join(there[name] for name in given)
        assert set(variables(collector)) <= {name for name, _ in SETTING.findall(read)}
        for setting in ("TLS_CERT", "TLS_KEY", "TOKEN_FILE"):
            path = variables(collector).get(f"VICTOR_COLLECTOR_{setting}")
            assert path is None or path.rsplit("/", 1)[0] in mounted
    defaults = dict(SETTING.findall((COLLECTOR / "config.yaml").read_text("utf-8")))
    default_ports = {int(value) for name, value in defaults.items() if name.endswith("_PORT")}
    assert set(ports(pods["StatefulSet/collector"]).values()) == default_ports


CONFIGURATIONS = {
    ("development", "gateway"): ("config.yaml",),
    ("production", "gateway"): ("config.yaml",),
    ("fleet", "gateway"): ("config.yaml", "gateway.yaml", "tls.yaml", "token.yaml"),
    ("fleet", "agent"): ("config.yaml", "agent.yaml", "tls.yaml", "token.yaml"),
}
"""What each Collector is given, in this order."""


@pytest.mark.parametrize(("overlay", "row"), CONFIGURATIONS)
def test_the_collector_accepts_what_it_is_given(overlay: str, row: str, tmp_path: Path) -> None:
    pod = templates(rendered(overlay))[WORKLOAD[row]]
    told = {
        **variables(pod),
        "HOSTNAME": "collector-0",
        "VICTOR_COLLECTOR_QUEUE": str(tmp_path / "queue"),
        # As the Secret has it.
        "VICTOR_COLLECTOR_GATEWAYS_HEADERS": "{authorization: Bearer abc}",
    }
    given = (COLLECTOR / argument.rpartition("/")[2] for argument in container(pod)["args"])
    assert validate(given, **told) == ""


# How the pods run.


@each_overlay
def test_victors_pods_fit_the_image(overlay: str) -> None:
    image = (DEPLOY / "victor" / "Dockerfile").read_text(encoding="utf-8")
    pods = templates(rendered(overlay))
    for name in ("Deployment/victor", "CronJob/victor-run"):
        spec, given = pods[name]["spec"], container(pods[name])
        user = spec["securityContext"]["runAsUser"]
        # Victor takes its home from the system's list of users, whatever HOME says.
        assert f"useradd --uid {user} --user-group --create-home" in image
        mounted = {each["mountPath"] for each in given["volumeMounts"]}
        assert {"/home/victor", "/home/victor/.victor", "/tmp", given["workingDir"]} <= mounted
        assert f"WORKDIR {given['workingDir']}\n" in image
        # Else nobody waits for the processes that tools leave behind.
        assert spec["shareProcessNamespace"] is True


@each_overlay
def test_every_pod_is_restricted(overlay: str) -> None:
    pods = templates(rendered(overlay))
    collectors = {WORKLOAD[row] for row in ROWS[overlay]}
    assert set(pods) == {"Deployment/victor", "CronJob/victor-run"} | collectors
    for pod in pods.values():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert spec["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert container(pod)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        kinds = {key for each in spec["volumes"] for key in each} - {"name"}
        assert kinds <= {"emptyDir", "configMap", *(("secret",) if overlay in SECRETS else ())}


def test_the_namespace_refuses_other_pods() -> None:
    namespace = named(rendered("production"), "Namespace", "victor")
    assert labels(namespace)["pod-security.kubernetes.io/enforce"] == "restricted"


@each_overlay
def test_every_container_has_bounds_and_a_pinned_image(overlay: str) -> None:
    pods = templates(rendered(overlay))
    for pod in pods.values():
        given = container(pod)
        for bound in ("requests", "limits"):
            assert set(given["resources"][bound]) == {"cpu", "memory"}
        assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+", given["image"])
        for volume in pod["spec"]["volumes"]:
            if "emptyDir" in volume:
                assert "sizeLimit" in volume["emptyDir"]
    victors = {
        container(pods[name])["image"] for name in ("Deployment/victor", "CronJob/victor-run")
    }
    assert len(victors) == 1
    builder = yaml.safe_load((COLLECTOR / "builder.yaml").read_text(encoding="utf-8"))
    images = {container(pods[WORKLOAD[row]])["image"] for row in ROWS[overlay]}
    assert images == {f"otel/opentelemetry-collector-contrib:{builder['dist']['version']}"}


@each_overlay
def test_the_collector_has_twice_the_memory_that_it_may_fill(overlay: str) -> None:
    for row in ROWS[overlay]:
        pod = templates(rendered(overlay))[WORKLOAD[row]]
        limit = container(pod)["resources"]["limits"]["memory"]
        assert limit == f"{2 * int(variables(pod)['VICTOR_COLLECTOR_MEMORY_MIB'])}Mi"


@each_overlay
def test_all_points_of_a_stream_come_to_one_collector(overlay: str) -> None:
    objects = rendered(overlay)
    stateful = named(objects, "StatefulSet", "collector")["spec"]
    pushed_to = named(objects, "Service", "collector")["spec"]["selector"]
    (row,) = (row for row in ROWS[overlay] if pushed_to["app.kubernetes.io/component"] == row)
    if row == "gateway":
        assert stateful["replicas"] == 1
        return
    listed = yaml.safe_load(variables(templates(objects)[WORKLOAD[row]])[GATEWAYS])
    pods = (f"collector-{number}" for number in range(stateful["replicas"]))
    assert listed == {
        "static": {"hostnames": [f"{pod}.{stateful['serviceName']}:4317" for pod in pods]}
    }


GATEWAYS = "VICTOR_COLLECTOR_GATEWAYS"


@each_overlay
def test_servers_are_probed_and_a_busy_one_is_not_killed(overlay: str) -> None:
    pods = templates(rendered(overlay))
    for name in ("Deployment/victor", *(WORKLOAD[row] for row in ROWS[overlay])):
        given = container(pods[name])
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert given[kind]["httpGet"]["port"] in ports(pods[name])
    liveness = container(pods["Deployment/victor"])["livenessProbe"]
    assert liveness["httpGet"]["path"] == "/health"
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 600


PUSHED = {
    "development": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"},
    "production": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"},
    "fleet": {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector:4318",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": "/etc/collector-ca/ca.crt",
    },
}
"""Where runs push to, and whom they trust."""


def test_runs_see_no_key_of_the_collector() -> None:
    pod = templates(rendered("fleet"))["CronJob/victor-run"]
    (secret,) = (each["secret"] for each in pod["spec"]["volumes"] if "secret" in each)
    assert secret["items"] == [{"key": "ca.crt", "path": "ca.crt"}]


@each_overlay
def test_each_process_is_counted_in_one_way(overlay: str) -> None:
    objects = rendered(overlay)
    pods = templates(objects)
    server, run = (variables(pods[name]) for name in ("Deployment/victor", "CronJob/victor-run"))
    assert server == {
        "VICTOR_PROMETHEUS_ENABLED": "true",
        "VICTOR_PROMETHEUS_HOST": "0.0.0.0",
        "VICTOR_PROMETHEUS_PORT": "9091",
    }
    pushes = {"OTEL_METRIC_EXPORT_INTERVAL": "15000", "VICTOR_OTEL_LIFETIME": "auto"}
    assert run == pushes | PUSHED[overlay]
    known = {variable.name for variable in settings.VARIABLES} | {*PUSHED["fleet"]}
    assert set(server) | set(run) <= known
    offered = {each["port"] for each in named(objects, "Service", "collector")["spec"]["ports"]}
    assert 4318 in offered


def test_production_survives_the_emptying_of_a_node() -> None:
    objects = rendered("production")
    victor = named(objects, "Deployment", "victor")["spec"]
    assert victor["replicas"] == 3
    assert victor["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert named(objects, "PodDisruptionBudget", "victor")["spec"]["maxUnavailable"] == 1


def test_development_has_one_server_and_nothing_to_keep() -> None:
    objects = rendered("development")
    assert named(objects, "Deployment", "victor")["spec"]["replicas"] == 1
    assert not of_kind(objects, "PodDisruptionBudget", *OPERATORS)
    assert "volumeClaimTemplates" not in named(objects, "StatefulSet", "collector")["spec"]


# Who may talk to whom.


def pair(label: str) -> dict[str, str]:
    return dict([label.split("=")])


AGENT = WORKLOAD["agent"]


def peers(objects: list[Object]) -> dict[str, Peer]:
    """By name: our pods, and who is around them."""

    def pod(workload: str) -> Peer:
        template = templates(objects)[workload]
        return Peer(pod=labels(template), ports=ports(template), ours=True)

    def other(namespace: str, pod: str = "app=any", label: str = "team=any") -> Peer:
        named = {"kubernetes.io/metadata.name": namespace}
        return Peer(namespace=named | pair(label), pod=pair(pod))

    return {
        "server": pod("Deployment/victor"),
        "run": pod("CronJob/victor-run"),
        "collector": pod("StatefulSet/collector"),
        **({"agent": pod(AGENT)} if AGENT in templates(objects) else {}),
        "neighbour": Peer(pod={"app": "any"}, ours=True),
        "client": other("ingress", label="victor-client=true"),
        "monitoring": other("monitoring"),
        "stranger": other("default"),
        "dns": other("kube-system", "k8s-app=kube-dns"),
        "provider": Peer(address="203.0.113.7"),
        "private": Peer(address="10.1.2.3"),
        "metadata": Peer(address="169.254.169.254"),
    }


PORTS = (53, 80, 443, 4317, 4318, 8765, 8888, 8889, 8890, 9091, 13133)
WANTED = {
    ("client", "server", 8765, "TCP"),
    ("monitoring", "server", 9091, "TCP"),
    ("monitoring", "collector", 8888, "TCP"),
    ("monitoring", "collector", 8889, "TCP"),
    ("monitoring", "collector", 8890, "TCP"),
    *(
        (victor, *target)
        for victor in ("server", "run")
        for target in (("provider", 443, "TCP"), ("dns", 53, "TCP"), ("dns", 53, "UDP"))
    ),
}
ONE_ROW = {("run", "collector", port, "TCP") for port in (4317, 4318)}
TWO_ROWS = {
    ("run", "agent", 4317, "TCP"),
    ("run", "agent", 4318, "TCP"),
    ("agent", "collector", 4317, "TCP"),
    ("agent", "dns", 53, "TCP"),
    ("agent", "dns", 53, "UDP"),
    ("monitoring", "agent", 8888, "TCP"),
}


def allowed(objects: list[Object], around: Mapping[str, Peer]) -> set[tuple[str, str, int, str]]:
    """Who reaches whom on which port."""
    return {
        (source, target, port, protocol)
        for source, here in around.items()
        for target, there in around.items()
        if source != target and (here.ours or there.ours)
        for port in PORTS
        for protocol in ("TCP", "UDP")
        if admitted(objects, here, there, port, protocol)
    }


@each_overlay
def test_the_network_lets_through_what_is_needed_and_nothing_else(overlay: str) -> None:
    objects = rendered(overlay)
    passed = TWO_ROWS if "agent" in ROWS[overlay] else ONE_ROW
    assert allowed(objects, peers(objects)) == WANTED | passed


# The README.


FILES = {block.text.splitlines()[0]: block.text for block in markdown.blocks(README, "yaml")}
"""The README's examples by their first lines, which name the file."""


def of_ones_own(folder: Path, *examples: str, name: str = "my-victor") -> list[Object]:
    """The README's examples of a kustomization, together and beside the exported folder."""
    (folder / "deploy").symlink_to(DEPLOY)
    mine = folder / name
    mine.mkdir()
    written: Object = {}
    for each in examples:
        written |= yaml.safe_load(FILES[f"# {name}/kustomization.yaml{each}"])
    (mine / "kustomization.yaml").write_text(yaml.safe_dump(written), encoding="utf-8")
    (mine / "profiles.yaml").write_text("profiles: {}\n", encoding="utf-8")
    for each in ("traces", "backend"):
        (mine / f"{each}.yaml").write_text(FILES[f"# my-victor/{each}.yaml"], encoding="utf-8")
    for each in ("deltas.yaml", "datadog.yaml"):
        shutil.copy(COLLECTOR / "backends" / each, mine)
    return kustomized(mine)


def test_secrets_from_a_store_are_those_that_pods_ask_for(tmp_path: Path) -> None:
    objects = of_ones_own(tmp_path, "", ", with secrets from a store")
    secrets = of_kind(objects, EXTERNAL)
    for each in secrets:
        jsonschema.validate(each, operator_schema(EXTERNAL))
    assert {each["metadata"]["name"]: each["metadata"]["namespace"] for each in secrets} == (
        dict.fromkeys(("victor-provider", "victor-api", "collector-token"), "victor")
    )
    made = named(secrets, EXTERNAL, "collector-token")["spec"]["target"]["template"]["data"]
    values = {name: text.replace("{{ .token }}", "abc") for name, text in made.items()}
    # As the README's command makes it.
    (command,) = (
        block.text
        for block in markdown.blocks(README, "sh")
        if "generic collector-token" in block.text
    )
    literals = dict(re.findall(r'--from-literal=(\w+)="([^"]*)"', command))
    assert {name: text.replace("$token", "abc") for name, text in literals.items()} == values


def test_an_image_has_a_digest_where_one_is_given(tmp_path: Path) -> None:
    pods = templates(of_ones_own(tmp_path, "", ", with digests"))
    assert {container(pod)["image"] for pod in pods.values()} == {
        f"registry.example.org/victor@sha256:{64 * '1'}",
        f"otel/opentelemetry-collector-contrib@sha256:{64 * '2'}",
    }


def test_injected_pods_push_to_the_collector(tmp_path: Path) -> None:
    objects = of_ones_own(tmp_path, "", ", with injection")
    spec = named(objects, "Instrumentation", "victor")["spec"]
    assert spec["python"]["image"] == "registry.example.org/victor-otel-injection:0.1.0"
    url = urlsplit(spec["exporter"]["endpoint"])
    offered = named(objects, "Service", url.hostname)["spec"]["ports"]
    assert url.port in {each["port"] for each in offered}
    # What the operator sets for Python, and what is set here.
    operators = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": spec["exporter"]["endpoint"],
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "otlp",
    }
    own = {each["name"]: each["value"] for each in spec["python"]["env"]}
    told = Settings.from_environment(operators | own)
    assert (told.exporters, told.trace_exporters) == (("otlp",), ())


def test_teams_reach_nobody_in_each_others_namespaces(tmp_path: Path) -> None:
    teams = {}
    for team in ("team-a", "team-b"):
        folder = tmp_path / team
        folder.mkdir()
        teams[team] = of_ones_own(folder, "", name=team)
        found = {each["metadata"].get("namespace", "none") for each in teams[team]}
        assert found == {team, "none"}
        assert named(teams[team], "Namespace", team)
    here = peers(teams["team-a"])
    for each in here.values():
        if each.ours:
            stranger = Peer(
                namespace=pair("kubernetes.io/metadata.name=team-b"), pod=each.pod, ports=each.ports
            )
            assert not any(
                admitted(teams["team-a"], source, target, port, "TCP")
                for other in here.values()
                if other.ours
                for source, target in ((stranger, other), (other, stranger))
                for port in PORTS
            )
    dashboards = [
        name for team in teams.values() for name in config(team) if name.startswith("victor-dash")
    ]
    assert len(dashboards) == len(set(dashboards)) == 4


def test_an_overlay_of_ones_own_sets_image_and_profile(tmp_path: Path) -> None:
    objects = of_ones_own(tmp_path, "")
    pods = templates(objects)
    for name in ("Deployment/victor", "CronJob/victor-run"):
        assert container(pods[name])["image"] == "registry.example.org/victor:0.1.0"
        (reference,) = (
            each["configMap"]["name"]
            for each in pods[name]["spec"]["volumes"]
            if "configMap" in each
        )
        assert config(objects)[reference]["data"] == {"profiles.yaml": "profiles: {}\n"}


def test_an_overlay_of_ones_own_sets_release_and_namespace_of_the_monitoring(
    tmp_path: Path,
) -> None:
    objects = of_ones_own(tmp_path, "", ", more of it")
    assert {labels(each)["release"] for each in of_kind(objects, *OPERATORS)} == {"observability"}
    around = peers(objects)
    elsewhere = Peer(namespace=pair("kubernetes.io/metadata.name=observability"))
    for target, port in (("server", 9091), ("collector", 8888)):
        assert admitted(objects, elsewhere, around[target], port, "TCP")
        assert not admitted(objects, around["monitoring"], around[target], port, "TCP")
    assert admitted(objects, around["client"], around["server"], 8765, "TCP")


def test_an_overlay_of_ones_own_sends_spans_through_the_collector_and_scrapes_as_before(
    tmp_path: Path,
) -> None:
    objects = of_ones_own(tmp_path, ", with traces")
    assert known(objects, OLDEST)
    pods = templates(objects)
    told = Settings.from_environment(variables(pods["Deployment/victor"]))
    assert told.exporters == ("prometheus",)
    assert told.trace_exporters == ("otlp",)
    added = variables(pods["StatefulSet/collector"])
    assert added["VICTOR_COLLECTOR_TRACES_BACKEND"] == "otlp_grpc"
    url = urlsplit(added["VICTOR_COLLECTOR_TRACES_BACKEND_GRPC"])
    around = peers(objects)
    tempo = Peer(namespace=pair(f"kubernetes.io/metadata.name={url.hostname.split('.')[1]}"))
    around["tempo"] = tempo
    more = {
        (source, target, port, "TCP")
        for source, target, port in (
            ("server", "collector", 4318),
            ("collector", "tempo", url.port),
            ("collector", "dns", 53),
        )
    }
    assert allowed(objects, around) == WANTED | ONE_ROW | more | {("collector", "dns", 53, "UDP")}


def test_an_overlay_of_ones_own_gives_the_collector_the_files_and_the_key_of_a_backend(
    tmp_path: Path,
) -> None:
    objects = of_ones_own(tmp_path, ", with a backend")
    assert known(objects, OLDEST)
    pod = templates(objects)["StatefulSet/collector"]
    mounted = {each["name"]: each["mountPath"] for each in container(pod)["volumeMounts"]}
    volumes = {each["name"]: each for each in pod["spec"]["volumes"]}
    files = config(objects)[volumes["backend"]["configMap"]["name"]]["data"]
    given = [argument.removeprefix("--config=") for argument in container(pod)["args"]]
    assert given[1:] == [f"{mounted['backend']}/{name}" for name in ("deltas.yaml", "datadog.yaml")]
    assert {Path(path).name for path in given[1:]} == set(files)
    headers = variables(pod)["VICTOR_COLLECTOR_BACKEND_HEADERS"]
    assert headers == f"${{file:{mounted['backend-headers']}/headers}}"
    secret = volumes["backend-headers"]["secret"]["secretName"]
    assert f"secret generic {secret} --from-file=headers=" in README
    outside = [("collector", *to) for to in (("provider", 443, "TCP"), ("dns", 53, "TCP"))]
    more = {*outside, ("collector", "dns", 53, "UDP")}
    assert allowed(objects, peers(objects)) == WANTED | ONE_ROW | more


def test_every_command_says_what_it_needs() -> None:
    for block in markdown.blocks(README, "sh"):
        wants = "cluster" if "kubectl" in block.text else "engine"
        assert block.remark == f"<!-- needs: {wants} -->", block.text
