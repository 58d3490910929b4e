"""From Victor's work to a person's pager: real Prometheus, real Alertmanager, shipped files."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.stack.checks import checking
from tests.stack.paging import ROUTING_KEY, Message, Paging, paging, shipped
from tests.stack.processes import (
    alertmanager,
    exposition,
    free_ports,
    prometheus,
    query,
    wait_until,
)
from tools.rules import RUNBOOK_BASE as RUNBOOKS

pytestmark = pytest.mark.stack


def test_a_failing_security_check_pages_and_its_repair_resolves(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with (
        paging(tmp_path, "webhook") as pager,
        prometheus([f"127.0.0.1:{port}"], alertmanagers=[pager.url]) as monitoring,
        checking(VICTOR_PROMETHEUS_ENABLED="true", VICTOR_PROMETHEUS_PORT=str(port)) as victor,
    ):

        def pages() -> list[Mapping[str, Any]]:
            return [
                event
                for event in pager.to("pagerduty")
                if event["payload"]["class"] == "SecurityTestFailure"
            ]

        def posts() -> list[Mapping[str, Any]]:
            return [
                post
                for post in pager.to("webhook")
                if post["groupLabels"]["alertname"] == "SecurityTestFailure"
            ]

        assert victor.check("clean") == "passed"
        wait_until(lambda: rate(monitoring.url) == [1])
        assert victor.check("vulnerable") == "failed"
        wait_until(lambda: pages() and posts(), 120)
        assert victor.check("clean") == "passed"
        wait_until(lambda: len(pages()) > 1 and len(posts()) > 1)
    fired, over = posts()
    (alert,) = fired["alerts"]
    assert fired["status"] == alert["status"] == "firing"
    assert alert["labels"] == {
        "alertname": "SecurityTestFailure",
        "severity": "critical",
        "topic": "security-tests",
        "job": "victor",
        "instance": f"127.0.0.1:{port}",
    }
    assert alert["annotations"] == {
        "summary": "Only 66.67% of security checks passed in process "
        f"127.0.0.1:{port} of service victor",
        "description": "The last complete check passed 66.67% of its rules or tests (threshold "
        "90%). The risk that the failed ones look for is present, usually a vulnerable "
        "dependency. First run the scan again and read its report, which names it.",
        "runbook_url": f"{RUNBOOKS}/SecurityTestFailure.md",
        "__dashboardUid__": "victor-errors",
        "__panelId__": "44",
    }
    (same,) = over["alerts"]
    assert over["status"] == same["status"] == "resolved"
    assert same["labels"] == alert["labels"]
    trigger, resolve = pages()
    assert (trigger["event_action"], resolve["event_action"]) == ("trigger", "resolve")
    assert trigger["dedup_key"] == resolve["dedup_key"]


def rate(prometheus_url: str) -> list[float]:
    return [value for _, value in query(prometheus_url, "victor_security_test_pass_rate")]


def alert(name: str, severity: str, *, topic: str = "t", **labels: str) -> dict[str, Any]:
    return {
        "labels": {"alertname": name, "severity": severity, "topic": topic, **labels},
        "annotations": {
            "summary": f"{name} of <{labels.get('endpoint', 'all')}>",
            "description": "7% of requests & more.",
            "runbook_url": f"{RUNBOOKS}/{name}.md",
        },
        "generatorURL": "http://inside.example.org:9090/graph",
    }


def ended(one: Mapping[str, Any]) -> dict[str, Any]:
    return {**one, "startsAt": "2020-01-01T00:00:00Z", "endsAt": "2020-01-01T00:01:00Z"}


TITLE = "CRITICAL HighErrorRate, victor (2 firing)"
LIST = """\
HighErrorRate of </chat>
7% of requests & more.
endpoint=/chat, job=victor

HighErrorRate of </tools>
7% of requests & more.
endpoint=/tools, job=victor

"""
RUNBOOK = f"{RUNBOOKS}/HighErrorRate.md"


def two(pager: Paging, receiver: str) -> Mapping[str, Any]:
    """What `receiver` gets when a service has one alert for two endpoints."""
    endpoints = ("/chat", "/tools")
    pager.post(
        *(alert("HighErrorRate", "critical", job="victor", endpoint=one) for one in endpoints)
    )
    (message,) = wait_until(lambda: pager.to(receiver))
    assert "inside.example.org" not in json.dumps(message)
    assert f":{urlsplit(pager.url).port}" not in json.dumps(message)
    return message


def test_slack_gets_summary_description_labels_and_runbook(tmp_path: Path) -> None:
    with paging(tmp_path) as pager:
        (attachment,) = two(pager, "slack")["attachments"]
    assert attachment["title"] == attachment["fallback"] == TITLE
    assert attachment["title_link"] == RUNBOOK
    assert attachment["color"] == "danger"
    assert attachment["text"] == textwrap.dedent(f"""\
        *HighErrorRate of &lt;/chat&gt;*
        7% of requests &amp; more.
        endpoint=/chat, job=victor

        *HighErrorRate of &lt;/tools&gt;*
        7% of requests &amp; more.
        endpoint=/tools, job=victor

        <{RUNBOOK}|Runbook>""")


def test_pagerduty_gets_the_same_and_the_key_from_its_file(tmp_path: Path) -> None:
    with paging(tmp_path) as pager:
        event = two(pager, "pagerduty")
    assert event["routing_key"] == ROUTING_KEY
    assert event["links"] == [{"href": RUNBOOK, "text": "Runbook"}]
    assert event["payload"] == {
        "summary": TITLE,
        "source": "Alertmanager",
        "severity": "critical",
        "class": "HighErrorRate",
        "component": "victor",
        "custom_details": {
            "firing": LIST, "resolved": "", "num_firing": "2", "num_resolved": "0"
        },
    }  # fmt: skip


def test_a_mail_is_sent_with_the_password_from_its_file(tmp_path: Path) -> None:
    with paging(tmp_path, "email") as pager:
        mail = two(pager, "email")
    assert mail == {
        "to": "oncall@example.org",
        "subject": TITLE,
        "text": f"{LIST}Runbook: {RUNBOOK}\n",
    }


def test_what_is_over_is_told_apart_from_what_is_not(tmp_path: Path) -> None:
    with paging(tmp_path, "email") as pager:
        two(pager, "email")
        tools = alert("HighErrorRate", "critical", job="victor", endpoint="/tools")
        pager.post(ended(tools))
        _, second = wait_until(lambda: pager.to("email")[1:] and pager.to("email"))
        chat = alert("HighErrorRate", "critical", job="victor", endpoint="/chat")
        pager.post(ended(chat))
        *_, last = wait_until(lambda: pager.to("email")[2:] and pager.to("email"))
    first, rest = LIST.split("\n\n", 1)
    assert second["subject"] == "CRITICAL HighErrorRate, victor"
    assert second["text"] == f"{first}\n\nResolved:\n\n{rest}Runbook: {RUNBOOK}\n"
    assert last["subject"] == "RESOLVED HighErrorRate, victor"
    assert last["text"] == f"Resolved:\n\n{first}\n\nRunbook: {RUNBOOK}\n"


def test_a_message_lists_ten_alerts_and_says_how_many_there_are(tmp_path: Path) -> None:
    with paging(tmp_path, "email") as pager:
        pager.post(*(alert("A", "critical", endpoint=str(number)) for number in range(12)))
        (mail,) = wait_until(lambda: pager.to("email"))
    assert mail["text"].count("7% of requests") == 10
    assert "and more, 12 in all." in mail["text"]


def test_each_severity_reaches_whom_it_should(tmp_path: Path) -> None:
    with paging(tmp_path) as pager:
        pager.post(
            alert("Critical", "critical", topic="one"),
            alert("Warning", "warning", topic="two"),
            alert("Info", "info", topic="three"),
            alert("Watchdog", "none", topic="four"),
        )
        # Often enough that all others, said once, are out.
        wait_until(lambda: len(pager.to("dead-mans-switch")) > 2)
        reached = {(each.receiver, name(each)) for each in pager.messages}
        active = {each["labels"]["alertname"] for each in pager.alerts()}
    assert reached == {
        ("pagerduty", "CRITICAL Critical"),
        ("slack", "CRITICAL Critical"),
        ("slack", "WARNING Warning"),
        ("dead-mans-switch", "Watchdog"),
    }
    assert active == {"Critical", "Warning", "Info", "Watchdog"}


def name(message: Message) -> str:
    body = message.body
    if message.receiver == "slack":
        return body["attachments"][0]["title"]
    if message.receiver == "pagerduty":
        return body["payload"]["summary"]
    return body["groupLabels"]["alertname"]


def test_a_warning_is_silent_while_the_critical_of_the_same_thing_fires(tmp_path: Path) -> None:
    chat = {"job": "victor", "endpoint": "/chat"}
    critical = alert("Slow", "critical", topic="latency", **chat)
    warning = alert("Degraded", "warning", topic="latency", interface="api", **chat)
    hint = alert("Hint", "info", topic="latency", **chat)
    others = [
        alert("Degraded", "warning", topic="latency", job="victor", endpoint="/tools"),
        alert("Degraded", "warning", topic="latency", job="other", endpoint="/chat"),
        alert("Errors", "warning", topic="errors", **chat),
    ]
    with paging(tmp_path) as pager:
        pager.post(critical)
        wait_until(lambda: pager.to("pagerduty"))
        pager.post(warning, hint, *others)
        wait_until(lambda: len(pager.to("slack")) == 4)
        state = {key(each): each["status"]["state"] for each in pager.alerts()}
        assert state == {
            key(critical): "active",
            key(warning): "suppressed",
            key(hint): "suppressed",
            **dict.fromkeys(map(key, others), "active"),
        }
        assert not any("WARNING Degraded, victor (2" in name(each) for each in pager.messages)
        pager.post(ended(critical))
        wait_until(lambda: "WARNING Degraded, victor (2 firing)" in map(name, pager.messages))


def absence(name: str, severity: str, job: str, **labels: str) -> dict[str, Any]:
    return alert(name, severity, topic="availability", job=job, **labels)


def target(job: str, instance: str) -> dict[str, Any]:
    name = "MonitoringTargetDown"
    return alert(name, "warning", topic="monitoring-target", job=job, instance=instance)


NO_SERVER = absence("VictorAbsent", "critical", "victor")
NO_SUCH_SERVER = absence("VictorDown", "critical", "victor", instance="a")
FEWER_SERVERS = absence("VictorReplicaGone", "warning", "victor")
NO_COLLECTOR = alert("OtelCollectorDown", "critical", topic="collector-down", job="otelcol")


@pytest.mark.parametrize(
    ("cause", "consequences", "others"),
    [
        pytest.param(
            NO_SERVER,
            [FEWER_SERVERS],
            [NO_SUCH_SERVER, absence("VictorReplicaGone", "warning", "other")],
            id="no server at all",
        ),
        pytest.param(
            NO_SUCH_SERVER,
            [FEWER_SERVERS],
            [absence("VictorReplicaGone", "warning", "other")],
            id="one server",
        ),
        pytest.param(
            NO_COLLECTOR,
            [NO_SERVER, FEWER_SERVERS, target("otelcol", "c:8888"), target("collector", "c:8889")],
            [NO_SUCH_SERVER, target("prometheus", "p:9090")],
            id="the collector",
        ),
    ],
)
def test_what_explains_the_rest_is_all_that_is_said(
    cause: dict[str, Any],
    consequences: list[dict[str, Any]],
    others: list[dict[str, Any]],
    tmp_path: Path,
) -> None:
    with paging(tmp_path) as pager:
        pager.post(cause)
        wait_until(lambda: pager.to("slack"))
        pager.post(*consequences, *others)
        wait_until(lambda: len(pager.to("slack")) == 1 + len(others))
        state = {key(each): each["status"]["state"] for each in pager.alerts()}
    assert state == {
        key(cause): "active",
        **dict.fromkeys(map(key, consequences), "suppressed"),
        **dict.fromkeys(map(key, others), "active"),
    }


def key(one: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(one["labels"].items()))


def test_without_any_secret_it_starts_says_what_is_missing_and_needs_no_restart(
    tmp_path: Path,
) -> None:
    with alertmanager(shipped(tmp_path)) as running:
        unconfigured = Paging(running, [])
        unconfigured.post(alert("Watchdog", "none"))
        wait_until(lambda: failed(running.url) == {"webhook"})
        (one,) = unconfigured.alerts()
        assert one["status"]["state"] == "active"
        log = running.log.read_text(encoding="utf-8")
        assert "open secrets/dead_mans_switch_url: no such file or directory" in log
    with paging(tmp_path) as pager:
        url = tmp_path / "secrets" / "slack_url"
        url.rename(tmp_path / "later")
        pager.post(alert("Warning", "warning"))
        wait_until(lambda: failed(pager.url) == {"slack"})
        (tmp_path / "later").rename(url)
        wait_until(lambda: pager.to("slack"))


def failed(url: str) -> set[str]:
    """The kinds of receivers that could not be reached."""
    found = exposition(f"{url}/metrics")
    return {
        dict(labels)["integration"]
        for (metric, labels), value in found.items()
        if metric == "alertmanager_notifications_failed_total" and value
    }
