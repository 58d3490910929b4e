"""An application that sets up OpenTelemetry itself. Victor's numbers follow its rules."""

from __future__ import annotations

import asyncio
import os

from opentelemetry import metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.view import (
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    View,
)
from opentelemetry.sdk.resources import Resource
from prometheus_client import start_http_server
from victor.framework import Agent

VIEWS = [
    # Other buckets: what matters here is whether an answer takes a minute, or five.
    View(
        instrument_name="victor.chat.request.duration",
        aggregation=ExplicitBucketHistogramAggregation([60, 300]),
    ),
    # Fewer labels: neither vertical nor mode.
    View(instrument_name="victor.tool.executions", attribute_keys={"tool", "status"}),
    # Not wanted at all.
    View(instrument_name="victor.provider.*", aggregation=DropAggregation()),
]


def set_up_metrics() -> None:
    """Before the first agent is created: from then on there is a provider to find."""
    start_http_server(int(os.environ.get("ACME_METRICS_PORT", "9464")), "127.0.0.1")
    provider = MeterProvider(
        [PrometheusMetricReader(scope_info_enabled=False)],
        resource=Resource.create({"service.name": "acme-assistant"}),
        views=VIEWS,
    )
    metrics.set_meter_provider(provider)


async def main() -> None:
    set_up_metrics()
    asked = metrics.get_meter("acme").create_counter("acme.questions", description="Asked")
    agent = await Agent.create()
    while True:
        asked.add(1)
        result = await agent.run("List the files here and tell me what is new.")
        print(result.content)
        await asyncio.sleep(600)


if __name__ == "__main__":
    asyncio.run(main())
