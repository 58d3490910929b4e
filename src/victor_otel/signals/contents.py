"""What was said to models and tools: on spans, in events and for a hook, where a user wants it."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any, cast

from opentelemetry import trace

from victor_otel.model import semconv
from victor_otel.signals.settings import HOOK, Settings

logger = logging.getLogger("victor_otel")

LIMIT = 65_536
"""Characters of one attribute, unless OpenTelemetry's own variables say less or more."""
_LIMITS = ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT")
_DEPTH = 32
_CUT = "..."

Said = dict[str, Any]
"""Structures by the attribute that they go into."""


class Contents:
    """What becomes of contents: `on_spans` as JSON, `in_events` as they are, and what a hook does.

    Events go to the LoggerProvider of the application; without one they are lost.
    """

    def __init__(self, *, on_spans: bool, in_events: bool, hook: Any = None) -> None:
        self._on_spans = on_spans
        self._in_events = in_events
        self._hook = hook
        self._limit = _limit()

    def tell(
        self, span: trace.Span, attributes: Mapping[str, Any], said: Said, *, chat: bool
    ) -> None:
        """Hands on what an operation said; that of a call to a model goes into an event as well.

        `attributes` are those of the span.
        """
        event = _event(span) if chat and self._in_events else None
        if chat and self._hook is not None:
            said = _hooked(self._hook, said, span, event)
        shows = self._on_spans and span.is_recording()
        if not shows and event is None:
            return
        known = {name: value for name, value in said.items() if value not in (None, [], {})}
        texts = {name: fitted(value, self._limit) for name, value in known.items()}
        texts = {name: text for name, text in texts.items() if text}
        if shows:
            span.set_attributes(texts)
        if event is not None:
            event.attributes = {
                **attributes,
                **(event.attributes or {}),
                **{name: json.loads(text) for name, text in texts.items()},
            }
            _logger().emit(event)


def contents(settings: Settings) -> Contents | None:
    """What the environment asks for; None for nothing, as by default."""
    wanted = settings.capture
    hook = _load() if settings.completion_hook else None
    if wanted == "no_content" and hook is None:
        return None
    return Contents(
        on_spans=wanted in {"span_only", "span_and_event"},
        in_events=wanted in {"event_only", "span_and_event"},
        hook=hook,
    )


def fitted(structure: Any, limit: int) -> str:
    """A structure as JSON of so many characters at most; empty where not even its frame fits.

    Long texts are cut first, then the oldest elements of a list are left out.
    """
    length = limit
    while True:
        text = json.dumps(_plain(structure, length), ensure_ascii=False)
        if len(text) <= limit:
            return text
        if length:
            length //= 4
        elif isinstance(structure, list) and structure:
            structure = cast("list[Any]", structure)[1:]
        else:
            return ""


def _plain(value: Any, length: int, depth: int = 0) -> Any:
    """What JSON can say of a value, with no text longer than `length`."""
    if isinstance(value, str):
        return value if len(value) <= length else f"{value[:length]}{_CUT}"
    if value is None or isinstance(value, bool | int) or _is_finite(value):
        return value
    if depth == _DEPTH:
        return _CUT
    if isinstance(value, Mapping):
        named = cast("Mapping[Any, Any]", value)
        return {
            key if isinstance(key, str | int) else type(key).__name__: _plain(
                each, length, depth + 1
            )
            for key, each in named.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each, length, depth + 1) for each in cast("Iterable[Any]", value)]
    return type(value).__name__  # what it says of itself is its own code


def _is_finite(value: Any) -> bool:
    return isinstance(value, float) and value - value == 0


def _limit() -> int:
    for name in _LIMITS:
        value = os.environ.get(name, "").strip()
        if value.isdecimal():
            return int(value)
    return LIMIT


def _event(span: trace.Span) -> Any:
    from opentelemetry._logs import LogRecord, SeverityNumber

    return LogRecord(
        event_name=semconv.INFERENCE_DETAILS,
        severity_number=SeverityNumber.DEBUG,
        context=trace.set_span_in_context(span),
        attributes={},
    )


def _logger() -> Any:
    from opentelemetry._logs import get_logger

    from victor_otel.version import __version__

    return get_logger("victor_otel", __version__)


# A hook is given the types of opentelemetry-util-genai, whose interface it is.


def _load() -> Any:
    """The hook of the environment, which its own package looks up and guards."""
    try:
        from opentelemetry.util.genai.completion_hook import load_completion_hook
    except ImportError:
        logger.warning(
            "victor-otel: %s names a hook, and its interface is not installed: "
            "pip install opentelemetry-util-genai",
            HOOK.name,
        )
        return None
    hook = load_completion_hook()
    return hook if type(hook).__name__ != "_NoOpCompletionHook" else None


def _hooked(hook: Any, said: Said, span: trace.Span, event: Any) -> Said:
    """What was said, as the hook leaves it.

    An error is the caller's to count: what a hook was to edit must not be recorded without it.
    """
    from opentelemetry.util.genai import types

    parts = {
        "text": types.TextPart,
        "tool_call": types.ToolCallRequestPart,
        "tool_call_response": types.ToolCallResponsePart,
    }

    def typed(part: Mapping[str, Any]) -> Any:
        kind: Any = parts[part["type"]]
        given = {field.name: part.get(field.name) for field in dataclasses.fields(kind)}
        return kind(**given)

    def messages(kind: Any, name: str) -> list[Any]:
        return [
            kind(role=one["role"], parts=[typed(part) for part in one["parts"]])
            for one in said.get(name, ())
        ]

    tools = [
        types.FunctionToolDefinition(tool.get("name"), tool.get("description"), None)
        for tool in said.get(semconv.TOOL_DEFINITIONS, ())
    ]
    inputs = messages(types.InputMessage, semconv.INPUT_MESSAGES)
    outputs = messages(types.OutputMessage, semconv.OUTPUT_MESSAGES)
    hook.on_completion(
        inputs=inputs,
        outputs=outputs,
        system_instruction=[],
        tool_definitions=tools,
        span=span,
        log_record=event,
    )
    left = {
        semconv.INPUT_MESSAGES: inputs,
        semconv.OUTPUT_MESSAGES: outputs,
        semconv.TOOL_DEFINITIONS: tools,
    }
    return {**said, **{name: _known(values) for name, values in left.items()}}


def _known(values: Iterable[Any]) -> list[Any]:
    """As dictionaries, without fields that are not known. What a tool is given keeps its nulls."""

    def known(fields: list[tuple[str, Any]]) -> dict[str, Any]:
        return {name: value for name, value in fields if value is not None}

    return [dataclasses.asdict(value, dict_factory=known) for value in values]
