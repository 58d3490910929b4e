"""Provider calls: Victor's own transport to a scripted model, and its retries around any provider."""

from __future__ import annotations

import asyncio
import contextlib
from time import perf_counter
from typing import Any

from tests.kit.agents import model
from tests.kit.providers import ask, openai, own, refused_key, resilient, response
from tests.scenarios.scenario import Count, Scenario
from victor_otel.demo.script import Step, ToolCall, Usage
from victor_otel.victor import shared
from victor_otel.victor.areas import genai, providers


def _ended(
    count: Count, status: str, *, who: tuple[str, str], tool_calls: bool = False, error: str = ""
) -> None:
    """One call ended so; `who` is its provider and its model."""
    provider, name = who
    labels = {"provider": provider, "model": name, "status": status}
    held = "true" if tool_calls else "false"
    count.add("victor_provider_requests_total", tool_calls=held, **labels)
    count.add("victor_provider_latency_seconds_count", **labels)
    if status != "cancelled":
        good = status == "success"
        count.ratio("victor_provider_success_rate", good, 1, provider=provider, model=name)
        count.set("victor_provider_up", good, provider=provider)
    if error:
        count.add("victor_errors_total", component="provider", error_type=error)


async def answers(count: Count) -> None:
    """Whole and streamed answers with and without tool calls, of two models."""
    delay = 0.5
    steps = [
        Step("Hi.", usage=Usage(prompt=20, completion=5, cached=8), delay=delay),
        Step(calls=(ToolCall("x"),), usage=Usage(prompt=9, completion=4)),
    ]
    with model(small=steps, large=steps) as served:
        for name, stream in (("small", False), ("large", True)):
            labels = {"provider": "openai", "model": name}
            latency = {"status": "success", **labels}
            provider = openai(served.url)
            for step in steps:
                began = perf_counter()
                await ask(provider, name, stream=stream)
                took = perf_counter() - began
                _ended(count, "success", who=("openai", name), tool_calls=bool(step.calls))
                count.add("victor_provider_latency_seconds_sum", took, within=0.1, **latency)
                for kind, tokens in (
                    ("input", step.usage.prompt),
                    ("output", step.usage.completion),
                    ("cache_read", step.usage.cached),
                ):
                    count.add("victor_provider_tokens_total", tokens, type=kind, **labels)
    first = "victor_provider_time_to_first_token_seconds"
    count.add(f"{first}_count", provider="openai", model="large")
    count.add(f"{first}_sum", delay, within=0.2, provider="openai", model="large")
    count.add(f"{first}_bucket", 0, provider="openai", model="large", le="0.25")
    count.add(f"{first}_bucket", provider="openai", model="large", le="2.5")
    # Its second stream has a chunk as well, but no content.
    chunk = "gen_ai_client_inference_time_to_first_chunk_seconds_count"
    who = {"gen_ai_provider_name": "openai", "gen_ai_request_model": "large"}
    count.add(chunk, len(steps), gen_ai_operation_name="chat", **who)


async def thoughts(count: Count) -> None:
    """Answers with tokens that were reasoned, and with prompts that were written to a cache."""
    usage = {
        "prompt_tokens": 90,
        "completion_tokens": 40,
        "cache_creation_input_tokens": 60,
        "reasoning_tokens": 25,
    }

    async def chat(self: Any, messages: Any, *, model: str, **_: Any) -> Any:
        return response(usage=usage)

    provider = own(chat=chat)
    for _ in range(2):
        await provider.chat([], model="deep")
        _ended(count, "success", who=("own", "deep"))
        for kind, tokens in (("input", 90), ("output", 40), ("cache_write", 60), ("reasoning", 25)):
            labels = {"provider": "own", "model": "deep", "type": kind}
            count.add("victor_provider_tokens_total", tokens, **labels)


async def troubles(count: Count) -> None:
    """What a provider can do to its caller, ending with a success and with an outage."""
    from victor.core.errors import ProviderError

    scripts = {
        "busy": [Step(status=500), Step(status=500), Step("Hi.")],
        "limited": [Step(status=429), Step(status=429), Step("Hi.")],
        "refusing": [Step(status=401)],
        "slow": [Step("Late.", delay=5)],
        "silent": [Step(silent=True)],
    }
    with model(**scripts) as served:

        async def call(name: str, status: str, error: str = "", **options: Any) -> None:
            if status == "success":
                await ask(openai(served.url, **options), name)
                tokens = {"provider": "openai", "model": name}
                count.add("victor_provider_tokens_total", 11, type="input", **tokens)
                count.add("victor_provider_tokens_total", 7, type="output", **tokens)
            else:
                with contextlib.suppress(ProviderError):
                    await ask(openai(served.url, **options), name)
                    raise AssertionError(name)
            _ended(count, status, who=("openai", name), error=error)

        await call("busy", "success", max_retries=2)
        count.add("victor_provider_retries_total", 2, provider="openai")
        for _ in range(2):
            await call("limited", "failure", "provider_rate_limit")
            count.add("victor_provider_rate_limits_total", provider="openai")
        await call("limited", "success")
        await call("slow", "timeout", "ProviderTimeoutError", timeout=1)
        await call("refusing", "failure", "provider_auth")
        cancelled = asyncio.create_task(ask(openai(served.url), "silent"))
        assert await asyncio.to_thread(served.wait_for_request, "silent", 1)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        _ended(count, "cancelled", who=("openai", "silent"))
        assert served.requests("busy") == served.requests("limited") == 3


async def resilience(count: Count) -> None:
    """Victor's retries and fallbacks around providers of an application's own."""
    from victor.core.errors import ProviderConnectionError

    lost = ProviderConnectionError("connection error", provider="own")
    await resilient(own(lost, lost)).chat([], model="m")
    count.add("victor_provider_retries_total", 2, provider="own")
    await resilient(own(refused_key()), own(name="spare")).chat([], model="m")
    for status, error, times in (
        ("success", "", 1),
        ("failure", "provider_connection", 2),
        ("failure", "provider_auth", 1),
    ):
        for _ in range(times):
            _ended(count, status, who=("own", "m"), error=error)
    _ended(count, "success", who=("spare", "m"))


_CALLS = (
    providers.LATENCY,
    providers.REQUESTS,
    providers.SUCCESS_RATE,
    providers.UP,
)

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        run=answers,
        proves=(*_CALLS, providers.TIME_TO_FIRST_TOKEN, providers.TOKENS, genai.FIRST_CHUNK),
    ),
    Scenario(run=thoughts, proves=(*_CALLS, providers.TOKENS)),
    Scenario(
        run=troubles,
        proves=(
            *_CALLS,
            providers.RATE_LIMITS,
            providers.RETRIES,
            providers.TOKENS,
            shared.ERRORS,
        ),
    ),
    Scenario(run=resilience, proves=(*_CALLS, providers.RETRIES, shared.ERRORS)),
)
