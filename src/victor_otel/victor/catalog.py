"""Every area, concatenated: what documentation, tests and tools are checked against."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from victor_otel.model.metric import Metric, UpDown
from victor_otel.model.operation import OperationType
from victor_otel.model.rows import (
    Area,
    Begins,
    Binds,
    Carries,
    Feeds,
    Observes,
    Reports,
    Row,
    Target,
    Tells,
)
from victor_otel.victor import ourselves, shared
from victor_otel.victor.areas import (
    agents,
    caches,
    chat,
    components,
    embeddings,
    events,
    features,
    genai,
    interfaces,
    mcp,
    memory,
    planning,
    process,
    propagation,
    providers,
    retrieval,
    security,
    sessions,
    skills,
    tools,
    workflows,
)
from victor_otel.victor.supported import applies
from victor_otel.victor.verticals import coding, dataanalysis, devops, rag, research

AREAS: tuple[Area, ...] = (
    agents.AREA,
    interfaces.AREA,
    mcp.AREA,
    propagation.AREA,
    chat.AREA,
    tools.AREA,
    providers.AREA,
    workflows.AREA,
    planning.AREA,
    memory.AREA,
    embeddings.AREA,
    retrieval.AREA,
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
    shared.AREA,
    genai.AREA,
    ourselves.AREA,
)
METRICS: tuple[Metric, ...] = tuple(metric for area in AREAS for metric in area.metrics)
ROWS: tuple[Row, ...] = tuple(row for area in AREAS for row in area.rows)
TELLS: tuple[Tells, ...] = tuple(
    row for row in ROWS if isinstance(row, Tells) and isinstance(row.source, OperationType)
)
"""What finished operations tell those around them."""


_OWN = {
    row: OperationType[object](row.source.path)
    for row in ROWS
    if isinstance(row, Observes) and isinstance(row.source, Target)
}
"""The calls of an observed function are operations of a type of their own."""

OBSERVED = tuple(
    (area, row.source if isinstance(row.source, OperationType) else _OWN[row], row)
    for area in AREAS
    for row in area.rows
    if isinstance(row, Observes)
)
"""The types whose operations observers are shown."""


WrappingRow = Begins | Reports | Tells | Binds | Carries


def wrapping(area: Area) -> Iterator[WrappingRow]:
    """The rows of an area that wrap a function."""
    for row in area.rows:
        match row:
            case Begins() | Reports() | Binds() | Carries() | Tells(source=Target()):
                yield row
            case Observes(source=Target() as target):
                yield Begins(_OWN[row], target, when=row.when)
            case _:
                pass


WRAPPED: tuple[WrappingRow, ...] = tuple(row for area in AREAS for row in wrapping(area))
"""The rows that wrap a function."""

SPANS = {span.of: span for area in AREAS for span in area.spans}
"""The span of each type of operation that has one."""

IN_FLIGHT = {
    metric.of: metric for metric in METRICS if isinstance(metric, UpDown) and metric.of is not None
}
"""The types whose operations are counted while they are under way."""


def _errors() -> Iterator[Feeds]:
    """A type whose facts have an error counts it, in its component or the one that they name."""
    for kind in dict.fromkeys(row.type for row in WRAPPED if isinstance(row, Begins)):
        if kind.component or kind.has_fact("component"):
            labels = {"component": kind.component} if kind.component else {}
            yield Feeds(kind, shared.ERRORS, when="error_type", labels=labels)


FEEDS: tuple[Feeds, ...] = (*(row for area in AREAS for row in area.feeds), *_errors())
"""Which operations feed which metrics; what else does, `OBSERVED` says."""


NAMED = tuple(dict.fromkeys(row.type for row in FEEDS if "agent_name" in row.reads))
"""The types whose operations say in a metric whose work they are."""


CONVENTIONAL = tuple(metric for metric in METRICS if not metric.name.startswith("victor."))
"""The metrics by OpenTelemetry's own names, which `VICTOR_OTEL_GENAI` switches."""


def left_out(versions: Collection[str]) -> frozenset[object]:
    """What is not wanted where metrics follow these versions of the GenAI conventions.

    The rows that feed such metrics, the metrics that no other row feeds, the rows that tell for
    these alone, and the types that nobody needs the name of.
    """
    unwanted = {
        row
        for row in FEEDS
        if row.metric in CONVENTIONAL and ("1.41" if row in genai.OLD else "0.1") not in versions
    }
    wanted = [row for row in FEEDS if row not in unwanted]
    metrics = {*CONVENTIONAL} - {row.metric for row in wanted}
    if "0.1" in versions:
        metrics.difference_update(*(row.feeds for _, _, row in OBSERVED))
    tells = [row for row in genai.AREA.rows if isinstance(row, Tells)]
    named = {row.type for row in wanted if "agent_name" in row.reads}
    return frozenset(
        {
            *unwanted,
            *metrics,
            *(tells if genai.TOOL_CALLS in metrics else ()),
            *(kind for kind in NAMED if kind not in named),
        }
    )


def target_of(row: WrappingRow) -> Target:
    """The function that a row wraps."""
    target = row.source if isinstance(row, Tells) else row.target
    if not isinstance(target, Target):
        raise TypeError("a row that names a type of operation wraps no function")
    return target


def targets(version: str | None) -> Mapping[str, Sequence[WrappingRow]]:
    """The rows of each function that a version of Victor has; they share one wrapper."""
    grouped: dict[str, list[WrappingRow]] = {}
    for row in WRAPPED:
        for path, since, until in target_of(row).everywhere():
            if applies(version, since, until):
                grouped.setdefault(path, []).append(row)
    return grouped


def fed_by(rows: Sequence[WrappingRow]) -> set[Metric]:
    """The metrics that functions with these rows can move."""
    types = {row.type for row in rows if isinstance(row, Begins)}
    fed = {feeds.metric for feeds in FEEDS if feeds.type in types}
    return fed.union(
        *(row.feeds for _, kind, row in OBSERVED if kind in types),
        *(row.feeds for row in rows if isinstance(row, Reports)),
    )


_REMEMBERED = {kind for area, kind, _ in OBSERVED if area.state is not None}
"""Types of whose operations an area keeps something for later ones."""


def leave_state(rows: Iterable[WrappingRow]) -> bool:
    """Whether a call changes what later calls are counted by, though nobody listens to it."""
    return any(
        (isinstance(row, Binds) and (row.interface or row.opens or row.owns))
        or (isinstance(row, Begins) and (row.type in IN_FLIGHT or row.type in _REMEMBERED))
        for row in rows
    )
