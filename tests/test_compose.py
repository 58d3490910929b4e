"""compose.yaml is what Docker Compose accepts, safe by itself, and what compose.md says of it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.kit.agents import sandboxed
from tests.kit.compose import (
    API_KEY,
    GUIDE,
    ComposeError,
    Service,
    command,
    copied,
    dockerfile,
    project,
    services,
)
from tools import markdown
from tools.paths import DEPLOY, ROOT
from victor_otel.signals.settings import Settings
from victor_otel.version import __version__
from victor_otel.victor.supported import TESTED

LOOPBACK = "127.0.0.1"
PORTS = {
    "victor": [(8765, "8765")],
    "collector": [(4317, "4317"), (4318, "4318"), (13133, "13133")],
    "prometheus": [(9090, "9090")],
    "alertmanager": [(9093, "9093")],
    "grafana": [(3000, "3000")],
}
# What may hold something secret, by its name.
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|API_KEY|_KEYS?$", re.IGNORECASE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(tmp_path_factory.mktemp("compose"))


@pytest.fixture(scope="module")
def loaded(folder: Path) -> dict[str, Any]:
    return project(folder)


@pytest.fixture(scope="module")
def every(loaded: dict[str, Any]) -> dict[str, Service]:
    return services(loaded)


def read(path: str) -> Any:
    return yaml.safe_load((DEPLOY / path).read_text(encoding="utf-8"))


def test_it_has_the_services_that_are_documented(every: dict[str, Service]) -> None:
    assert every.keys() == PORTS.keys()


@pytest.mark.parametrize("dotenv", ["", "ANTHROPIC_API_KEY=one-key-of-a-model\n"])
def test_without_a_key_for_the_api_nothing_starts_and_the_message_says_why(
    tmp_path: Path, dotenv: str
) -> None:
    with pytest.raises(ComposeError, match=r"VICTOR_API_KEYS .* write one into .env"):
        project(copied(tmp_path, dotenv))


def test_without_env_nothing_starts_even_if_the_shell_has_the_key(
    tmp_path: Path,
) -> None:
    with pytest.raises(ComposeError, match=r"env file .*/\.env not found"):
        project(copied(tmp_path, ""), VICTOR_API_KEYS="one-key-of-a-shell")


def test_keys_reach_victor_and_nobody_else(every: dict[str, Service]) -> None:
    has = {s.name for s in every.values() if API_KEY in str(s.settings)}
    assert has == {"victor"}
    assert every["victor"].environment["ANTHROPIC_API_KEY"] == "one-key-of-a-model"


def test_no_secret_has_a_value_of_its_own(every: dict[str, Service]) -> None:
    raw = read("compose.yaml")["services"]
    values = {
        (name, key): value
        for name, settings in raw.items()
        for key, value in settings.get("environment", {}).items()
        if SECRET.search(key)
    }
    assert values == {
        ("victor", "VICTOR_API_KEYS"): "${VICTOR_API_KEYS:?write one into .env, see compose.md}",
        ("grafana", "GF_SECURITY_ADMIN_PASSWORD"): (
            "$$__file{/run/secrets/grafana_admin_password}"
        ),
    }
    assert every["grafana"].environment["GF_SECURITY_ADMIN_PASSWORD"] == (
        "$__file{/run/secrets/grafana_admin_password}"
    )


def test_the_password_of_grafana_is_a_file_of_the_users_that_git_ignores(
    folder: Path, loaded: dict[str, Any], every: dict[str, Service], tmp_path: Path
) -> None:
    (secret,) = every["grafana"].settings["secrets"]
    assert secret["target"] == "/run/secrets/grafana_admin_password"
    file = Path(loaded["secrets"][secret["source"]]["file"])
    assert not (DEPLOY / file.relative_to(folder)).exists()
    repository = copied(tmp_path)
    for name in ("victor/some.whl", file.relative_to(folder)):
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).touch()
    subprocess.run(["git", "init", "--quiet"], cwd=repository, check=True)
    listed = subprocess.run(
        ["git", "ls-files", "--others", "--ignored", "--exclude-standard"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert set(listed) == {".env", "victor/some.whl", str(file.relative_to(folder))}


def test_only_loopback_is_published(every: dict[str, Service]) -> None:
    assert {
        name: [(port["target"], port["published"]) for port in service.ports]
        for name, service in every.items()
    } == PORTS
    assert {p["host_ip"] for service in every.values() for p in service.ports} == {LOOPBACK}


@pytest.mark.parametrize("name", PORTS)
def test_a_service_can_do_no_more_than_it_must(every: dict[str, Service], name: str) -> None:
    settings = every[name].settings
    uid, _, gid = settings["user"].partition(":")
    assert int(uid) > 0
    assert gid
    assert settings["read_only"] is True
    assert settings["cap_drop"] == ["ALL"]
    assert settings["security_opt"] == ["no-new-privileges:true"]
    assert settings["restart"] == "unless-stopped"
    assert settings["logging"] == {
        "driver": "json-file",
        "options": {"max-size": "10m", "max-file": "3"},
    }
    limits = settings["deploy"]["resources"]["limits"]
    assert limits.keys() == {"cpus", "memory", "pids"}
    more = {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices", "userns_mode"}
    assert not more & settings.keys()


def test_victor_is_alone_with_the_collector(every: dict[str, Service]) -> None:
    def neighbours(name: str) -> set[str]:
        of_it = every[name].networks
        return {n for n, other in every.items() if other.networks & of_it} - {name}

    assert neighbours("victor") == {"collector"}
    assert neighbours("prometheus") == {"collector", "alertmanager", "grafana"}


def test_images_are_pinned_to_the_versions_that_are_tested(every: dict[str, Service]) -> None:
    stack = (ROOT / "scripts" / "stack.py").read_text(encoding="utf-8")
    tested = dict(re.findall(r'^(\w+)_VERSION = "([\d.]+)"$', stack, re.MULTILINE))
    assert {name: s.settings.get("image") for name, s in every.items()} == {
        # Built, and called by no name that a registry could answer to.
        "victor": None,
        "collector": (
            f"otel/opentelemetry-collector-contrib:{read('../collector/builder.yaml')['dist']['version']}"
        ),
        "prometheus": f"prom/prometheus:v{tested['PROMETHEUS']}",
        "alertmanager": f"prom/alertmanager:v{tested['ALERTMANAGER']}",
        "grafana": "grafana/grafana:12.3.0",
    }


def test_what_is_mounted_from_here_exists_and_cannot_be_written(
    every: dict[str, Service], folder: Path
) -> None:
    mounted = {
        (service.name, mount["target"]): mount
        for service in every.values()
        for mount in service.settings.get("volumes", [])
        if mount["type"] == "bind"
    }
    assert {key: os.path.relpath(mount["source"], folder) for key, mount in mounted.items()} == {
        ("victor", "/home/victor/.victor/profiles.yaml"): "victor/profiles.yaml",
        ("collector", "/etc/collector/config.yaml"): "../collector/config.yaml",
        ("prometheus", "/etc/prometheus"): "prometheus",
        ("prometheus", "/etc/prometheus/targets"): "prometheus/targets-compose",
        ("alertmanager", "/etc/alertmanager"): "alertmanager",
        ("grafana", "/etc/grafana/provisioning/datasources"): "grafana/provisioning/datasources",
        ("grafana", "/etc/grafana/provisioning/dashboards"): "grafana/provisioning/dashboards",
        ("grafana", "/etc/grafana/dashboards"): "grafana/dashboards",
    }
    for mount in mounted.values():
        assert mount["read_only"] is True
        assert Path(mount["source"]).exists()


def test_data_are_on_volumes_each_of_one_service(
    loaded: dict[str, Any], every: dict[str, Service]
) -> None:
    used = {
        (name, str(source)): target
        for name, service in every.items()
        for target, source in service.mounts("volume").items()
    }
    assert used == {
        ("victor", "home"): "/home/victor",
        ("victor", "workspace"): "/workspace",
        ("prometheus", "prometheus"): "/prometheus",
        ("alertmanager", "alertmanager"): "/alertmanager",
        ("grafana", "grafana"): "/var/lib/grafana",
    }
    assert sorted(loaded["volumes"]) == sorted(volume for _, volume in used)


@pytest.mark.parametrize(("name", "flag"), [("prometheus", "tsdb."), ("alertmanager", "")])
def test_programs_write_to_their_volume(every: dict[str, Service], name: str, flag: str) -> None:
    (target,) = every[name].mounts("volume")
    assert f"--storage.{flag}path={target}" in every[name].settings["command"]


def test_the_collector_writes_to_memory_and_takes_half_of_its_limit(
    every: dict[str, Service],
) -> None:
    collector = every["collector"]
    (folder,) = collector.writable
    assert Path(collector.environment["VICTOR_COLLECTOR_QUEUE"]).parent == Path(folder)
    limit = int(collector.settings["deploy"]["resources"]["limits"]["memory"]) >> 20
    assert limit == 2 * int(collector.environment["VICTOR_COLLECTOR_MEMORY_MIB"])


def test_every_health_check_asks_its_own_service(every: dict[str, Service]) -> None:
    asked = {name: urlsplit(s.health) if s.health else None for name, s in every.items()}
    assert [name for name, found in asked.items() if found is None] == ["collector"]
    for name, found in asked.items():
        if found is not None:
            assert found.hostname == LOOPBACK
            assert found.port in [target for target, _ in PORTS[name]]


def test_services_wait_for_the_health_of_those_that_can_tell(every: dict[str, Service]) -> None:
    waits = {
        (name, other): wait
        for name, service in every.items()
        for other, wait in service.dependencies.items()
    }
    assert waits == {
        ("victor", "collector"): "service_started",
        ("prometheus", "collector"): "service_started",
        ("prometheus", "alertmanager"): "service_healthy",
        ("grafana", "prometheus"): "service_healthy",
    }


def targets(folder: str) -> dict[str, list[str]]:
    paths = sorted((DEPLOY / "prometheus" / folder).glob("*.yml"))
    return {
        path.stem: [target for group in read(str(path)) for target in group["targets"]]
        for path in paths
    }


def test_prometheus_finds_services_where_one_machine_has_ports(every: dict[str, Service]) -> None:
    composed, alone = targets("targets-compose"), targets("targets")
    assert composed.pop("victor") == []
    alone.pop("victor")
    hosts = {"otelcol": "collector"}
    assert composed == {
        name: [each.replace(LOOPBACK, hosts.get(name, name)) for each in addresses]
        for name, addresses in alone.items()
    }
    named = {each.partition(":")[0] for addresses in composed.values() for each in addresses}
    assert all(every[name].networks & every["prometheus"].networks for name in named)


def pushed(environment: dict[str, str]) -> tuple[tuple[str, ...], str]:
    settings = Settings.from_environment(environment)
    return settings.exporters, settings.otlp_url


def test_victor_has_one_way_for_its_numbers(every: dict[str, Service]) -> None:
    environment = every["victor"].environment
    assert pushed(environment) == (("otlp",), "http://collector:4318/v1/metrics")
    assert Settings.from_environment(environment).lifetime == "auto"
    assert environment["NO_PROXY"].split(",") == ["collector", LOOPBACK]


def section(title: str) -> str:
    text = GUIDE.read_text(encoding="utf-8")
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def examples(title: str) -> list[str]:
    return [block.text for block in markdown.blocks(section(title), "yaml")]


def test_the_documented_override_scrapes_victor_instead(tmp_path: Path) -> None:
    override, listed = examples("Scrape instead of push")
    changed = services(project(copied(tmp_path), override))
    victor = changed["victor"]
    settings = Settings.from_environment(victor.environment)
    assert settings.exporters == ("prometheus",)
    assert settings.prometheus_host == "0.0.0.0"
    assert yaml.safe_load(listed) == [{"targets": [f"victor:{settings.prometheus_port}"]}]
    assert victor.networks & changed["prometheus"].networks
    assert [(p["host_ip"], p["target"]) for p in victor.ports] == [
        (LOOPBACK, 8765),
        (LOOPBACK, settings.prometheus_port),
    ]


def test_the_documented_override_keeps_the_queue_of_a_backend(tmp_path: Path) -> None:
    override, _ = examples("Backends")
    loaded = project(copied(tmp_path), override)
    collector = services(loaded)["collector"]
    headers = "${file:/run/secrets/traces_headers}"
    assert collector.environment["VICTOR_COLLECTOR_TRACES_BACKEND_HEADERS"] == headers
    (secret,) = collector.settings["secrets"]
    assert headers == f"${{file:{secret['target']}}}"
    assert collector.writable == set()
    (target,) = collector.mounts("volume")
    assert Path(target) == Path(collector.environment["VICTOR_COLLECTOR_QUEUE"]).parent
    assert f"--volume {loaded['volumes']['queue']['name']}:/queue" in section("Backends")
    assert f" {collector.settings['user']} /queue" in section("Backends")


def test_the_documented_override_gives_the_collector_the_files_and_the_key_of_a_vendor(
    tmp_path: Path,
) -> None:
    _, override = examples("Backends")
    folder = copied(tmp_path)
    backends = tmp_path / "collector" / "backends"
    collector = services(project(folder, override))["collector"]
    (mounted,) = (
        each for each in collector.settings["volumes"] if each["target"].endswith("backends")
    )
    assert (Path(mounted["source"]), mounted["read_only"]) == (backends, True)
    for argument in collector.settings["command"][1:]:
        path = Path(argument.removeprefix("--config="))
        assert path.parent == Path(mounted["target"])
        assert (backends / path.name).is_file()
    (secret,) = collector.settings["secrets"]
    headers = collector.environment["VICTOR_COLLECTOR_BACKEND_HEADERS"]
    assert headers == f"${{file:{secret['target']}}}"


def test_both_backends_are_named_in_env_and_by_default_there_is_none(
    every: dict[str, Service], tmp_path: Path
) -> None:
    names = ("VICTOR_COLLECTOR_BACKEND", "VICTOR_COLLECTOR_TRACES_BACKEND")
    assert {every["collector"].environment[name] for name in names} == {"nop"}
    dotenv = markdown.blocks(section("Backends"), "")[0].text
    folder = copied(tmp_path, f"VICTOR_API_KEYS=k\n{dotenv}")
    collector = services(project(folder))["collector"]
    told = dict(line.split("=") for line in dotenv.splitlines())
    assert set(names) < told.keys()
    assert told.items() <= collector.environment.items()


def test_several_victors_have_a_port_each(tmp_path: Path) -> None:
    (start,) = re.findall(r"^API_PORTS=(\S+) .* --scale victor=(\d+)$", section("Several Victors"), re.MULTILINE)  # fmt: skip
    ports, count = start
    folder = copied(tmp_path, f"VICTOR_API_KEYS=k\nAPI_PORTS={ports}\n")
    (published,) = services(project(folder))["victor"].ports
    first, last = map(int, published["published"].split("-"))
    assert last - first + 1 == int(count)
    assert published["host_ip"] == LOOPBACK


def test_the_documented_start_makes_what_compose_and_grafana_ask_for(tmp_path: Path) -> None:
    folder = copied(tmp_path, "")
    first, *_ = markdown.blocks(section("Start"), "sh")
    subprocess.run(["sh", "-e", "-c", first.text], cwd=folder, check=True)
    loaded = project(folder)
    password = Path(loaded["secrets"]["grafana_admin_password"]["file"])
    assert re.fullmatch(r"[0-9a-f]{32}\n", password.read_text(encoding="utf-8"))
    assert re.fullmatch(r"[0-9a-f]{64}", services(loaded)["victor"].environment["VICTOR_API_KEYS"])
    modes = [
        oct(path.stat().st_mode & 0o777) for path in (folder / ".env", password.parent, password)
    ]
    assert modes == ["0o600", "0o700", "0o644"]


def test_grafana_finds_the_data_that_dashboards_ask_for(every: dict[str, Service]) -> None:
    interval = read("prometheus/prometheus.yml")["global"]["scrape_interval"]
    assert read("grafana/provisioning/datasources/victor.yml") == {
        "apiVersion": 1,
        "prune": True,
        "datasources": [
            {
                "name": "Prometheus",
                "uid": "prometheus",
                "type": "prometheus",
                "access": "proxy",
                "url": f"http://prometheus:{every['prometheus'].ports[0]['target']}",
                "isDefault": True,
                "editable": False,
                "jsonData": {
                    "prometheusType": "Prometheus",
                    "httpMethod": "POST",
                    "timeInterval": interval,
                    "manageAlerts": True,
                    "alertmanagerUid": "alertmanager",
                    "exemplarTraceIdDestinations": [
                        {
                            "name": "trace_id",
                            "datasourceUid": "traces",
                            "urlDisplayLabel": "Trace",
                        }
                    ],
                },
            },
            {
                "name": "Alertmanager",
                "uid": "alertmanager",
                "type": "alertmanager",
                "access": "proxy",
                "url": f"http://alertmanager:{every['alertmanager'].ports[0]['target']}",
                "editable": False,
                "jsonData": {"implementation": "prometheus", "handleGrafanaManagedAlerts": False},
            },
            {
                "name": "Traces",
                "uid": "traces",
                "type": "$VICTOR_TRACES_TYPE",
                "access": "proxy",
                "url": "$VICTOR_TRACES_URL",
                "editable": False,
            },
        ],
    }
    assert "--enable-feature=exemplar-storage" in every["prometheus"].settings["command"]
    assert every["grafana"].environment["VICTOR_TRACES_TYPE"] in {"jaeger", "tempo"}
    assert every["grafana"].environment["VICTOR_TRACES_URL"]


def test_grafana_shows_the_dashboards_that_are_mounted(every: dict[str, Service]) -> None:
    grafana = every["grafana"]
    (mounted,) = [t for t, s in grafana.mounts("bind").items() if s.name == "dashboards" and s.parent.name == "grafana"]  # fmt: skip
    assert read("grafana/provisioning/dashboards/victor.yml") == {
        "apiVersion": 1,
        "providers": [
            {
                "name": "victor",
                "type": "file",
                "folder": "Victor",
                "folderUid": "victor",
                "allowUiUpdates": False,
                "disableDeletion": True,
                "updateIntervalSeconds": 30,
                "options": {"path": mounted},
            }
        ],
    }
    home = Path(grafana.environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert home.parent == Path(mounted)
    assert (DEPLOY / "grafana" / "dashboards" / home.name).is_file()


def test_the_image_is_built_of_the_versions_that_are_tested() -> None:
    builder, final = dockerfile()
    python = "python:3.12-slim-bookworm"
    assert (builder["FROM"], final["FROM"]) == ([f"{python} AS builder"], [python])
    assert builder["ARG"] == [
        f"VICTOR_VERSION={TESTED[-1]}",
        f"VICTOR_OTEL=/context/victor_otel-{__version__}-py3-none-any.whl[instruments]",
    ]
    assert final["ARG"] == [f"VICTOR_VERSION={TESTED[-1]}"]
    install = builder["RUN"][-1].split()
    assert install == [
        "/opt/victor/bin/pip",
        "install",
        "--no-cache-dir",
        "--only-binary=:all:",
        '"${VICTOR_OTEL}"',
        '"victor-ai[api]==${VICTOR_VERSION}"',
    ]


def test_the_image_takes_wheels_from_here_and_nothing_else() -> None:
    builder, final = dockerfile()
    assert builder["COPY"] == [". /context/"]
    assert final["COPY"] == ["--from=builder /opt/victor /opt/victor"]
    ignored = (DEPLOY / "victor" / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert [line for line in ignored if not line.startswith("#")] == ["*", "!*.whl"]


def test_the_image_holds_no_secret() -> None:
    settings = [value for stage in dockerfile() for kind in ("ARG", "ENV", "LABEL") for value in stage.get(kind, [])]  # fmt: skip
    assert settings
    assert not [value for value in settings if SECRET.search(value)]


def test_the_image_runs_as_the_user_of_compose_who_owns_what_volumes_cover(
    every: dict[str, Service],
) -> None:
    _, final = dockerfile()
    victor = every["victor"]
    assert final["USER"] == [victor.settings["user"]] == ["10001:10001"]
    assert "useradd --uid 10001 --user-group --create-home" in final["RUN"][0]
    assert "--owner=10001 --group=10001 /home/victor/.victor /workspace" in final["RUN"][0]
    assert victor.mounts("volume").keys() == {"/home/victor", *final["WORKDIR"]}
    assert final["STOPSIGNAL"] == ["SIGTERM"]


def test_compose_runs_what_the_image_runs(every: dict[str, Service]) -> None:
    assert command() == ["victor", "serve", "--host", "0.0.0.0", "--port", "8765"]
    settings = every["victor"].settings
    assert (settings["command"], settings["entrypoint"]) == (None, None)
    assert "healthcheck" not in settings
    assert dockerfile()[-1]["EXPOSE"] == ["8765"]


def test_the_profile_is_one_that_victor_knows_and_its_key_is_documented() -> None:
    profiles = read("victor/profiles.yaml")["profiles"]
    assert profiles.keys() == {"default"}
    with sandboxed():
        from victor.config.api_keys import PROVIDER_ENV_VARS
        from victor.config.settings import ProfileConfig

        key = PROVIDER_ENV_VARS[ProfileConfig(**profiles["default"]).provider]
    assert f"printf '{key}=" in section("Start")
    assert f"as {key}." in (DEPLOY / "victor" / "profiles.yaml").read_text(encoding="utf-8")


def rows(title: str, columns: int) -> Iterator[list[str]]:
    """The cells of the tables of a section that have so many columns, less their headers."""
    for line in section(title).splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split(" | ")]
        if line.startswith("| `") and len(cells) == columns:
            yield cells


def test_the_guide_names_every_address_and_limit(every: dict[str, Service]) -> None:
    written = {name: rest for name, *rest in rows("What runs", 5)}
    found: dict[str, list[str]] = {}
    for name, service in every.items():
        limits = service.settings["deploy"]["resources"]["limits"]
        addresses = ", ".join(f"{p['host_ip']}:{p['published']}" for p in service.ports)
        memory = int(limits["memory"]) >> 20
        found[name] = [addresses, str(limits["cpus"]), f"{memory} MiB", str(limits["pids"])]
    assert written == found


def test_the_guide_names_every_volume(loaded: dict[str, Any]) -> None:
    assert {name for name, _ in rows("What runs", 2)} == loaded["volumes"].keys()


def test_the_guide_names_every_setting_with_its_value(every: dict[str, Service]) -> None:
    in_file = {
        (name, variable): value
        for name, service in every.items()
        for variable, value in service.environment.items()
        if variable not in {"VICTOR_API_KEYS", "ANTHROPIC_API_KEY"}
    }
    written = {(service, name): value for service, name, value, _ in rows("Settings", 4)}
    assert written == in_file


def test_the_guide_names_everything_that_is_filled_in() -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    variables = re.findall(r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)\}", text)
    written = [(name, "" if default == "-" else default) for name, default, _ in rows("Settings", 3)]  # fmt: skip
    assert sorted(written) == sorted(variables)
