"""SQL: what is a query, how it ended, and how much it brought back."""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
from typing import Any

import pytest

from tests.kit.agents import Recorded, recording
from tests.scenarios.dataanalysis import connected, shell_policy, write_cities
from victor_otel import record
from victor_otel.victor.verticals import dataanalysis
from victor_otel.victor.verticals.dataanalysis import MAX_VALUES, shell_status, size

QUERIES = "victor.dataanalysis.queries"
DURATION = "victor.dataanalysis.query.duration"
SIZE = "victor.dataanalysis.data_size"
VISUALIZATIONS = "victor.dataanalysis.visualizations"
ERRORS = "victor.errors"

Points = dict[tuple[Any, ...], float]


def queries(sizes: int = 0, **statuses: float) -> Points:
    points: Points = {(SIZE,): sizes} if sizes else {}
    for status, number in statuses.items():
        for name in (QUERIES, DURATION):
            points[name, ("status", status)] = number
    return points


def seen(recorded: Recorded) -> Points:
    return recorded.points(QUERIES, DURATION, SIZE)


def sizes(recorded: Recorded) -> list[Any]:
    """The sum of all sizes."""
    data = recorded.reader.get_metrics_data()
    return [
        point.sum
        for resource in (data.resource_metrics if data is not None else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == SIZE
        for point in metric.data.data_points
    ]


async def ask(number: str, sql: Any, **options: Any) -> Any:
    from victor.tools.database_tool import database

    return await database("query", connection_id=number, sql=sql, **options)


class Driver:
    """A connection of a database driver's: gives rows as tuples, or raises."""

    def __init__(self, *rows: tuple[Any, ...], error: BaseException | None = None) -> None:
        self.rows = rows
        self.error = error
        self.description = [(f"c{place}",) for place in range(len(rows[0]) if rows else 0)]

    def cursor(self) -> Driver:
        return self

    def execute(self, _sql: str) -> None:
        if self.error is not None:
            raise self.error

    def fetchmany(self, limit: int) -> list[tuple[Any, ...]]:
        return list(self.rows[:limit])


@pytest.fixture
def cities(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_cities()


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a driver's connection known to Victor."""
    from victor.tools import database_tool

    def connect(driver: Driver) -> str:
        monkeypatch.setitem(database_tool._connections, "driver_1", driver)
        return "driver_1"

    return connect


# What a query is.


@pytest.mark.usefixtures("cities")
async def test_a_query_has_a_status_a_duration_and_a_size() -> None:
    with recording() as recorded:
        async with connected() as number:
            assert (await ask(number, "select * from cities"))["success"]
        assert seen(recorded) == queries(sizes=1, success=1)
        assert sizes(recorded) == [4 + 6 + 6 + 8 + 3 * 8]
        statuses = {dict(key[1:])["status"] for key in recorded.points(QUERIES, zeros=True)}
        assert statuses == {"success", "failure", "timeout", "cancelled"}


@pytest.mark.usefixtures("cities")
async def test_a_query_without_rows_has_the_size_0_and_a_statement_has_none() -> None:
    with recording() as recorded:
        async with connected() as number:
            assert (await ask(number, "select * from cities where people = 1"))["count"] == 0
            changed = await ask(number, "delete from cities", allow_modifications=True)
            assert changed["rows_affected"] == 4
        assert seen(recorded) == queries(sizes=1, success=2)
        assert sizes(recorded) == [0]


@pytest.mark.usefixtures("cities")
async def test_a_failed_query_is_a_failure_although_victor_does_not_raise() -> None:
    with recording() as recorded:
        async with connected() as number:
            assert not (await ask(number, "select * from nowhere"))["success"]
        assert seen(recorded) == queries(failure=1)


@pytest.mark.usefixtures("cities")
async def test_what_victor_refuses_to_execute_is_no_query() -> None:
    from victor.tools.database_tool import database

    with recording() as recorded:
        async with connected() as number:
            for sql in ("delete from cities", "drop table cities", "update cities set name = ''"):
                assert not (await ask(number, sql))["success"]
            assert not (await ask("nobody", "select 1"))["success"]
            assert not (await database("query", connection_id=number))["success"]
            assert (await database("schema", connection_id=number))["success"]
        assert seen(recorded) == {}


@pytest.mark.usefixtures("cities")
async def test_a_failed_query_of_a_tool_call_is_one_error() -> None:
    from victor.tools.database_tool import database
    from victor.tools.registry import ToolRegistry

    registry = ToolRegistry()
    registry.register(database.Tool)
    with recording() as recorded:
        async with connected() as number:
            query = {"action": "query", "connection_id": number, "sql": "select * from nowhere"}
            assert not (await registry.execute("db", {}, **query)).success
        assert seen(recorded) == queries(failure=1)
        assert sum(recorded.points(ERRORS).values()) == 1


async def test_an_interrupted_query_is_cancelled(plug: Any) -> None:
    number = plug(Driver(error=asyncio.CancelledError()))
    with recording() as recorded:
        with pytest.raises(asyncio.CancelledError):
            await ask(number, "select 1")
        assert seen(recorded) == queries(cancelled=1)


async def test_what_victor_raises_comes_through_and_is_a_failure(plug: Any) -> None:
    with recording() as recorded:
        with pytest.raises(AttributeError):
            await ask(plug(Driver((1,))), 5)
        assert seen(recorded) == queries(failure=1)


async def test_queries_at_once_are_as_many(plug: Any) -> None:
    number = plug(Driver(("a",), ("bc",)))
    with recording() as recorded:
        await asyncio.gather(*(ask(number, "select 1") for _ in range(5)))
        assert seen(recorded) == queries(sizes=5, success=5)
        assert sizes(recorded) == [5 * 3]


# Sizes.


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, 0),
        ("", 0),
        ("plain", 5),
        ("Malmö", 6),
        ("東京", 6),
        (b"\x00\xff", 2),
        (bytearray(3), 3),
        (memoryview(b"four"), 4),
        (7, 8),
        (2**70, 8),
        (True, 8),
        (1.5, 8),
        (decimal.Decimal("1.50"), 8),
        (dt.date(2000, 1, 1), 8),
        ([1, 2, 3], 8),
    ],
)
async def test_the_size_of_a_value(
    value: Any, expected: int, plug: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from victor.tools.formatters import registry

    # Victor's formatting fails on what JSON does not know.
    monkeypatch.setattr(registry, "_is_rich_formatting_enabled", lambda: False)
    number = plug(Driver((value, "x")))
    with recording() as recorded:
        assert (await ask(number, "select 1"))["rows"] == [{"c0": value, "c1": "x"}]
        assert sizes(recorded) == [expected + 1]


async def test_rows_that_victor_cannot_show_are_a_failed_query(plug: Any) -> None:
    with recording() as recorded:
        answer = await ask(plug(Driver((decimal.Decimal(1),))), "select 1")
        assert "not JSON serializable" in answer["error"]
        assert seen(recorded) == queries(failure=1)


def test_sizes_are_exact_up_to_a_number_of_values() -> None:
    rows = [{"a": "x" * (row % 7), "b": row} for row in range(MAX_VALUES // 2)]
    assert size(rows) == sum(row % 7 + 8 for row in range(MAX_VALUES // 2))


def test_of_more_values_evenly_spaced_rows_stand_for_all() -> None:
    rows = [{"a": "x" * (row // 1_000)} for row in range(10 * MAX_VALUES)]
    exact = sum(row // 1_000 for row in range(10 * MAX_VALUES))
    assert size(rows) == pytest.approx(exact, rel=0.01)


def test_no_more_values_are_looked_at_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Any] = []
    monkeypatch.setattr(dataanalysis, "_bytes", lambda value: looked.append(value) or 1)
    for rows, columns in ((3, 4_000), (25_000, 3), (MAX_VALUES, 1), (MAX_VALUES + 1, 1), (1, 20)):
        looked.clear()
        assert size([dict.fromkeys(range(columns), "x")] * rows) == rows * columns
        assert 0 < len(looked) <= MAX_VALUES


# Queries by the shell.


@pytest.mark.usefixtures("cities")
async def test_a_query_that_the_shell_refuses_is_none() -> None:
    from victor.tools.unified.db_tool import db_tool

    with recording() as recorded:
        with shell_policy("legacy"):
            assert "not allowed" in await db_tool('db query "select 1" --database cities.db')
        assert seen(recorded) == {}


@pytest.mark.usefixtures("cities")
async def test_a_query_by_the_shell_has_no_size(monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    from victor.tools.unified.db_tool import db_tool

    program = Path("sqlite3")
    program.write_text("#!/bin/sh\nexit ${SAYS:-0}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", ".:/usr/bin:/bin")
    with recording() as recorded, shell_policy("strict"):
        assert await db_tool('db query "select 1"') == "Done."
        monkeypatch.setenv("SAYS", "1")
        assert "ERROR" in await db_tool('db query "select 1"')
        assert seen(recorded) == queries(success=1, failure=1)


async def test_shell_commands_are_no_queries() -> None:
    from victor.tools.bash import shell

    with recording() as recorded:
        assert (await shell(cmd="echo sqlite3"))["success"]
        assert seen(recorded) == {}


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ({"success": True, "return_code": 0}, "success"),
        ({"success": False, "return_code": 1, "error": "exit code 1"}, "failure"),
        ({"success": False, "return_code": -9, "error": "exit code -9"}, "failure"),
        ({"success": False, "return_code": -1, "error": "Command 'x' is not allowed"}, ""),
        ({"success": False, "return_code": -1, "error": "Shell command denied"}, ""),
        ({"success": False, "return_code": -1, "error": "Command timed out after 5"}, "timeout"),
    ],
)
def test_the_shells_answer_tells_how_a_query_ended(answer: Any, status: str) -> None:
    assert shell_status(answer) == status


# Visualizations.


def test_visualizations_are_what_the_application_says() -> None:
    with recording() as recorded:
        assert recorded.points(VISUALIZATIONS, zeros=True) == {}
        record.visualization()
        record.visualization(2)
        assert recorded.points(VISUALIZATIONS) == {(VISUALIZATIONS,): 3}
