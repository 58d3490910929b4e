"""The hot path stays as cheap as it is: a call that takes twice the steps fails the gate.

Steps of the interpreter are the same in each run on one version of Python, whatever else the
machine does, so a limit needs room only for new versions of Victor and of the SDK.
"""

from __future__ import annotations

import sys

import pytest

from benchmarks.calls import ITEMS
from benchmarks.steps import Counts, counted

PYTHON = (3, 12)

pytestmark = pytest.mark.skipif(
    sys.version_info[:2] != PYTHON, reason="other versions of Python take other steps"
)

MARGIN = 1.15

WITH_US = {
    "tool": 2_547,
    "registry": 3_036,
    "executor": 3_573,
    "pipeline": 4_698,
    "model": 4_355,
    "stream": 31_223,
}
"""Steps of a call beyond what Victor takes: the work of `benchmarks.calls`, all metrics."""

WITHOUT_GENAI = {
    "tool": 1_797,
    "registry": 2_286,
    "executor": 2_823,
    "pipeline": 3_928,
    "model": 2_162,
    "stream": 28_416,
}
"""The same without the metrics of OpenTelemetry's conventions."""

NOBODY_LISTENS = {
    "tool": 45,
    "registry": 136,
    "executor": 326,
    "pipeline": 416,
    "model": 45,
    "stream": 5_140,
}
"""The same while there is no SDK and nothing is configured."""


@pytest.fixture(scope="module")
def steps() -> Counts:
    return counted()


@pytest.mark.parametrize("call", WITH_US)
def test_a_call_takes_no_more_steps_than_it_did(steps: Counts, call: str) -> None:
    assert 0 < steps[call]["on"] <= MARGIN * WITH_US[call]


@pytest.fixture(scope="module")
def steps_without() -> Counts:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VICTOR_OTEL_GENAI", "off")
        return counted()


@pytest.mark.parametrize("call", WITHOUT_GENAI)
def test_what_is_switched_off_takes_no_steps(steps_without: Counts, call: str) -> None:
    assert 0 < steps_without[call]["on"] <= MARGIN * WITHOUT_GENAI[call]


@pytest.mark.parametrize("call", NOBODY_LISTENS)
def test_a_call_that_nobody_hears_takes_next_to_nothing(steps: Counts, call: str) -> None:
    assert steps[call]["nobody"] <= MARGIN * NOBODY_LISTENS[call]


def test_a_stream_costs_little_more_for_each_item(steps: Counts) -> None:
    """What a stream of no items costs is about what a model call does."""
    per_item = (steps["stream"]["on"] - steps["model"]["on"]) / ITEMS
    assert per_item <= MARGIN * (WITH_US["stream"] - WITH_US["model"]) / ITEMS
