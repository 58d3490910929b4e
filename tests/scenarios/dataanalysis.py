"""Data analysis: SQL on a real SQLite file, by every way that Victor offers."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

from tests.scenarios.scenario import Count, Scenario
from victor_otel import record
from victor_otel.victor.verticals.dataanalysis import (
    DATA_SIZE,
    QUERIES,
    QUERY_DURATION,
    VISUALIZATIONS,
)

CITIES: Sequence[tuple[str, int | None]] = (
    ("Oslo", 709_000),
    ("Malmö", 362_000),
    ("東京", 14_000_000),
    ("Atlantis", None),
)
EIGHT = 8
"""Bytes of a number."""


def write_cities() -> None:
    with contextlib.closing(sqlite3.connect("cities.db")) as database, database:
        database.execute("create table cities (name text, people integer)")
        database.executemany("insert into cities values (?, ?)", CITIES)
        database.execute("create table letters (one text, two text)")
        database.executemany("insert into letters values (?, ?)", [("ab", "cd")] * 6_000)


def bytes_of(rows: Sequence[tuple[str, int | None]]) -> int:
    return sum(len(name.encode()) + (0 if people is None else EIGHT) for name, people in rows)


class Queries:
    """Counts what was asked for, by what the answer must be."""

    def __init__(self, count: Count) -> None:
        self._count = count

    def ended(self, status: str) -> None:
        self._count.add("victor_dataanalysis_queries_total", status=status)
        self._count.add("victor_dataanalysis_query_duration_seconds_count", status=status)

    def returned(self, size: int) -> None:
        self.ended("success")
        self._count.add("victor_dataanalysis_data_size_bytes_count")
        self._count.add("victor_dataanalysis_data_size_bytes_sum", size)


@contextlib.asynccontextmanager
async def connected() -> Any:
    """A connection of the `database` tool's, by its number."""
    from victor.tools.database_tool import DatabaseConnection, database

    opened = await database("connect", DatabaseConnection(database="cities.db"))
    number = opened["connection_id"]
    try:
        yield number
    finally:
        assert (await database("disconnect", connection_id=number))["success"]


async def sql(count: Count) -> None:
    """Queries that succeed and fail, as code, an agent's tool and the `db` command put them."""
    write_cities()
    queries = Queries(count)
    async with connected() as number:
        await write(number, queries)
        await read(number, queries)
        await by_tools(number, queries)
        await fail(number, queries)
        await look_around(number)


async def write(number: str, queries: Queries) -> None:
    """Statements that return no rows have no size."""
    from victor.tools.database_tool import database
    from victor.tools.unified.db_tool import db_tool

    for statement in (
        "create table visits (city text)",
        "insert into visits values ('Oslo'), ('Oslo')",
        "update visits set city = 'Bergen'",
        "drop table visits",
    ):
        answer = await database(
            "query", connection_id=number, sql=statement, allow_modifications=True
        )
        assert answer["success"], answer
        queries.ended("success")
    command = f"db query \"delete from letters where one = 'x'\" --connection {number} --write"
    assert "rows_affected" in await db_tool(command)
    queries.ended("success")


async def read(number: str, queries: Queries) -> None:
    from victor.tools.database_tool import database

    async def ask(sql: str, **options: Any) -> Any:
        answer = await database("query", connection_id=number, sql=sql, **options)
        assert answer["success"], answer
        return answer

    assert (await ask("select * from cities"))["count"] == len(CITIES)
    queries.returned(bytes_of(CITIES))
    assert (await ask("select * from cities order by rowid", limit=2))["limited"]
    queries.returned(bytes_of(CITIES[:2]))
    assert (await ask("select * from cities where people = 1"))["count"] == 0
    queries.returned(0)
    # By default Victor returns the first hundred rows.
    assert (await ask("select * from letters"))["count"] == 100
    queries.returned(100 * len("abcd"))
    # More values than are looked at.
    assert (await ask("select * from letters", limit=6_000))["count"] == 6_000
    queries.returned(6_000 * len("abcd"))
    # No table, and rows all the same.
    assert (await ask("pragma user_version"))["rows"] == [{"user_version": 0}]
    queries.returned(EIGHT)
    assert (await ask("with t(x) as (select 1.5) select x, null from t"))["count"] == 1
    queries.returned(EIGHT)


async def by_tools(number: str, queries: Queries) -> None:
    """As an agent, a workflow and an MCP client call tools."""
    from victor.tools.database_tool import database
    from victor.tools.registry import ToolRegistry
    from victor.tools.unified.db_tool import db_tool

    # Both are called "db".
    registries = [ToolRegistry(), ToolRegistry()]
    for registry, tool in zip(registries, (database, db_tool), strict=True):
        registry.register(tool.Tool)
    size = bytes_of(CITIES[:1])
    query = {"action": "query", "connection_id": number, "sql": "select * from cities", "limit": 1}
    command = f'db query "select * from cities" --connection {number} --limit 1'

    assert (await database.Tool.execute({}, **query)).success
    queries.returned(size)
    assert (await registries[0].execute("db", {}, **query)).success
    queries.returned(size)
    assert "Oslo" in await db_tool(command)
    queries.returned(size)
    assert "Oslo" in (await registries[1].execute("db", {}, cmd=command)).output
    queries.returned(size)


async def fail(number: str, queries: Queries) -> None:
    from victor.tools.database_tool import database
    from victor.tools.unified.db_tool import db_tool

    # The last is executed, but Victor cannot show binary data and calls that a failed query.
    for wrong in ("select * from nowhere", "selekt 1", "select 1; select 2", "select x'00ff'"):
        assert not (await database("query", connection_id=number, sql=wrong))["success"]
        queries.ended("failure")
    assert "no such table" in await db_tool(f'db query "select * from x" --connection {number}')
    queries.ended("failure")
    # Never executed, so no queries: not allowed, nowhere to ask, nothing asked.
    for refused in (
        {"connection_id": number, "sql": "delete from cities"},
        {"connection_id": number, "sql": "drop table cities"},
        {"connection_id": "sqlite_0", "sql": "select 1"},
        {"sql": "select 1"},
        {"connection_id": number},
    ):
        assert not (await database("query", **refused))["success"]


async def look_around(number: str) -> None:
    """What Victor asks the database for its own use is no query of anybody's."""
    from victor.tools.database_tool import database

    assert (await database("tables", connection_id=number))["count"] == 2
    assert (await database("schema", connection_id=number))["success"]
    assert (await database("describe", connection_id=number, table="cities"))["count"] == 2


@contextlib.contextmanager
def shell_policy(profile: str) -> Iterator[None]:
    from victor.security import shell_safety_policy as policy

    token = policy.set_shell_safety_policy(policy.policy_for_profile(profile))
    try:
        yield
    finally:
        policy.reset_shell_safety_policy(token)


async def sql_without_a_connection(count: Count) -> None:
    """`db query` alone runs `sqlite3` in a shell, unless the shell's policy refuses it."""
    from victor.tools.unified.db_tool import db_tool

    write_cities()
    queries = Queries(count)
    there = shutil.which("sqlite3") is not None
    question = 'db query "select name from cities limit 1" --database cities.db'
    with shell_policy("legacy"):
        assert "not allowed" in await db_tool(question)
    with shell_policy("strict"):
        assert ("Oslo" in await db_tool(question)) is there
        queries.ended("success" if there else "failure")
        assert "ERROR" in await db_tool('db query "select * from nowhere" --database cities.db')
        queries.ended("failure")


async def visualizations(count: Count) -> None:
    """Only the application knows what it drew."""
    record.visualization()
    record.visualization(3)
    count.add("victor_dataanalysis_visualizations_total", 1 + 3)


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(run=sql, proves=(QUERIES, QUERY_DURATION, DATA_SIZE)),
    Scenario(run=sql_without_a_connection, proves=(QUERIES, QUERY_DURATION)),
    Scenario(run=visualizations, proves=(VISUALIZATIONS,)),
)
