"""Spans that are made up, and pushed to a Collector."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Mapping, Sequence

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

ERROR = Status.StatusCode.STATUS_CODE_ERROR
_IDS = itertools.count(1)


def _value(content: str | int | Sequence[str]) -> AnyValue:
    if isinstance(content, str):
        return AnyValue(string_value=content)
    if isinstance(content, int):
        return AnyValue(int_value=content)
    return AnyValue(array_value=ArrayValue(values=map(_value, content)))


def made(
    trace: int,
    name: str = "chat m",
    *,
    root: bool = False,
    seconds: float = 1,
    status: Status | None = None,
    event: Mapping[str, str] | None = None,
    **attributes: str | int | Sequence[str],
) -> Span:
    """A span; all that are no root are below it."""
    now = time.time_ns()
    span = Span(
        trace_id=trace.to_bytes(16),
        span_id=next(_IDS).to_bytes(8),
        parent_span_id=b"" if root else bytes(range(8)),
        name=name,
        start_time_unix_nano=now - int(seconds * 1e9),
        end_time_unix_nano=now,
        status=status,
        attributes=[KeyValue(key=key, value=_value(each)) for key, each in attributes.items()],
    )
    if event:
        pairs = [KeyValue(key=key, value=_value(each)) for key, each in event.items()]
        span.events.add(name="exception", attributes=pairs)
    return span


def contents(size: int) -> str:
    """A text that cannot be compressed to less than half."""
    return random.randbytes(size // 2).hex()


def body(*spans: Span) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.append(KeyValue(key="service.name", value=_value("victor")))
    resource.scope_spans.add().spans.extend(spans)
    return request


def push(url: str, *spans: Span, token: str | None = None) -> int:
    """The status that a push by HTTP gets."""
    headers = {"content-type": "application/x-protobuf"}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    content = body(*spans).SerializeToString()
    with httpx.Client(trust_env=False) as client:
        return client.post(f"{url}/v1/traces", content=content, headers=headers).status_code
