"""From what the model server answered to what the provider metrics must show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from victor_otel.demo.model import Answer

Series = tuple[str, frozenset[tuple[str, str]]]
"""A Prometheus name and its labels."""

PROVIDER = "openai"
TRANSIENT = frozenset({500, 502, 503, 504})
"""Statuses after which Victor's transport asks again inside the same call."""
ATTEMPTS = 4
"""How often it asks at most."""


def series(name: str, **labels: str) -> Series:
    return name, frozenset(labels.items())


def provider_series(answers: Iterable[Answer]) -> Counter[Series]:
    """What the provider metrics must show. A passing failure belongs to the call of the next one.

    Exact, because in the demo each model name has one agent, which makes one call at a time.
    """
    tally: Counter[Series] = Counter()
    attempts: Counter[str] = Counter()
    for answer in answers:
        attempts[answer.model] += 1
        if answer.status in TRANSIENT and attempts[answer.model] < ATTEMPTS:
            continue
        retries = attempts.pop(answer.model) - 1
        status = "cancelled" if answer.status == 0 else "success" if answer.usage else "failure"
        held = "true" if answer.tool_calls else "false"
        where = {"provider": PROVIDER, "model": answer.model}
        ended = {"status": status, **where}
        tally[series("victor_provider_requests_total", tool_calls=held, **ended)] += 1
        tally[series("victor_provider_latency_seconds_count", **ended)] += 1
        if answer.stream and answer.content:
            tally[series("victor_provider_time_to_first_token_seconds_count", **where)] += 1
        if answer.status == 401:  # noqa: PLR2004  # the only lasting failure in the scripts
            error = {"component": "provider", "error_type": "provider_auth"}
            tally[series("victor_errors_total", **error)] += 1
        if answer.usage:
            tally[series("victor_provider_retries_total", provider=PROVIDER)] += retries
            for kind, tokens in answer.usage.tokens.items():
                tally[series("victor_provider_tokens_total", type=kind, **where)] += tokens
    return tally
