"""What was said to models and tools, in the shapes of the GenAI conventions.

Asked of finished operations, and only where somebody has switched contents on.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

from victor_otel.model import semconv
from victor_otel.model.operation import UNSET, Operation
from victor_otel.victor.values import attribute, mapping

Structure = Any
"""What JSON has: dictionaries, lists, texts, numbers, true, false and null."""


class Said:
    """What a streamed answer said, put together of its chunks."""

    __slots__ = ("calls", "text")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.calls: list[Any] = []

    def add(self, chunk: Any) -> None:
        content = getattr(chunk, "content", None)
        if isinstance(content, str) and content:
            self.text.append(content)
        self.calls.extend(getattr(chunk, "tool_calls", None) or ())


def inference(call: Operation) -> Mapping[str, Structure]:
    """The messages of a call to a model, what it answered, and the tools that it was offered.

    Images are left out, and the schemas of tools.
    """
    if call.stream is not None:
        said = getattr(call.stream.facts, "said", None)
        text, calls = ("".join(said.text), said.calls) if said is not None else ("", ())
    else:
        response = None if call.result is UNSET else call.result
        text, calls = attribute(response, "content"), attribute(response, "tool_calls")
    answered = [*_text(text), *map(_call, calls or ())]
    return {
        semconv.INPUT_MESSAGES: [_message(one) for one in _each(call.argument("messages"))],
        semconv.OUTPUT_MESSAGES: [{"role": "assistant", "parts": answered}] if answered else [],
        semconv.TOOL_DEFINITIONS: [_definition(tool) for tool in _each(call.argument("tools"))],
    }


def _each(value: Any) -> Iterable[Any]:
    return cast("Iterable[Any]", value) if isinstance(value, list | tuple) else ()


def _message(message: Any) -> Structure:
    role, content = attribute(message, "role"), attribute(message, "content")
    if role == "tool":
        asked = attribute(message, "tool_call_id")
        return {"role": role, "parts": [_part("tool_call_response", id=asked, response=content)]}
    calls = attribute(message, "tool_calls") or ()
    return {"role": role, "parts": [*_text(content), *map(_call, calls)]}


def _text(content: Any) -> Iterator[Structure]:
    if isinstance(content, str) and content:
        yield _part("text", content=content)


def _call(call: Any) -> Structure:
    """As Victor has it, or as its provider's own API."""
    known = mapping(call)
    named = mapping(known.get("function")) or known
    arguments = named.get("arguments")
    if isinstance(arguments, str):
        with contextlib.suppress(ValueError):  # a model may write whatever it likes
            arguments = json.loads(arguments)
    return _part("tool_call", id=known.get("id"), name=named.get("name"), arguments=arguments)


def _part(kind: str, **values: Structure) -> Structure:
    return {"type": kind, **{name: value for name, value in values.items() if value is not None}}


def _definition(tool: Any) -> Structure:
    return _part(
        "function", name=attribute(tool, "name"), description=attribute(tool, "description")
    )


def query(attribute_name: str) -> Callable[[Operation], Mapping[str, Structure]]:
    """What reads the text that is searched for, into an attribute."""
    return lambda search: {attribute_name: search.argument("query")}


def tool_output(result: Any) -> Any:
    """What a tool gave, in whatever object of Victor's; UNSET if there is none."""
    output = attribute(result, "result", UNSET)
    return attribute(result, "output", result) if output is UNSET else output


_CONTEXT = frozenset({"name", "tool_name", "context", "_exec_ctx"})
"""What Victor itself gives a tool besides the arguments of the model."""


def tool_call(call: Operation) -> Mapping[str, Structure]:
    """The arguments of a tool call, and what came of it."""
    asked = mapping(call.argument("tool_call"))
    arguments = asked.get("arguments", call.argument("arguments"))
    if arguments is None and call.argument("tool_call") is None:
        arguments = {name: value for name, value in call.kwargs.items() if name not in _CONTEXT}
    output = tool_output(call.result)
    return {
        semconv.TOOL_CALL_ARGUMENTS: arguments,
        semconv.TOOL_CALL_RESULT: None if output is UNSET else output,
    }
