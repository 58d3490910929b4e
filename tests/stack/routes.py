"""Numbers as the routes to Prometheus bring them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from tests.kit.processes import environment
from tests.stack.processes import Labels
from victor_otel.demo.script import Step, Usage
from victor_otel.model.metric import Kind

Series = Mapping[tuple[str, Labels], float]

_IDENTITY = {"job", "instance", "__name__"}


def normalized(found: Mapping[Labels, float]) -> Series:
    """By name and labels, without who sent it, and `le` as the number that it is."""
    result: dict[tuple[str, Labels], float] = {}
    for labels, value in found.items():
        pairs = dict(labels)
        if "le" in pairs:
            pairs["le"] = str(float(pairs["le"]))
        kept = frozenset((k, v) for k, v in pairs.items() if k not in _IDENTITY)
        assert (pairs["__name__"], kept) not in result, f"{labels} is not unique"
        result[pairs["__name__"], kept] = value
    return result


def cumulative(found: Series) -> Series:
    """Counters and histograms, which must not differ; gauges move by themselves."""
    suffixes = ("_total", "_bucket", "_count", "_sum", "victor_total_requests")
    return {key: value for key, value in found.items() if key[0].endswith(suffixes)}


def names(found: Series) -> set[str]:
    return {name for name, _ in found}


def exported_name(metric: Any) -> str:
    suffix = "_count" if metric.kind is Kind.HISTOGRAM else ""
    return metric.prometheus_name + suffix


def counted(answer: Mapping[str, Any]) -> Series:
    assert answer["problems"] == []
    return {(name, frozenset(labels.items())): value for name, labels, value in answer["expected"]}


def demo(*options: str) -> Any:
    """What one real `victor-otel demo` counted, along the route that `options` say."""
    done = subprocess.run(
        [sys.executable, "-m", "victor_otel.demo", "--once", "--json", *options],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


ANSWER = Step("The answer is 42. Task complete.", usage=Usage(prompt=5, completion=3))


def total(found: Series, name: str, **labels: str) -> float:
    return sum(
        value for (n, pairs), value in found.items() if n == name and labels.items() <= set(pairs)
    )
