"""Every area, concatenated: what documentation, tests and tools are checked against."""

from __future__ import annotations

from typing import Protocol

from victor_otel import health, shared
from victor_otel.areas import (
    agents,
    caches,
    chat,
    components,
    events,
    features,
    interfaces,
    memory,
    planning,
    process,
    providers,
    security,
    sessions,
    skills,
    tools,
    workflows,
)
from victor_otel.spec import Area, Hook, Metric
from victor_otel.verticals import coding, dataanalysis, devops, rag, research

AREAS: tuple[Area, ...] = (
    agents.AREA,
    interfaces.AREA,
    chat.AREA,
    tools.AREA,
    providers.AREA,
    workflows.AREA,
    planning.AREA,
    memory.AREA,
    skills.AREA,
    coding.AREA,
    rag.AREA,
    devops.AREA,
    dataanalysis.AREA,
    research.AREA,
    security.AREA,
    features.AREA,
    caches.AREA,
    components.AREA,
    events.AREA,
    sessions.AREA,
    process.AREA,
    Area(name="shared", metrics=shared.METRICS),
    health.AREA,
)
METRICS: tuple[Metric, ...] = tuple(metric for area in AREAS for metric in area.metrics)
HOOKS: tuple[Hook, ...] = tuple(hook for area in AREAS for hook in area.hooks)


class Dated(Protocol):
    """What exists from version `since` on and before `until`, where they are not empty."""

    @property
    def since(self) -> str: ...
    @property
    def until(self) -> str: ...


def applies(dated: Dated, version: str | None) -> bool:
    """Whether a version of Victor is expected to have it."""
    if version is None:
        return True
    ours = release(version)
    return (not dated.since or ours >= release(dated.since)) and (
        not dated.until or ours < release(dated.until)
    )


def release(version: str) -> tuple[int, ...]:
    """The release numbers of a version; what follows them (rc1, .dev0, +local.1) is left out."""
    numbers: list[int] = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if digits:
            numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)
