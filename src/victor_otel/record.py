"""Numbers that only the application knows.

    from victor_otel import record

    record.search_accuracy(relevant=4, retrieved=5)
    record.feature("nightly_report")
    with record.synthesis():
        write_the_summary()

They go where Victor's own numbers go, and mean what docs/metrics.md says. Without an
instrumentation every function does nothing: Victor switches it on with its first work, and
`victor_otel.start()` before that. A value that cannot be true is dropped, counted and
logged once; with `VICTOR_OTEL_STRICT=true` it is a `ValueError` here.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from time import perf_counter

from victor_otel import shared
from victor_otel.areas import memory, security, skills
from victor_otel.intake import take
from victor_otel.verticals import dataanalysis, rag, research

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
    """Says how many of the passages that a search returned were relevant.

    `victor_rag_search_accuracy` is the sum of the relevant over the sum of the retrieved,
    over five minutes. A search that returned nothing has no accuracy and changes nothing.
    """
    take("record.search_accuracy", rag.SEARCH_ACCURACY, relevant, retrieved)


def recall_accuracy(accurate: int, recalled: int, *, memory_type: str) -> None:
    """Says how many of the memories that were recalled were right.

    `victor_memory_recall_accuracy`, by type of memory, over five minutes; outcomes that
    Victor records itself are part of it.
    """
    where = "record.recall_accuracy"
    take(where, memory.RECALL_ACCURACY, accurate, recalled, memory_type=memory_type)


def proficiency(skill: str, score: float) -> None:
    """Says how well a skill is mastered now, from 0 to 1: `victor_proficiency_score`."""
    take("record.proficiency", skills.PROFICIENCY, score, 1, skill=skill)


def security_tests(passed: int, total: int) -> None:
    """Gives the result of a complete run of security tests.

    `victor_security_test_pass_rate` shows the share that passed until the next run.
    """
    take("record.security_tests", security.TEST_PASS_RATE, passed, total)


def visualization(count: int = 1) -> None:
    """Counts visualizations that were created: `victor_dataanalysis_visualizations_total`."""
    take("record.visualization", dataanalysis.VISUALIZATIONS, count)


def synthesis_time(seconds: float) -> None:
    """Gives the time that a synthesis took: `victor_research_synthesis_duration_seconds`.

    Not for what Victor synthesises itself, which is measured already.
    """
    take("record.synthesis_time", research.SYNTHESIS_DURATION, seconds)


@contextmanager
def synthesis() -> Generator[None]:
    """Measures a synthesis that ends without an exception, and gives it to `synthesis_time`."""
    started = perf_counter()
    yield
    synthesis_time(perf_counter() - started)


def feature(name: str) -> None:
    """Counts the use of a feature of the application's: `victor_feature_usage_total`.

    At most 50 names are told apart, Victor's own included; what is more becomes `other`.
    """
    take("record.feature", shared.FEATURES, feature=name)
