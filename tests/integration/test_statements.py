"""Statements that skip SQLAlchemy's execution give and take what it would, on both databases."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import UUID
from sqlalchemy.exc import IntegrityError

from shared.columns import JsonText, UtcDateTime
from shared.database import Database, create_database
from shared.errors import DatabaseUnavailable
from shared.ids import new_id
from shared.settings import load_settings
from shared.statements import Statement

AT = datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=UTC)
ID = String(36).with_variant(UUID(as_uuid=False), "postgresql")


class Colour(StrEnum):
    """A state, as the tables keep them."""

    RED = "red"
    BLUE = "blue"


metadata = MetaData()
things = Table(
    "thing",
    metadata,
    Column("id", ID, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("weight", Integer),
    Column("colour", String(16)),
    Column("is_kept", Boolean),
    Column("content", JsonText),
    Column("at", UtcDateTime),
)
COLUMNS = tuple(column.name for column in things.c)

INSERT = Statement(things.insert(), columns=COLUMNS)
ALL = Statement(select(*things.c).order_by(things.c.number))
BY_NUMBERS = Statement(
    select(things.c.number)
    .where(things.c.number.in_(bindparam("numbers", expanding=True)))
    .order_by(things.c.number)
)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with _opened(database_url) as database:
        yield database


@contextmanager
def _opened(url: str) -> Iterator[Database]:
    database = create_database(load_settings(database_url=url))
    try:
        with database.write() as connection:
            metadata.create_all(connection)
        yield database
    finally:
        database.close()


def _row(number: int, **changes: object) -> dict[str, Any]:
    values: dict[str, Any] = {
        "id": new_id(),
        "number": number,
        "weight": 2,
        "colour": Colour.RED,
        "is_kept": True,
        "content": b'{"a": [1.50]}',
        "at": AT,
    }
    return values | changes


def _insert(database: Database, *rows: dict[str, Any]) -> None:
    with database.write() as connection:
        INSERT.write(connection, rows)


def _all(database: Database) -> list[Any]:
    with database.read() as connection:
        return ALL.all(connection, {})


def test_values_come_back_as_their_types_have_them(database: Database) -> None:
    row = _row(1)
    _insert(database, row)
    (found,) = _all(database)
    assert found._asdict() == {**row, "colour": "red"}
    assert isinstance(found.id, str)
    assert found.is_kept is True
    assert found.at.utcoffset() == timedelta(0)


def test_nothing_stays_nothing(database: Database) -> None:
    nothing = dict.fromkeys(("weight", "colour", "is_kept", "content", "at"))
    _insert(database, _row(1, **nothing))
    (found,) = _all(database)
    assert {name: getattr(found, name) for name in nothing} == nothing


def test_rows_are_those_that_sqlalchemy_itself_reads_and_writes(database: Database) -> None:
    one, other = _row(1), _row(2, is_kept=False, weight=None)
    _insert(database, one)
    with database.write() as connection:
        connection.execute(things.insert(), other)
    with database.read() as connection:
        theirs = connection.execute(select(*things.c).order_by(things.c.number)).all()
        ours = ALL.all(connection, {})
    assert [tuple(row) for row in ours] == [tuple(row) for row in theirs]
    assert [row._fields for row in ours] == [row._fields for row in theirs]


def test_a_time_of_another_zone_is_the_same_moment(database: Database) -> None:
    elsewhere = AT.astimezone(timezone(timedelta(hours=-7)))
    _insert(database, _row(1, at=elsewhere))
    assert [row.at for row in _all(database)] == [AT]


def test_a_time_without_a_zone_is_refused(database: Database) -> None:
    with pytest.raises(ValueError, match="time zone"):
        _insert(database, _row(1, at=AT.replace(tzinfo=None)))
    assert _all(database) == []


def test_a_missing_value_is_an_error_and_not_nothing(database: Database) -> None:
    row = _row(1)
    del row["weight"]
    with pytest.raises(KeyError, match="weight"):
        _insert(database, row)


@pytest.mark.parametrize("count", [1, 2, 3, 1_000])
def test_many_rows_are_written_in_one_call(database: Database, count: int) -> None:
    _insert(database, *(_row(number) for number in range(count)))
    assert [row.number for row in _all(database)] == list(range(count))


def test_constants_of_the_statement_stand_between_what_is_given(database: Database) -> None:
    move = Statement(
        update(things)
        .where(things.c.number == bindparam("t_number"), things.c.colour == Colour.RED)
        .values(
            colour=Colour.BLUE,
            weight=bindparam("t_weight"),
            is_kept=False,
            at=bindparam("t_at"),
            number=things.c.number + 100,
        )
    )
    _insert(database, _row(1), _row(2), _row(3, colour=Colour.BLUE))
    later = AT + timedelta(hours=1)
    changes = [{"t_number": n, "t_weight": n + 1, "t_at": later} for n in (1, 2, 3)]
    with database.write() as connection:
        move.write(connection, changes)
    assert [(r.number, r.colour, r.weight, r.is_kept, r.at) for r in _all(database)] == [
        (3, "blue", 2, True, AT),
        (101, "blue", 2, False, later),
        (102, "blue", 3, False, later),
    ]


def test_an_update_tells_how_many_rows_it_met(database: Database) -> None:
    paint = Statement(
        update(things)
        .where(things.c.number.in_(bindparam("numbers", expanding=True)))
        .values(colour=bindparam("new_colour"))
    )
    single = Statement(
        update(things).where(things.c.number == bindparam("t_number")).values(colour="green")
    )
    _insert(database, *(_row(number) for number in range(5)))
    with database.write() as connection:
        assert paint.run(connection, {"numbers": [1, 3, 99], "new_colour": "blue"}) == 2
        assert paint.run(connection, {"numbers": [99], "new_colour": "blue"}) == 0
        assert paint.run(connection, {"numbers": [], "new_colour": "blue"}) == 0
        assert single.write(connection, [{"t_number": 0}]) == 1
        assert single.write(connection, [{"t_number": 99}]) == 0
    assert [row.colour for row in _all(database)] == ["green", "blue", "red", "blue", "red"]


def test_lists_of_every_length_find_exactly_their_rows(database: Database) -> None:
    _insert(database, *(_row(number) for number in range(40)))
    with database.read() as connection:
        for length in (*range(10), 16, 17, 31, 33, 40):
            wanted = list(range(length))
            assert _numbers(connection, wanted) == wanted
        assert _numbers(connection, [7, 7, 99, 3]) == [3, 7]


def _numbers(connection: Connection, wanted: list[int]) -> list[int]:
    return [row.number for row in BY_NUMBERS.all(connection, {"numbers": wanted})]


def test_two_lists_and_a_value_do_not_get_mixed_up(database: Database) -> None:
    chosen = Statement(
        select(things.c.number)
        .where(
            things.c.colour.in_(bindparam("colours", expanding=True)),
            things.c.weight > bindparam("least"),
            things.c.number.in_(bindparam("numbers", expanding=True)),
        )
        .order_by(things.c.number)
    )
    colours = [Colour.RED, Colour.BLUE]
    rows = [_row(n, colour=colours[n % 2], weight=n) for n in range(10)]
    _insert(database, *rows)
    with database.read() as connection:
        for numbers in ([1, 2, 3], [1, 2, 3, 4, 5, 6, 7], [9]):
            for wanted in ([Colour.RED], [Colour.BLUE], colours, []):
                values = {"colours": wanted, "least": 1, "numbers": numbers}
                expected = [n for n in numbers if n > 1 and colours[n % 2] in wanted]
                assert [row.number for row in chosen.all(connection, values)] == expected


def test_a_list_of_ids_is_compared_as_ids(database: Database) -> None:
    by_ids = Statement(
        select(things.c.number)
        .where(things.c.id.in_(bindparam("ids", expanding=True)))
        .order_by(things.c.number)
    )
    rows = [_row(number) for number in range(5)]
    _insert(database, *rows)
    with database.read() as connection:
        found = by_ids.all(connection, {"ids": [rows[4]["id"], rows[0]["id"], new_id()]})
    assert [row.number for row in found] == [0, 4]


def test_a_column_that_is_computed_has_its_name_or_its_place(database: Database) -> None:
    total = Statement(select(func.max(things.c.number).label("most"), func.count()))
    _insert(database, _row(3), _row(4))
    with database.read() as connection:
        (row,) = total.all(connection, {})
    assert (row.most, row[1]) == (4, 2)


def test_what_it_wrote_is_part_of_the_transaction_of_its_connection(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.write() as connection:
        _insert_and_fail(connection)
    assert _all(database) == []


def _insert_and_fail(connection: Connection) -> None:
    INSERT.write(connection, [_row(1)])
    raise ZeroDivisionError


def test_a_violated_constraint_is_an_error_of_the_caller_and_not_of_the_database(
    database: Database,
) -> None:
    row = _row(1)
    _insert(database, row)
    driver = database.engine.dialect.dbapi
    assert driver is not None
    with pytest.raises((IntegrityError, driver.IntegrityError)) as raised:
        _insert(database, _row(2), row)
    assert not isinstance(raised.value, DatabaseUnavailable)
    assert [found.number for found in _all(database)] == [1]


def test_one_statement_serves_both_databases(sqlite_url: str, postgresql_url: str) -> None:
    for url in (sqlite_url, postgresql_url, sqlite_url):
        with _opened(url) as database, database.write() as connection:
            INSERT.write(connection, [_row(len(ALL.all(connection, {})))])
            (*_, last) = ALL.all(connection, {})
            assert last.content == b'{"a": [1.50]}'


def test_whatever_is_stored_comes_back(database: Database) -> None:
    # PostgreSQL stores no NUL, and no text holds half of a surrogate pair: both are refused before.
    characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")

    @settings(max_examples=60, deadline=None)
    @given(
        texts=st.lists(st.text(characters), max_size=6),
        at=st.datetimes(timezones=st.just(UTC)),
        weight=st.integers(-(2**31), 2**31 - 1),
    )
    def comes_back(texts: list[str], at: datetime, weight: int) -> None:
        rows = [
            _row(number, content=told.encode(), at=at, weight=weight)
            for number, told in enumerate(texts)
        ]
        with database.write() as connection:
            connection.execute(things.delete())
            if rows:
                INSERT.write(connection, rows)
            found = ALL.all(connection, {})
        assert [row.content.decode() for row in found] == texts
        assert {(row.at, row.weight) for row in found} == {(at, weight) for _ in texts}

    comes_back()
