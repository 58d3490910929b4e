"""What a process pushes shows its true number on its page, whatever it was told to push."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.kit.processes import OWN, environment
from tests.stack.processes import Collector, collector, exposition, wait_until

pytestmark = pytest.mark.stack

# Three pushes, far enough apart that the Collector takes each by itself. Then it stays: a page of
# the living forgets the dead.
PROGRAM = (
    OWN
    + """
import logging, sys

logging.basicConfig(format="%(levelname)s %(message)s")
import victor_otel
from victor_otel.runtime import RUNTIME

victor_otel.start()
for calls in (1, 2, 4):
    for _ in range(calls):
        call()
    for outlet in RUNTIME.instrumentation.pipeline.outlets:
        outlet.export()
    print("pushed", flush=True)
    sys.stdin.readline()
"""
)
CALLS = 7
UNSET = "unset"
EXPLICIT, EXPONENTIAL = "explicit_bucket_histogram", "base2_exponential_bucket_histogram"
COUNTED = "victor_provider_requests_total"
MEASURED = "victor_provider_latency_seconds_count"
BUCKETS = "victor_provider_latency_seconds_bucket"
NAMES = (COUNTED, MEASURED, BUCKETS)

Numbers = dict[str, float]


@pytest.fixture(scope="module")
def gateway() -> Iterator[Collector]:
    with collector() as running:
        yield running


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a process is told to push."""

    lifetime: str
    preference: str
    kind: str

    @property
    def job(self) -> str:
        return f"{self.lifetime}-{self.preference}-{self.kind}"

    @property
    def alone(self) -> bool:
        """Whether each run of a short-lived process is told to have totals of its own."""
        return self.lifetime == "short" and self.preference == "cumulative"

    def pages(self, calls: int) -> dict[str, Numbers]:
        """What each page is to say after so many calls: deltas are added up on the short one."""
        numbers = dict.fromkeys(NAMES if self.kind == EXPLICIT else NAMES[:-1], calls)
        if self.lifetime == "short" and not self.alone:
            return {"long": {}, "short": numbers}
        if self.preference == "delta":
            return {"long": {}, "short": numbers}
        if self.preference == "lowmemory":  # of histograms alone
            return {"long": {COUNTED: numbers.pop(COUNTED)}, "short": numbers}
        return {"long": numbers, "short": {}}


def shown(page: str, job: str) -> Numbers:
    """The numbers of one process on a page; of the buckets, that of the first second."""
    found: Numbers = {}
    for (name, labels), value in exposition(page).items():
        pairs = dict(labels)
        if pairs["job"] == job and name in NAMES and value and pairs.get("le", "1") == "1":
            found[name] = found.get(name, 0) + value
    return found


def played(gateway: Collector, case: Case) -> str:
    """What a process said whose every push arrived where it should, and nowhere else."""
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": gateway.otlp_http,
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": case.kind,
        "OTEL_METRIC_EXPORT_INTERVAL": "3600000",
        "OTEL_SERVICE_NAME": case.job,
        "VICTOR_OTEL_LIFETIME": case.lifetime,
        "VICTOR_OTEL_EXIT_TIMEOUT": "20",
    }
    if case.preference != UNSET:
        variables["OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"] = case.preference
    urls = {"long": gateway.long_metrics, "short": gateway.short_metrics}
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment(**variables)
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            for calls in (1, 3, CALLS):
                assert process.stdout.readline() == "pushed\n"
                reach(case.pages(calls), urls, case.job)
                process.stdin.write("\n")
                process.stdin.flush()
        finally:
            process.stdin.close()
        stderr = process.stderr.read()
    assert process.returncode == 0, stderr
    return stderr


def reach(expected: dict[str, Numbers], urls: dict[str, str], job: str) -> None:
    """Waits until the pages say it."""

    def reached() -> bool:
        found = {page: shown(url, job) for page, url in urls.items()}
        assert found == expected
        return True

    wait_until(reached)


def test_every_preference_of_every_lifetime_is_true_on_its_page(gateway: Collector) -> None:
    cases = [
        Case(lifetime=lifetime, preference=preference, kind=kind)
        for lifetime in ("long", "short")
        for preference in (UNSET, "cumulative", "delta", "lowmemory")
        for kind in (EXPLICIT, EXPONENTIAL)
    ]
    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(lambda case: played(gateway, case), cases))
    for case, stderr in zip(cases, said, strict=True):
        exponential = case.kind == EXPONENTIAL
        assert stderr.count("WARNING") == case.alone + exponential, (case, stderr)
        assert "ERROR" not in stderr
        assert ("series of their own" in stderr) == case.alone
        assert ("no quantile of this process is shown" in stderr) == exponential
