"""The Collector's files agree with each other, with their README and with the contrib build."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools.paths import COLLECTOR, ROOT

CONFIGURATIONS = ("config", "tls", "token", "agent", "gateway", "kafka-agent", "kafka-gateway")
BACKENDS = tuple(sorted(f"backends/{path.stem}" for path in (COLLECTOR / "backends").iterdir()))
KINDS = ("receivers", "processors", "connectors", "exporters", "extensions")
# Modules that are not called by the name of the component and of its kind.
MODULES = {
    ("exporters", "otlp_grpc"): "otlpexporter",
    ("extensions", "file_storage"): "filestorage",
}
# They would bring the software kits of three clouds along.
CONTRIB_ONLY = {"azureauthextension", "googleclientauthextension", "sigv4authextension"}
# --config takes a file, ${env:...} a variable, and --set yaml.
PROVIDERS = {"envprovider", "fileprovider", "yamlprovider"}
HOST = "${env:VICTOR_COLLECTOR_HOST:-127.0.0.1}"
PORT = r"\$\{env:VICTOR_COLLECTOR_\w+_PORT:-\d+\}"


def load(name: str) -> dict[str, Any]:
    return yaml.safe_load((COLLECTOR / f"{name}.yaml").read_text(encoding="utf-8"))


def builder() -> dict[str, Any]:
    return load("builder")


def modules(kind: str) -> dict[str, str]:
    """Versions of the modules of one kind in builder.yaml."""
    return dict(entry["gomod"].split() for entry in builder()[kind])


def module(kind: str, component: str) -> str:
    """The last part of the path of the module that a component such as batch/short is in."""
    type_ = component.partition("/")[0]
    return MODULES.get((kind, type_), type_.replace("_", "") + kind.removesuffix("s"))


def last(paths: Mapping[str, str]) -> list[str]:
    return sorted(path.rpartition("/")[2] for path in paths)


@pytest.mark.parametrize("kind", KINDS)
def test_builder_has_exactly_the_components_of_the_configurations(kind: str) -> None:
    used = {
        module(kind, name)
        for each in (*CONFIGURATIONS, *BACKENDS)
        for name in load(each).get(kind, ())
    }
    assert last(modules(kind)) == sorted(used - CONTRIB_ONLY)


def test_builder_has_exactly_the_providers_that_are_used() -> None:
    assert last(modules("providers")) == sorted(PROVIDERS)
    schemes = {
        scheme
        for each in (*CONFIGURATIONS, *BACKENDS)
        for scheme in re.findall(r"\$\{(\w+):", (COLLECTOR / f"{each}.yaml").read_text())
    }
    assert schemes == {"env"}


def test_builder_knows_no_other_kinds() -> None:
    assert set(builder()) == {"dist", *KINDS, "providers"}


def test_every_component_is_of_the_pinned_version() -> None:
    version = builder()["dist"]["version"]
    assert {v for kind in KINDS for v in modules(kind).values()} == {f"v{version}"}
    assert len(set(modules("providers").values())) == 1


def test_the_contrib_distribution_has_every_component() -> None:
    source, *contrib = (COLLECTOR / "contrib-components.txt").read_text().splitlines()
    assert f"release {builder()['dist']['version']}:" in source
    assert contrib == sorted(contrib)
    ours = {path for kind in (*KINDS, "providers") for path in modules(kind)}
    assert ours - set(contrib) == set()
    assert set(last(dict.fromkeys(contrib, ""))) >= CONTRIB_ONLY


def processors(*names: str, pipeline: str) -> list[str]:
    """Those of a pipeline under merged configurations, where the last list replaces all others."""
    found: list[str] = []
    for name in names:
        pipelines = load(name)["service"]["pipelines"]
        found = pipelines.get(pipeline, {}).get("processors", found)
    return found


def before(names: list[str], name: str) -> list[str]:
    return names[: names.index(name)]


def test_agent_and_gateway_change_of_the_pipelines_only_what_they_are_there_for() -> None:
    pipelines = load("config")["service"]["pipelines"]
    alone = {name: processors("config", pipeline=name) for name in pipelines}
    short = alone["metrics/short"]
    changes = {
        "agent": {
            "metrics/short": before(short, "deltatocumulative/short"),
            # A gateway sees whole traces, an agent a part.
            "traces": ["memory_limiter", "batch/traces"],
        },
        "gateway": {"metrics/short": [*short, "transform/gateway"]},
        "kafka-agent": {
            "metrics/short": [*short, "transform/agent"],
            # A gateway decides about whole traces, from which secrets are gone already.
            "traces": [*before(alone["traces"], "tail_sampling"), "batch/traces"],
        },
        # Nothing waits between Kafka and the backend.
        "kafka-gateway": {"metrics/long": []},
    }
    for other, change in changes.items():
        merged = {name: processors("config", other, pipeline=name) for name in pipelines}
        assert merged == alone | change


def keeping(name: str) -> tuple[set[str], str]:
    """The resource attributes that remain of a process, and the attribute that says of which."""
    statements = load(name)["processors"]["transform/short"]["metric_statements"]
    (keep,) = (one for one in statements if one.startswith("keep_keys(resource.attributes, ["))
    keys, _, condition = keep.partition(" where ")
    return set(re.findall(r'"([\w.]+)"', keys)), re.findall(r'"([\w.]+)"', condition)[0]


def test_agent_keeps_of_a_short_lived_process_what_the_gateway_keeps_and_its_mark() -> None:
    kept, mark = keeping("config")
    assert keeping("agent") == (kept | {mark}, mark)


def test_gateways_read_from_kafka_what_agents_write_there() -> None:
    written = load("kafka-agent")["exporters"]
    read = load("kafka-gateway")["receivers"]["kafka"]
    for signal, exporter in (("metrics", "kafka"), ("traces", "kafka/traces")):
        assert read[signal]["topics"] == [written[exporter][signal]["topic"]]
        for shared in ("brokers", "tls", "auth"):
            assert read[shared] == written[exporter][shared]
    pipelines = load("kafka-agent")["service"]["pipelines"]
    assert {name: each["exporters"] for name, each in pipelines.items()} == {
        "metrics/long": ["kafka"],
        "metrics/short": ["kafka"],
        "traces": ["kafka/traces"],
    }


def test_token_adds_one_extension_to_those_of_config() -> None:
    alone = load("config")["service"]["extensions"]
    assert load("token")["service"]["extensions"] == [*alone, "bearertokenauth"]
    assert all("extensions" not in load(name)["service"] for name in ("agent", "gateway"))


def test_what_needs_the_contrib_distribution_says_so() -> None:
    for name in BACKENDS:
        used = {module("extensions", each) for each in load(name).get("extensions", ())}
        said = "Needs the contrib distribution." in (COLLECTOR / f"{name}.yaml").read_text()
        assert bool(used & CONTRIB_ONLY) == said, name


def test_a_backend_adds_its_authenticator_to_the_extensions_of_config() -> None:
    alone = load("config")["service"]["extensions"]
    for name in BACKENDS:
        own = list(load(name).get("extensions", {}))
        assert load(name)["service"].get("extensions", [*alone, *own]) == [*alone, *own], name


def test_a_backend_leaves_the_pages_for_prometheus_as_they_are() -> None:
    pages = {side: f"prometheus/{side}" for side in ("long", "short")}
    for name in BACKENDS:
        pipelines = load(name)["service"].get("pipelines", {})
        for side, page in pages.items():
            changed = pipelines.get(f"metrics/{side}", {"exporters": [page]})
            assert changed["exporters"][0] == page, name
            assert set(changed) == {"exporters"}, "gateway.yaml has processors of its own"


def test_a_total_of_short_runs_is_not_forgotten_while_it_grows() -> None:
    processors = load("backends/deltas")["processors"]
    # Or it would be sent whole once more.
    assert processors["cumulativetodelta/short"]["max_staleness"] == "0s"


def test_the_page_of_backends_has_every_variable_of_their_files() -> None:
    page = (ROOT / "docs" / "backends.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `([A-Z_]+)` \|", page, re.MULTILINE))
    files = "".join((COLLECTOR / f"{name}.yaml").read_text() for name in BACKENDS)
    of_gateways = {"VICTOR_COLLECTOR_GATEWAY_NAME", "HOSTNAME"}
    assert set(re.findall(r"\$\{env:(\w+)", files)) - of_gateways == rows


def listeners(configuration: Mapping[str, Any]) -> Iterator[str]:
    """Every address on which a configuration would listen."""
    for each in configuration.get("receivers", {}).values():
        yield from (p["endpoint"] for p in each.get("protocols", {}).values() if "endpoint" in p)
    for group, type_ in (("exporters", "prometheus"), ("extensions", "health_check")):
        for name, each in configuration.get(group, {}).items():
            if name.partition("/")[0] == type_ and "endpoint" in each:
                yield each["endpoint"]
    telemetry = configuration.get("service", {}).get("telemetry", {})
    for reader in telemetry.get("metrics", {}).get("readers", ()):
        pull = reader["pull"]["exporter"]["prometheus"]
        yield f"{pull['host']}:{pull['port']}"


def test_everything_listens_on_the_one_host_that_is_loopback_by_default() -> None:
    found = [address for name in CONFIGURATIONS for address in listeners(load(name))]
    # OTLP twice, both pages of Victor's numbers, the Collector's own, and its health.
    assert len(set(found)) == len(found) == 6
    assert all(re.fullmatch(re.escape(HOST) + ":" + PORT, address) for address in found)


def settings() -> dict[str, str]:
    """Each ${env:NAME:-default} of the configurations, with its default ('' for none)."""
    found: dict[str, set[str]] = {}
    pattern = re.compile(r"\$\{env:(VICTOR_\w+)(?::-((?:\$\{[^}]*\}|[^}])*))?\}")
    for name in CONFIGURATIONS:
        text = (COLLECTOR / f"{name}.yaml").read_text(encoding="utf-8")
        text = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
        for variable, default in pattern.findall(text):
            found.setdefault(variable, set()).add(default)
    # A file may insist on a setting that is optional without it.
    defaults = {variable: given - {""} or {""} for variable, given in found.items()}
    assert {variable for variable, given in defaults.items() if len(given) > 1} == set()
    return {variable: given.pop() for variable, given in defaults.items()}


def test_readme_has_every_setting_with_its_default() -> None:
    readme = (COLLECTOR / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(VICTOR_COLLECTOR_\w+)` \| ([^|]*) \| \S", readme, re.MULTILINE)
    assert len(rows) == len(dict(rows))
    written = {name: "" if default == "-" else default.strip("`") for name, default in rows}
    in_words = {"the host's name": "${env:HOSTNAME}"}
    assert {name: in_words.get(value, value) for name, value in written.items()} == settings()


def texts() -> Iterator[tuple[Path, str]]:
    """Every file that people start Victor by."""
    suffixes = {".md", ".yaml", ".yml", ".env", ".sh"}
    for top in ROOT.glob("[!.]*"):
        if top.name != "tests":
            for path in (top, *top.rglob("*")):
                if path.suffix in suffixes:
                    yield path, path.read_text(encoding="utf-8")


def milliseconds(duration: str) -> int:
    assert duration.endswith("s")
    return int(duration.removesuffix("s")) * 1000


def test_a_series_expires_after_two_of_the_export_intervals_that_we_ship() -> None:
    set_to = re.compile(r"OTEL_METRIC_EXPORT_INTERVAL\"?(?:=|: )\"?(\d+)")
    wanted = re.compile(r"OTEL_METRIC_EXPORT_INTERVAL.*our Collector needs (\d+)")
    found = {
        path.relative_to(ROOT): {int(n) for n in (*set_to.findall(text), *wanted.findall(text))}
        for path, text in texts()
    }
    assert found[Path("README.md")]
    assert found[Path("collector/README.md")]
    (interval,) = set[int]().union(*found.values())
    expiry = load("config")["exporters"]["prometheus/long"]["metric_expiration"]
    assert milliseconds(expiry) == 2 * interval
