"""Statements that are compiled once and handed to the driver as plain tuples.

SQLAlchemy Core says what is written and read, for both databases and in one place. Running such
a statement through a ``Connection`` costs ten times what SQLite needs for it, though, and the
hot paths run a handful of them for every step. So they keep theirs as a :class:`Statement`:
the compiler's text, the order of its parameters and the conversions of its types are worked
out at the first use, and from then on only the driver is called, in the transaction of the
connection that is given.
"""

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Dialect, Float, Insert, column, insert, table
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.sql.schema import ScalarElementColumnDefault
from sqlalchemy.types import TypeEngine

Row = Any  # a named tuple of the statement's columns
Parameters = Mapping[str, object]
_Convert = Callable[[Any], Any]


class Statement:
    """An INSERT, UPDATE or SELECT that runs often.

    ``columns`` are the columns of an INSERT that its rows give. A parameter that is
    ``expanding`` takes a list; lists are filled up to a power of two with their last value, so
    that a few texts serve every length.
    """

    def __init__(self, statement: ClauseElement, *, columns: Sequence[str] | None = None) -> None:
        if columns is not None and type(statement) is Insert:
            statement = _plain_insert(statement, columns)
        self._statement = statement
        self._columns = columns
        self._by_dialect: dict[str, _Compiled] = {}

    def write(self, connection: Connection, rows: Sequence[Parameters]) -> int:
        """Run it for every row; how many rows of the table it met (not known for an INSERT)."""
        text = self._compiled(connection).text({})
        cursor = _cursor(connection)
        if len(rows) == 1:
            cursor.execute(text.sql, text.bind(rows[0]))
        else:
            cursor.executemany(text.sql, [text.bind(row) for row in rows])
        return int(cursor.rowcount)

    def run(self, connection: Connection, parameters: Parameters) -> int:
        """Run it once, where its parameters may hold lists; how many rows it met."""
        text, values = self._compiled(connection).expanded(parameters)
        cursor = _cursor(connection)
        cursor.execute(text.sql, text.bind(values))
        return int(cursor.rowcount)

    def all(self, connection: Connection, parameters: Parameters) -> list[Row]:
        """The rows it selects."""
        compiled = self._compiled(connection)
        text, values = compiled.expanded(parameters)
        cursor = _cursor(connection)
        cursor.execute(text.sql, text.bind(values))
        return compiled.rows(cursor.fetchall())

    def _compiled(self, connection: Connection) -> "_Compiled":
        dialect = connection.dialect
        compiled = self._by_dialect.get(dialect.name)
        if compiled is None:
            compiled = _Compiled(self._statement, self._columns, dialect)
            self._by_dialect[dialect.name] = compiled
        return compiled


@dataclass(frozen=True, slots=True)
class _Text:
    """One text of a statement, with what it takes to call the driver with it."""

    sql: str
    names: tuple[str, ...] | None
    """The parameters' names, for a driver that takes them by name."""
    values_of: Callable[[Parameters], Sequence[object]]
    """Picks the values that a caller gives, in order."""
    constants: tuple[tuple[int, object], ...]
    """The values that the statement gives itself, with their places among all."""
    converts: tuple[tuple[int, _Convert], ...]
    lists: Mapping[str, Sequence[str]]
    """The names that stand for the values of a list."""

    def bind(self, parameters: Parameters) -> Any:
        """The values as the driver wants them: in order, or by name."""
        values = list(self.values_of(parameters))
        for place, constant in self.constants:
            values.insert(place, constant)
        for place, convert in self.converts:
            value = values[place]
            if value is not None:
                values[place] = convert(value)
        return values if self.names is None else dict(zip(self.names, values, strict=True))


class _Compiled:
    """A statement in the language of one database."""

    def __init__(
        self, statement: ClauseElement, columns: Sequence[str] | None, dialect: Dialect
    ) -> None:
        names = None if columns is None else list(columns)
        compiled = statement.compile(dialect=dialect, column_keys=names)
        assert isinstance(compiled, SQLCompiler)
        self._compiled = compiled
        self._is_insert = columns is not None
        binds = [(name, bind) for bind, name in compiled.bind_names.items() if bind.expanding]
        self._lists = sorted(name for name, bind in binds if bind.required)
        """The parameters that a caller gives as lists."""
        self._own_lists = {
            name: [str(value) for value in bind.effective_value or ()]
            for name, bind in binds
            if not bind.required
        }
        self._texts: dict[tuple[int, ...], _Text] = {}
        entries = compiled._result_columns
        names = [e.keyname for e in entries]
        row = namedtuple("Row", names, rename=True)  # type: ignore[misc]  # the statement tells them
        self._make: Callable[[Sequence[Any]], Row] = row._make
        found = [_result_converter(entry.type, dialect) for entry in entries]
        self._converts = [(place, convert) for place, convert in enumerate(found) if convert]

    def text(self, lists: Mapping[str, Sequence[object]]) -> _Text:
        """The text for lists of these lengths."""
        lengths = tuple(len(values) for values in lists.values())
        text = self._texts.get(lengths)
        if text is None:
            text = self._texts[lengths] = self._build(lists)
        return text

    def expanded(self, parameters: Parameters) -> tuple[_Text, Parameters]:
        """The text for these parameters, and every single value by its name."""
        if not self._lists:
            return self.text({}), parameters
        lists = {name: _filled_up(parameters[name]) for name in self._lists}
        text = self.text(lists)
        values = dict(parameters)
        for name, items in lists.items():
            values.update(zip(text.lists.get(name, ()), items, strict=False))
        return text, values

    def rows(self, found: Sequence[Sequence[Any]]) -> list[Row]:
        """Rows as the statement's types have them."""
        if not self._converts:
            return [self._make(row) for row in found]
        rows = []
        for row in found:
            values = list(row)
            for place, convert in self._converts:
                values[place] = convert(values[place])
            rows.append(self._make(values))
        return rows

    def _build(self, lists: Mapping[str, Sequence[object]]) -> _Text:
        compiled = self._compiled
        binds = {name: bind for bind, name in compiled.bind_names.items()}
        given = {bind.key: None for bind in binds.values() if bind.required or self._is_insert}
        state = compiled.construct_expanded_state({**given, **lists})
        names = tuple(state.positiontup or state.parameters)
        converts = {**compiled._bind_processors, **state.processors}
        # Of the columns that an INSERT does not name, those that the model has a value for.
        defaults = {
            column.key: column.default.arg
            for column in (compiled.insert_prefetch if self._is_insert else ())
            if isinstance(column.default, ScalarElementColumnDefault)
        }
        own = {
            each: value
            for name, values in self._own_lists.items()
            for each, value in zip(state.parameter_expansion.get(name, ()), values, strict=True)
        }
        constants: list[tuple[int, object]] = []
        asked: list[str] = []
        for place, name in enumerate(names):
            bind = binds.get(name)
            if name in defaults or name in own:
                constants.append((place, defaults.get(name, own.get(name))))
            elif bind is None or bind.required or self._is_insert:
                asked.append(name)
            else:
                # A member of a StrEnum is a str that drivers would have to adapt first.
                value = bind.effective_value
                constants.append((place, str(value) if isinstance(value, str) else value))
        return _Text(
            sql=state.statement,
            names=None if compiled.positional else names,
            values_of=_picker(asked),
            constants=tuple(constants),
            converts=tuple(
                (place, convert)
                for place, name in enumerate(names)
                if callable(convert := converts.get(name))
            ),
            lists=state.parameter_expansion,
        )


def _result_converter(kind: TypeEngine[Any], dialect: Dialect) -> _Convert | None:
    if isinstance(kind, Float):
        # A float already; to know that, PostgreSQL's would ask for the column of a cursor.
        return None
    return kind.dialect_impl(dialect).result_processor(dialect, None)


def _plain_insert(statement: Insert, columns: Sequence[str]) -> Insert:
    """An INSERT that names these columns alone: the others' values are the database's, which
    costs less than to bind the model's in every row."""
    given = [column(c.name, c.type) for c in statement.table.columns if c.name in columns]
    return insert(table(statement.table.name, *given))


def _picker(names: Sequence[str]) -> Callable[[Parameters], Sequence[object]]:
    if len(names) > 1:
        return itemgetter(*names)
    return lambda parameters: [parameters[name] for name in names]


def _cursor(connection: Connection) -> Any:
    driver = connection.connection.dbapi_connection
    assert driver is not None
    return driver.cursor()


def _filled_up(values: object) -> list[object]:
    assert isinstance(values, Sequence)
    filled = list(values)
    if filled:
        filled += filled[-1:] * ((1 << (len(filled) - 1).bit_length()) - len(filled))
    return filled
