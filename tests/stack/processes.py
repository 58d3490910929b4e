"""The real Collector, Prometheus and Alertmanager as context managers, on free loopback ports.

They run on the shipped files. A test changes ports, targets and intervals, nothing else.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import ProxyHandler, build_opener

from prometheus_client.parser import text_string_to_metric_families

from tests.kit.processes import free_ports
from tools.paths import COLLECTOR, DEPLOY, ROOT

COLLECTOR_CONFIG = COLLECTOR / "config.yaml"
HOST = "127.0.0.1"
# Tests of Victor give it another home, where neither our programs nor Go's caches are.
HOME = os.environ["HOME"]
# Loopback is reached directly, whatever proxy the environment names.
DIRECT = build_opener(ProxyHandler({}))

Labels = frozenset[tuple[str, str]]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Collector:
    """A running Collector: `otlp_http` is what OTEL_EXPORTER_OTLP_ENDPOINT takes."""

    otlp_http: str
    otlp_grpc: str
    long_metrics: str
    short_metrics: str
    telemetry: str
    health: str
    process: subprocess.Popen[bytes]
    log: Path


@dataclass(frozen=True, kw_only=True)
class Prometheus:
    """A running Prometheus; `otlp_metrics` is the URL that takes OTLP over HTTP, and
    `folder` holds its copy of the shipped files.
    """

    url: str
    otlp_metrics: str
    folder: Path
    process: subprocess.Popen[bytes]
    log: Path


@dataclass(frozen=True, kw_only=True)
class Alertmanager:
    """A running Alertmanager."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path


def collector_ports() -> dict[str, str]:
    """Settings with a free port for each that a Collector listens on: it may come back there."""
    names = ("GRPC", "HTTP", "LONG", "SHORT", "TELEMETRY", "HEALTH")
    ports = free_ports(len(names))
    return {
        f"VICTOR_COLLECTOR_{name}_PORT": str(port) for name, port in zip(names, ports, strict=True)
    }


@contextmanager
def collector(
    *configurations: Path,
    environment: Mapping[str, str] | None = None,
    settings: Iterable[str] = (),
    timeout: float = 30,
) -> Iterator[Collector]:
    """Run the Collector on `configurations`, merged in order; without any, on config.yaml.

    `environment` fills the ${env:...} of the configuration: it may fix ports, for a Collector
    that comes back. `settings` override single values of it, for instance
    "exporters::prometheus/long::metric_expiration=2s".
    """
    ports = collector_ports()
    filled = {"VICTOR_COLLECTOR_HOST": HOST, **ports, **(environment or {})}
    grpc, http, long, short, telemetry, health = (f"http://{HOST}:{filled[name]}" for name in ports)
    command = [
        program("collector"),
        *(f"--config={path}" for path in configurations or (COLLECTOR_CONFIG,)),
        *(f"--set={setting}" for setting in settings),
    ]
    with (
        tempfile.TemporaryDirectory(prefix="collector-") as folder,
        running(command, Path(folder), health, timeout, filled) as (process, log),
    ):
        yield Collector(
            otlp_http=http,
            otlp_grpc=grpc,
            long_metrics=f"{long}/metrics",
            short_metrics=f"{short}/metrics",
            telemetry=f"{telemetry}/metrics",
            health=health,
            process=process,
            log=log,
        )


@contextmanager
def prometheus(
    victor: Iterable[str] = (),
    collectors: Iterable[Collector] = (),
    *,
    alertmanagers: Iterable[str] = (),
    prometheuses: Iterable[str] = (),
    interval: str = "1s",
    timeout: float = 30,
) -> Iterator[Prometheus]:
    """Run Prometheus on the shipped files; it scrapes and evaluates once an `interval`.

    `victor` names the endpoints of processes, `prometheuses` those that it watches besides
    itself; a target is host:port or an URL.
    """
    (port,) = free_ports(1)
    gateways = list(collectors)
    targets = {
        "victor": victor,
        "collector": [url for each in gateways for url in (each.long_metrics, each.short_metrics)],
        "otelcol": [each.telemetry for each in gateways],
        "prometheus": [f"{HOST}:{port}", *prometheuses],
        "alertmanager": alertmanagers,
    }
    with tempfile.TemporaryDirectory(prefix="prometheus-") as temporary:
        folder = Path(temporary)
        shutil.copytree(DEPLOY / "prometheus", folder, dirs_exist_ok=True)
        config_path = folder / "prometheus.yml"
        shipped = config_path.read_text(encoding="utf-8")
        config_path.write_text(
            re.sub(r"(?<=: )1[05]s$", interval, shipped, flags=re.MULTILINE), "utf-8"
        )
        for name, urls in targets.items():
            hosts = [urlsplit(target).netloc or target for target in urls]
            # JSON is YAML.
            path = folder / "targets" / f"{name}.yml"
            path.write_text(json.dumps([{"targets": hosts}]), encoding="utf-8")
        with prometheus_in(folder, port, timeout=timeout) as running_there:
            yield running_there


@contextmanager
def prometheus_in(folder: Path, port: int, *, timeout: float = 30) -> Iterator[Prometheus]:
    """Run Prometheus on the prometheus.yml in `folder`, where its data stay."""
    url = f"http://{HOST}:{port}"
    command = [
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={HOST}:{port}",
        "--web.enable-otlp-receiver",
        "--enable-feature=exemplar-storage",
    ]
    with running(command, folder, f"{url}/-/ready", timeout) as (process, log):
        otlp = f"{url}/api/v1/otlp/v1/metrics"
        yield Prometheus(url=url, otlp_metrics=otlp, folder=folder, process=process, log=log)


@contextmanager
def alertmanager(config_path: Path, *, timeout: float = 30) -> Iterator[Alertmanager]:
    """Run Alertmanager on a configuration beside which the files that it names stand."""
    (port,) = free_ports(1)
    url = f"http://{HOST}:{port}"
    with tempfile.TemporaryDirectory(prefix="alertmanager-") as temporary:
        folder = Path(temporary)
        command = [
            program("alertmanager"),
            f"--config.file={config_path}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address={HOST}:{port}",
            # Alone, not one of a cluster.
            "--cluster.listen-address=",
        ]
        ready = f"{url}/-/ready"
        with running(command, folder, ready, timeout, start=config_path.parent) as (process, log):
            yield Alertmanager(url=url, process=process, log=log)


def answer(url: str) -> Any:
    """Return the JSON that `url` gives now."""
    return json.loads(_get(url))


def asked(prometheus_url: str, promql: str) -> Any:
    """Return what Prometheus answers to a query, with its `resultType` and `result`."""
    return answer(f"{prometheus_url}/api/v1/query?{urlencode({'query': promql})}")["data"]


def query(prometheus_url: str, promql: str) -> list[tuple[dict[str, str], float]]:
    """Return the instant vector (or scalar, without labels) that `promql` gives now."""
    data: dict[str, Any] = asked(prometheus_url, promql)
    if data["resultType"] == "scalar":
        return [({}, float(data["result"][1]))]
    if data["resultType"] != "vector":
        raise ValueError(f"{promql} gives a {data['resultType']}, not an instant vector")
    return [(item["metric"], float(item["value"][1])) for item in data["result"]]


def series(prometheus_url: str, match: str) -> dict[Labels, float]:
    """Return the current value of each series that `match` selects, by its labels and __name__."""
    return {frozenset(labels.items()): value for labels, value in query(prometheus_url, match)}


def exposition(url: str, *, without: Collection[str] = ()) -> dict[tuple[str, Labels], float]:
    """Return the samples of a /metrics page by name and labels, less the labels in `without`."""
    samples: dict[tuple[str, Labels], float] = {}
    for family in text_string_to_metric_families(_get(url)):
        for sample in family.samples:
            labels = frozenset(
                (key, value) for key, value in sample.labels.items() if key not in without
            )
            if (sample.name, labels) in samples:
                raise ValueError(f"{sample.name} {dict(labels)} is not unique in {url}")
            samples[sample.name, labels] = sample.value
    return samples


def same(one: object, other: object) -> bool:
    """Whether both are equal: of long ones that are not, pytest explains `==` for minutes."""
    return one == other


def wait_until(fn: Callable[[], T], timeout: float = 30, *, interval: float = 0.05) -> T:
    """Return the first true result of `fn`; at the deadline, fail and show the last one."""
    deadline = time.monotonic() + timeout
    while True:
        error: Exception | None = None
        result: T | None = None
        try:
            result = fn()
        except (AssertionError, LookupError, OSError) as caught:
            error = caught
        if result:
            return result
        if time.monotonic() >= deadline:
            last = repr(error) if error else repr(result)
            raise AssertionError(f"not within {timeout} s; last: {last[:2000]}") from error
        time.sleep(interval)


@cache
def program(name: str) -> str:
    """Return the path of a program of the stack; by running it, since scripts/ is no package."""
    result = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "stack.py"), name],
        env={**os.environ, "HOME": HOME},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise RuntimeError(result.stderr.strip())
    return result.stdout.strip()


@contextmanager
def running(
    command: Sequence[str],
    folder: Path,
    ready: str,
    timeout: float,
    environment: Mapping[str, str] | None = None,
    *,
    start: Path | None = None,
) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    log = folder / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=start or folder,
            env={**os.environ, **(environment or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: process.poll() is not None or _answers(ready), timeout)
        if process.poll() is not None:
            raise RuntimeError("died before it was ready")
        yield process, log
        # A negative status is a signal: then a test has ended it on purpose.
        if (status := process.poll()) is not None and status >= 0:
            raise RuntimeError("died during the test")
    except BaseException as error:
        # The log goes away with the folder, and is the only trace of what went wrong in there.
        error.add_note(_last_lines(process, log))
        raise
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes], patience: float = 10) -> None:
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _last_lines(process: subprocess.Popen[bytes], log: Path, count: int = 20) -> str:
    status = process.poll()
    state = "is running" if status is None else f"ended with status {status}"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
    return "\n".join((f"{process.args} {state}; its last lines:", *lines))


def _get(url: str, timeout: float = 5) -> str:
    try:
        with DIRECT.open(url, timeout=timeout) as response:
            return response.read().decode("utf-8")
    except HTTPError as error:
        # Where Prometheus says what is wrong with a query.
        error.add_note(error.read().decode("utf-8", errors="replace"))
        raise


def _answers(url: str) -> bool:
    try:
        _get(url, timeout=1)
    except OSError:
        return False
    return True
