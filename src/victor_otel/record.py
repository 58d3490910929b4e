"""Values that only the application knows.

    from victor_otel import record

    record.search_accuracy(relevant=4, retrieved=5)
    record.feature("nightly_report")
    with record.synthesis():
        write_the_summary()

They are exported on the same routes as Victor's metrics; docs/metrics.md says what they mean.
While the instrumentation is off, every function does nothing: Victor switches it on with its first
work, `victor_otel.start()` earlier. A value that cannot be true is dropped, counted and logged
once; with `VICTOR_OTEL_STRICT=true` it raises `ValueError`.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from time import perf_counter

from victor_otel.intake import take
from victor_otel.victor import shared
from victor_otel.victor.areas import memory, security, skills
from victor_otel.victor.verticals import dataanalysis, rag, research

__all__ = [
    "feature",
    "proficiency",
    "recall_accuracy",
    "search_accuracy",
    "security_tests",
    "synthesis",
    "synthesis_time",
    "visualization",
]


def search_accuracy(relevant: int, retrieved: int) -> None:
    """Records how many of the passages that a search returned were relevant.

    `victor_rag_search_accuracy` is the number of relevant passages divided by the number of
    retrieved ones, over five minutes. A search that returned nothing changes nothing.
    """
    take("record.search_accuracy", rag.SEARCH_ACCURACY, relevant, retrieved)


def recall_accuracy(accurate: int, recalled: int, *, memory_type: str) -> None:
    """Records how many of the recalled memories were right.

    `victor_memory_recall_accuracy`, by type of memory, over five minutes; outcomes that
    Victor records itself are part of it.
    """
    where = "record.recall_accuracy"
    take(where, memory.RECALL_ACCURACY, accurate, recalled, memory_type=memory_type)


def proficiency(skill: str, score: float) -> None:
    """Records the proficiency in a skill, from 0 to 1: `victor_proficiency_score`."""
    take("record.proficiency", skills.PROFICIENCY, score, 1, skill=skill)


def security_tests(passed: int, total: int) -> None:
    """Records the result of a complete run of security tests.

    `victor_security_test_pass_rate` shows the share that passed until the next run.
    """
    take("record.security_tests", security.TEST_PASS_RATE, passed, total)


def visualization(count: int = 1) -> None:
    """Counts visualizations that were created: `victor_dataanalysis_visualizations_total`."""
    take("record.visualization", dataanalysis.VISUALIZATIONS, count)


def synthesis_time(seconds: float) -> None:
    """Records the duration of a synthesis: `victor_research_synthesis_duration_seconds`.

    Do not use it for a synthesis by Victor itself, which is already measured.
    """
    take("record.synthesis_time", research.SYNTHESIS_DURATION, seconds)


@contextmanager
def synthesis() -> Generator[None]:
    """Measures a synthesis that ends without an exception, and records its duration."""
    started = perf_counter()
    yield
    synthesis_time(perf_counter() - started)


def feature(name: str) -> None:
    """Counts a use of a feature of the application: `victor_feature_usage_total`.

    At most 50 names are kept, including Victor's own; further names become `other`.
    """
    take("record.feature", shared.FEATURES, feature=name)
