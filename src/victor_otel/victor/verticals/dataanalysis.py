"""Data analysis: the SQL statements that Victor executed, and the rows that they returned.

Victor answers a failed query with a dictionary, not with an exception. It answers a query that it
never executed in the same way: without a connection, without a statement, or when a modification
is not allowed. Such calls are not queries, and neither is Victor's own query for the list of
tables. A query is a failure if Victor says so, also when only its rows cannot be shown. A
statement without a result set has no size.
"""

from typing import Any, NamedTuple, cast

from victor_otel.model.metric import Counter, Histogram
from victor_otel.model.operation import Operation, OperationType
from victor_otel.model.rows import Area, Begins, Target, Tells
from victor_otel.victor import labels
from victor_otel.victor.values import mapping


class Query(NamedTuple):
    """A SQL statement and what came of it."""

    status: str
    """Empty for a statement that was not executed."""
    seconds: float
    size: float | None = None
    """Bytes; None without a result set."""


QUERY = OperationType("query", Query, outermost=True)

QUERIES = Counter(
    "victor.dataanalysis.queries",
    "SQL statements of any kind that the database tools executed",
    labels=(labels.STATUS,),
    guide=True,
    of=QUERY,
    when="status",
)
QUERY_DURATION = Histogram(
    "victor.dataanalysis.query.duration",
    "Duration of executing a SQL statement and fetching its rows in Victor's tool",
    unit="s",
    labels=(labels.STATUS,),
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
    guide=True,
    of=QUERY,
    when="status",
    value="seconds",
)
DATA_SIZE = Histogram(
    "victor.dataanalysis.data_size",
    "Size of the values in the rows that a query returned: text as UTF-8, binary data as "
    "it is, 0 bytes for NULL, 8 bytes for any other value; estimated above 10,000 values",
    unit="By",
    buckets=tuple(float(1024 * 4**power) for power in range(11)),
    guide=True,
    of=QUERY,
    value="size",
)
VISUALIZATIONS = Counter(
    "victor.dataanalysis.visualizations",
    "Visualizations that were created, as the application reports them",
    guide=True,
)

MAX_VALUES = 10_000
"""Values looked at for one size; of more, evenly spaced rows stand for all."""


def read_query(query: Operation) -> Query:
    rows = mapping(query.result).get("rows")
    known = size(cast("list[Any]", rows)) if isinstance(rows, list) else None
    return Query(_status(query), query.elapsed, known)


def read_shell_query(query: Operation) -> Query:
    """A query without a connection, by the `sqlite3` program: its text is no rows."""
    shell = query.last_told("shell") or ""
    return Query(query.status if shell and query.error is not None else shell, query.elapsed)


def _status(query: Operation) -> str:
    answer = mapping(query.result)
    if query.error is not None or answer.get("success"):
        return query.status
    return "failure" if str(answer.get("error")).startswith("Query failed") else ""


def shell_status(result: Any) -> str:
    """As `_status`: the shell answers -1 for a command that it refuses or gives up on."""
    answer = mapping(result)
    if answer.get("success"):
        return "success"
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


AREA = Area(
    name="dataanalysis",
    metrics=(QUERIES, QUERY_DURATION, DATA_SIZE, VISUALIZATIONS),
    rows=(
        # Both `database` and `db` end here, whichever way they are called.
        Begins(QUERY, Target("victor.tools.database_tool:_do_query"), read=read_query),
        # Except `db query` without `--connection`, which the default shell policy refuses.
        Begins(QUERY, Target("victor.tools.unified.db_tool:_shell_sql"), read=read_shell_query),
        Tells(QUERY, "shell", Target("victor.tools.bash:shell"), read=shell_status),
    ),
)
