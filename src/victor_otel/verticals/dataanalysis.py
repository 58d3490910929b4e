"""Data analysis: the SQL that Victor executed, and what it brought back.

Victor answers a failed query with a dictionary, not with an exception, and a query that it
never executed as well: without a connection, without a statement, or a modification that
was not allowed. Those are no queries, nor is what it asks for a list of tables. A failure is
one in Victor's word: rows that it cannot show are one. Without a result set there is no size.
"""

from __future__ import annotations

from typing import Any, cast

from victor_otel import labels
from victor_otel.spec import Area, Call, Hook, Kind, Metric, Record, Scope, mapping

QUERIES = Metric(
    name="victor.dataanalysis.queries",
    kind=Kind.COUNTER,
    meaning="SQL statements executed by the database tools, of any kind",
    labels=(labels.STATUS,),
    guide=True,
)
QUERY_DURATION = Metric(
    name="victor.dataanalysis.query.duration",
    kind=Kind.HISTOGRAM,
    unit="s",
    meaning="Execution of a statement and fetching its rows, as Victor's tool takes for it",
    labels=(labels.STATUS,),
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
    guide=True,
)
DATA_SIZE = Metric(
    name="victor.dataanalysis.data_size",
    kind=Kind.HISTOGRAM,
    unit="By",
    meaning="Values in the rows that a query returned: text as UTF-8, binary data as it is, "
    "nothing for NULL, 8 bytes for anything else; estimated above 10,000 values",
    buckets=tuple(float(1024 * 4**power) for power in range(11)),
    guide=True,
)
VISUALIZATIONS = Metric(
    name="victor.dataanalysis.visualizations",
    kind=Kind.COUNTER,
    meaning="Visualizations created, as the application says",
    guide=True,
)

MAX_VALUES = 10_000
"""Values looked at for one size; of more, evenly spaced rows stand for all."""

QUERY = Scope(name="query", outermost=True)


def observe_query(call: Call, record: Record) -> None:
    _record_query(call, _status(call), record)
    rows = mapping(call.result).get("rows")
    if isinstance(rows, list):
        record(DATA_SIZE, size(cast("list[Any]", rows)))


def observe_shell_query(call: Call, record: Record) -> None:
    """A query without a connection, by the `sqlite3` program: its text is no rows."""
    shell = call.last_part("shell")
    _record_query(call, "" if shell is None else shell.digest, record)


def _record_query(call: Call, status: str, record: Record) -> None:
    if status:
        record(QUERIES, status=status)
        record(QUERY_DURATION, call.elapsed, status=status)


def _status(call: Call) -> str:
    """Empty for a statement that was not executed."""
    answer = mapping(call.result)
    if call.error is not None or answer.get("success"):
        return call.status
    return "failure" if str(answer.get("error")).startswith("Query failed") else ""


def shell_status(call: Call) -> str:
    """As `_status`: the shell answers -1 for a command that it refuses or gives up on."""
    answer = mapping(call.result)
    if call.error is not None or answer.get("success"):
        return call.status
    if str(answer.get("error")).startswith("Command timed out"):
        return "timeout"
    return "" if answer.get("return_code") == -1 else "failure"


def size(rows: list[Any]) -> float:
    """The bytes of the values in `rows`, which are dictionaries."""
    if not rows:
        return 0
    step = -(-len(rows) * len(rows[0]) // MAX_VALUES) or 1
    sample = rows[::step]
    return sum(_bytes(value) for row in sample for value in row.values()) * len(rows) / len(sample)


def _bytes(value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode())
    if isinstance(value, (bytes, bytearray, memoryview)):
        return len(cast("bytes", value))
    return 8


_FEEDS = (QUERIES, QUERY_DURATION)

AREA = Area(
    name="dataanalysis",
    metrics=(QUERIES, QUERY_DURATION, DATA_SIZE, VISUALIZATIONS),
    hooks=(
        # Both `database` and `db` end here, whichever way they are called.
        Hook(
            target="victor.tools.database_tool:_do_query",
            scope=QUERY,
            observe=observe_query,
            feeds=(*_FEEDS, DATA_SIZE),
        ),
        # Except `db query` without `--connection`, which the default shell policy refuses.
        Hook(
            target="victor.tools.unified.db_tool:_shell_sql",
            scope=QUERY,
            observe=observe_shell_query,
            feeds=_FEEDS,
        ),
        Hook(target="victor.tools.bash:shell", part="shell", of=QUERY, digest=shell_status),
    ),
)
