"""What a dashboard is made of. Plain data: nothing here knows Grafana's JSON."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field


class Kind(enum.Enum):
    """How a panel draws what it is told."""

    LINES = "timeseries"
    STAT = "stat"
    BARS = "bargauge"
    TABLE = "table"
    HEATMAP = "heatmap"

    @property
    def latest(self) -> bool:
        """It shows the moment. Asked for the whole time, it would show the last value there was."""
        return self in {Kind.STAT, Kind.BARS, Kind.TABLE}


@dataclass(frozen=True, kw_only=True)
class Query:
    """`legend` names its series, with labels as `{{label}}`."""

    expr: str
    legend: str
    buckets: bool = False
    """Its series are those of a histogram, by `le`."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """`id` is in links to the panel: it never changes and is never used again."""

    id: int
    title: str
    says: str
    """What it shows, from what, and what its colours mean; `${...}` is a parameter of an alert."""
    queries: tuple[Query, ...]
    unit: str
    kind: Kind = Kind.LINES
    width: int = 8
    height: int = 8
    base: str = "green"
    steps: tuple[tuple[float | str, str], ...] = ()
    """From which value, or `${parameter}` of an alert, on which colour; below the first it is "
    "`base`. No value has no colour."""
    texts: Mapping[float, tuple[str, str]] = field(default_factory=dict[float, tuple[str, str]])
    """Words, and their colour, in place of values."""
    empty: str = "none in this time"
    """What stands there without data: absent is not 0."""
    alerts: tuple[str, ...] = ()
    """Alerts whose link leads here."""
    detail: tuple[str, int] | None = None
    """The dashboard and its panel that say more."""
    process: bool = False
    """Its series have job and instance: each leads to its process."""
    columns: tuple[tuple[str, str], ...] = ()
    """The columns of a table from the left: label, or Value, and heading."""
    sorted_by: str = ""
    """The heading by which a table is sorted; by the order of its rows otherwise."""
    runbooks: bool = False
    """Its column Alert leads to the runbooks."""
    stacked: bool = False
    most: float | None = None
    """The end of the scale, if there is one; of a heatmap, its darkest colour."""
    least: float = 0
    decimals: int | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    title: str
    panels: tuple[Panel, ...]
    collapsed: bool = False
    """It is shown, and asked for, when somebody opens it."""


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    uid: str
    title: str
    says: str
    refresh: str
    since: str
    variables: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def file(self) -> str:
        return f"{self.uid.removeprefix('victor-')}.json"

    @property
    def panels(self) -> tuple[Panel, ...]:
        return tuple(panel for row in self.rows for panel in row.panels)
