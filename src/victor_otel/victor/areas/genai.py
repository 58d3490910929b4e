"""GenAI: OpenTelemetry's own names for calls to models, tools and agents.

They count the same operations as `victor_*`, so each call is one count in either vocabulary.
`VICTOR_OTEL_GENAI` says which version of the conventions is recorded: `0.1` (v0.1.0, the default),
`1.41` (its two metrics are the last ones here), both, or `off`. They call the duration of a call to
a model by a name that the other one has for operations on memories. What did not fail has no
`error.type`; in PromQL that is `error_type=""`.

What is left out, and why, is in docs/genai.md.
"""

from __future__ import annotations

from victor_otel.model import semconv
from victor_otel.model.metric import Counter, Histogram
from victor_otel.model.rows import Area, Feeds, Tells
from victor_otel.victor import labels
from victor_otel.victor.operations import (
    CHAT_TURN,
    MEMORY,
    PROVIDER_CALL,
    TEAM_RUN,
    TOOL_CALL,
    WORKFLOW_RUN,
)

_INFERENCE = (labels.GENAI_OPERATION, labels.GENAI_PROVIDER, labels.GENAI_MODEL)
_USED = (*_INFERENCE, labels.GENAI_MODALITY)

INFERENCE_DURATION = Histogram(
    semconv.INFERENCE_DURATION,
    "Duration of a call to a model, all retries included; of a stream, until its end",
    unit="s",
    labels=(*_INFERENCE, labels.GENAI_ERROR),
    buckets=semconv.SECONDS,
)
FIRST_CHUNK = Histogram(
    semconv.INFERENCE_FIRST_CHUNK,
    "Time from the first read of a stream to its first chunk, which may hold no content",
    unit="s",
    labels=_INFERENCE,
    buckets=semconv.SECONDS,
)
INPUT = Histogram(
    semconv.INFERENCE_INPUT,
    "Input tokens of a call to a model, cached ones included; 0 where the provider reported none",
    unit="{token}",
    labels=(*_INFERENCE, labels.GENAI_ERROR),
    buckets=semconv.TOKENS,
)
OUTPUT = Histogram(
    semconv.INFERENCE_OUTPUT,
    "Output tokens of a call to a model, reasoning included; 0 where the provider reported none",
    unit="{token}",
    labels=(*_INFERENCE, labels.GENAI_ERROR),
    buckets=semconv.TOKENS,
)
USED_INPUT = Counter(
    semconv.USED_INPUT,
    "Input tokens that providers reported, cached ones included",
    unit="{token}",
    labels=_USED,
)
USED_OUTPUT = Counter(
    semconv.USED_OUTPUT,
    "Output tokens that providers reported, reasoning included",
    unit="{token}",
    labels=_USED,
)
CACHE_READ = Counter(
    semconv.USED_CACHE_READ,
    "Input tokens that were read from a provider's cache",
    unit="{token}",
    labels=_USED,
)
CACHE_WRITE = Counter(
    semconv.USED_CACHE_WRITE,
    "Input tokens that were written to a provider's cache",
    unit="{token}",
    labels=_USED,
)
REASONING = Counter(
    semconv.USED_REASONING,
    "Output tokens that were spent on reasoning",
    unit="{token}",
    labels=_USED,
)
TOOL_DURATION = Histogram(
    semconv.TOOL_DURATION,
    "Duration of a tool execution, including its retries, without waiting for a human",
    unit="s",
    labels=(labels.GENAI_TOOL, labels.GENAI_TOOL_TYPE, labels.GENAI_AGENT, labels.GENAI_ERROR),
    buckets=semconv.SECONDS,
)
AGENT_DURATION = Histogram(
    semconv.AGENT_DURATION,
    "Duration of a chat turn, or of the run of a team or workflow; nested ones count by themselves",
    unit="s",
    labels=(labels.GENAI_OPERATION, labels.GENAI_AGENT, labels.GENAI_ERROR),
    buckets=semconv.AGENT_SECONDS,
)
INFERENCE_CALLS = Histogram(
    semconv.AGENT_INFERENCE_CALLS,
    "Calls to models in a chat turn; those of a sub-agent belong to its own turns",
    unit="{inference_call}",
    labels=(labels.GENAI_AGENT,),
    buckets=semconv.CALLS,
)
TOOL_CALLS = Histogram(
    semconv.AGENT_TOOL_CALLS,
    "Tool calls in a chat turn whose tool ran; those of a sub-agent belong to its own turns",
    unit="{tool_call}",
    labels=(labels.GENAI_AGENT,),
    buckets=semconv.CALLS,
)
OPERATION_DURATION = Histogram(
    semconv.OPERATION_DURATION,
    "Duration of an operation on the memories of an agent; of a call to a model, where v1.41 of "
    "the conventions is followed",
    unit="s",
    labels=(
        labels.GENAI_OPERATION,
        labels.GENAI_OWN_PROVIDER,
        labels.GENAI_MODEL,
        labels.GENAI_ERROR,
    ),
    buckets=semconv.SECONDS,
)
OLD_TOKENS = Histogram(
    semconv.OLD_TOKENS,
    "Tokens of a call to a model, by the name of v1.41 of the conventions",
    unit="{token}",
    labels=(*_INFERENCE, labels.GENAI_TOKEN_TYPE),
    buckets=semconv.TOKENS,
)

_NO_MODEL = {semconv.PROVIDER_NAME: "", semconv.REQUEST_MODEL: ""}
_CHAT = {semconv.OPERATION_NAME: "chat"}
_UNKNOWN = {**_CHAT, semconv.MODALITY: "unknown"}
_FUNCTION = {semconv.TOOL_TYPE: "function"}
_AGENT = {semconv.OPERATION_NAME: "invoke_agent"}
_WORKFLOW = {semconv.OPERATION_NAME: "invoke_workflow"}

OLD = (
    Feeds(PROVIDER_CALL, OPERATION_DURATION, value="elapsed", labels=_CHAT),
    *(
        Feeds(PROVIDER_CALL, OLD_TOKENS, value=kind, labels={**_CHAT, semconv.OLD_TYPE: kind})
        for kind in labels.GENAI_TOKEN_TYPE.values
    ),
)
"""What feeds a metric by the names of v1.41."""

AREA = Area(
    name="genai",
    metrics=(
        INFERENCE_DURATION,
        FIRST_CHUNK,
        USED_INPUT,
        USED_OUTPUT,
        CACHE_READ,
        CACHE_WRITE,
        REASONING,
        INPUT,
        OUTPUT,
        TOOL_DURATION,
        AGENT_DURATION,
        INFERENCE_CALLS,
        TOOL_CALLS,
        OPERATION_DURATION,
        OLD_TOKENS,
    ),
    rows=(
        Feeds(PROVIDER_CALL, INFERENCE_DURATION, value="elapsed", labels=_CHAT),
        Feeds(PROVIDER_CALL, FIRST_CHUNK, value="first_chunk", labels=_CHAT),
        Feeds(PROVIDER_CALL, USED_INPUT, value="input_used", labels=_UNKNOWN),
        Feeds(PROVIDER_CALL, USED_OUTPUT, value="output_used", labels=_UNKNOWN),
        Feeds(PROVIDER_CALL, CACHE_READ, value="cache_read", labels=_UNKNOWN),
        Feeds(PROVIDER_CALL, CACHE_WRITE, value="cache_write", labels=_UNKNOWN),
        Feeds(PROVIDER_CALL, REASONING, value="reasoning", labels=_UNKNOWN),
        Feeds(PROVIDER_CALL, INPUT, value="input_used", labels=_CHAT),
        Feeds(PROVIDER_CALL, OUTPUT, value="output_used", labels=_CHAT),
        Feeds(TOOL_CALL, TOOL_DURATION, when="ran", value="seconds", labels=_FUNCTION),
        Tells(CHAT_TURN, "tool", TOOL_CALL, read=lambda call: call.ran),
        Feeds(CHAT_TURN, AGENT_DURATION, value="seconds", labels=_AGENT),
        Feeds(TEAM_RUN, AGENT_DURATION, value="seconds", labels=_WORKFLOW),
        Feeds(WORKFLOW_RUN, AGENT_DURATION, value="seconds", labels=_WORKFLOW),
        Feeds(CHAT_TURN, INFERENCE_CALLS, value="inference_calls"),
        Feeds(CHAT_TURN, TOOL_CALLS, value="tool_calls"),
        Feeds(MEMORY, OPERATION_DURATION, when="operation_name", value="elapsed", labels=_NO_MODEL),
        *OLD,
    ),
)
