"""The pages that the documentation names, in a browser, and what the demo's stack says of itself."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page

from tests.kit.browser import browser
from tests.kit.documentation import ADDRESS, DOCS, addresses
from tests.kit.processes import environment
from tests.stack.demo import PROMETHEUS, Demo, demo, demo_is_counted, hurried
from tests.stack.processes import query, wait_until
from tools.paths import COLLECTOR, DEPLOY, ROOT
from tools.rules import ALERTS

pytestmark = pytest.mark.stack

SHOWS = {
    "9090": ("Prometheus", "Query"),
    "9090/alerts": ("FIRING", "Watchdog"),
    "9090/query": ("Execute",),
    "9090/targets": ("http://127.0.0.1:8889/metrics", "2 / 2 up"),
    "9091/metrics": ("victor_otel_build_info",),
    "9093": ("Alertmanager", 'alertname="Watchdog"'),
    "8888/metrics": ("otelcol_process_uptime",),
}
"""Words of a page and of what is below it, unless that stands here as well."""

NO_PAGE = {
    "http://localhost:4318": "takes OTLP",
    "http://127.0.0.1:4318": "takes OTLP",
    "http://127.0.0.1:4327": "takes OTLP",
    "http://127.0.0.1:4328": "takes OTLP",
    "http://127.0.0.1:9090/api/v1/otlp": "takes OTLP",
    "http://127.0.0.1:3000": "Grafana, which is no program of this stack",
}

NAMED = {
    *(
        address
        for page in (
            ROOT / "README.md",
            *DOCS.glob("*.md"),
            *COLLECTOR.glob("*.md"),
            *DEPLOY.rglob("*.md"),
        )
        for address in addresses(page)
    ),
    *ADDRESS.findall((ROOT / "scripts" / "demo_stack.py").read_text(encoding="utf-8")),
}

FAILING = {
    "HighProviderErrorRate",
    "HighRequestFailureRate",
    "HighToolFailureRate",
    "LowVerticalSuccessRate",
    "RequestErrorBudgetBurnFast",
    "RequestErrorBudgetBurnSlow",
}
"""The alerts of the work that the demo makes fail."""

FAILING_LATER = {"HighToolRejectionRate", "HighWorkflowFailureRate"}
"""The same, of work that needs minutes to be often enough."""

LOAD = {
    alert.name
    for alert in ALERTS
    if alert.file in {"baselines.yml", "capacity.yml", "process.yml"}
    or alert.name.startswith(("Degraded", "Slow"))
}
"""Alerts that a busy machine brings about: what they see is so."""


@pytest.fixture(scope="module")
def hurrying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The demo, and beside it a Victor that serves its numbers on the usual port."""
    folder = tmp_path_factory.mktemp("demo")
    serving = environment(VICTOR_PROMETHEUS_ENABLED="true")
    with ExitStack() as stack:
        running = stack.enter_context(demo(folder / "output.txt", hurried(folder / "clone")))
        victor = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", "import victor_otel; victor_otel.start(); input()"],
                stdin=subprocess.PIPE,
                env=serving,
            )
        )
        stack.callback(victor.communicate, b"\n")
        wait_until(lambda: running.process.poll() is not None or demo_is_counted(), 120)
        assert running.process.poll() is None, running.said
        wait_until(lambda: query(PROMETHEUS, 'up{instance="127.0.0.1:9091"} == 1'))
        yield running


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with browser() as opened:
        yield opened


def test_what_is_no_page_is_still_named() -> None:
    assert set(NO_PAGE) <= NAMED


@pytest.mark.parametrize("address", sorted(NAMED - set(NO_PAGE)))
@pytest.mark.usefixtures("hurrying")
def test_a_page_that_the_documentation_names_opens(address: str, page: Page) -> None:
    answered = page.goto(address)
    assert answered is not None
    assert answered.status == 200
    place = urlsplit(address)
    name = f"{place.port}{place.path}"
    for word in SHOWS[max((each for each in SHOWS if name.startswith(each)), key=len)]:
        page.get_by_text(word).filter(visible=True).first.wait_for()


@pytest.mark.usefixtures("hurrying")
def test_a_query_is_asked_where_readme_says(page: Page) -> None:
    wait_until(lambda: query(PROMETHEUS, 'victor_tool_executions_total{tool="demo_fail"}'), 120)
    page.goto("http://localhost:9090")
    page.locator(".cm-content").click()
    page.keyboard.insert_text("sum by (tool, status) (victor_tool_executions_total)")
    page.keyboard.press("Enter")
    page.get_by_text('{status="failure", tool="demo_fail"}').wait_for()


def test_what_fails_fires_and_is_told_and_the_pipeline_itself_is_in_order(
    hurrying: Demo, page: Page
) -> None:
    wait_until(lambda: seen('ALERTS{alertstate="firing"}') >= FAILING, 180)
    page.goto("http://localhost:9090/alerts?state=firing")
    page.get_by_text("HighToolFailureRate").wait_for()
    wait_until(lambda: "PAGE   CRITICAL RequestErrorBudgetBurnFast, victor: " in hurrying.said, 60)
    wait_until(lambda: "SLACK  WARNING HighToolFailureRate, victor: " in hurrying.said, 60)
    others = seen("ALERTS") - FAILING - FAILING_LATER - LOAD
    assert others == {"Watchdog"}
    assert not query(PROMETHEUS, "alertmanager_notifications_failed_total > 0")


def seen(alerts: str) -> set[str]:
    """The names of those alerts at any time."""
    found = query(PROMETHEUS, f"group by (alertname) (max_over_time({alerts}[1h]))")
    return {labels["alertname"] for labels, _ in found}
