"""From what the model server answered to what the provider metrics must show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from victor_otel.demo.model import Answer

Series = tuple[str, frozenset[tuple[str, str]]]
"""A Prometheus name and its labels."""

PROVIDER = "openai"
TRANSIENT = frozenset({500, 502, 503, 504})
"""Statuses after which Victor's transport asks again inside the same call."""
ATTEMPTS = 4
"""How often it asks at most."""


class Tally:
    """Series with their values; adding nothing leaves no trace."""

    def __init__(self) -> None:
        self._values: dict[Series, float] = {}

    @property
    def series(self) -> Mapping[Series, float]:
        """What was added up."""
        return dict(self._values)

    def add(self, name: str, value: float, **labels: str) -> None:
        """Add to one series."""
        if value:
            key = (name, frozenset(labels.items()))
            self._values[key] = self._values.get(key, 0) + value


@dataclass(frozen=True)
class ProviderCall:
    """One call that Victor made to its provider, with its last answer."""

    answer: Answer
    attempts: int

    @property
    def status(self) -> str:
        """How the call ended for Victor."""
        if self.answer.status == 0:
            return "cancelled"
        return "failure" if self.answer.usage is None else "success"


def provider_calls(answers: Iterable[Answer]) -> Sequence[ProviderCall]:
    """Fold the HTTP requests into calls: a passing failure belongs to the call of the next request.

    Exact, because in the demo each model name has one agent, which makes one call at a time.
    """
    calls: list[ProviderCall] = []
    attempts: dict[str, int] = {}
    for answer in answers:
        tried = attempts.pop(answer.model, 0) + 1
        if answer.status in TRANSIENT and tried < ATTEMPTS:
            attempts[answer.model] = tried
        else:
            calls.append(ProviderCall(answer, tried))
    return calls


def provider_series(tally: Tally, answers: Iterable[Answer]) -> None:
    """Add what the provider metrics must show."""
    for call in provider_calls(answers):
        answer, where = call.answer, {"provider": PROVIDER, "model": call.answer.model}
        held = "true" if answer.tool_calls else "false"
        tally.add("victor_provider_requests_total", 1, status=call.status, tool_calls=held, **where)
        tally.add("victor_provider_latency_seconds_count", 1, status=call.status, **where)
        if answer.stream and answer.content:
            tally.add("victor_provider_time_to_first_token_seconds_count", 1, **where)
        if answer.status == 401:  # noqa: PLR2004  # the only lasting failure in the scripts
            tally.add("victor_errors_total", 1, component="provider", error_type="provider_auth")
        if call.status == "success":
            tally.add("victor_provider_retries_total", call.attempts - 1, provider=PROVIDER)
        if answer.usage:
            name = "victor_provider_tokens_total"
            tally.add(name, answer.usage.prompt, type="input", **where)
            tally.add(name, answer.usage.completion, type="output", **where)
            tally.add(name, answer.usage.cached, type="cache_read", **where)
