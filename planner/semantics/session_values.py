"""What the session says: the time, who is connected where; constants of the statement."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from sqlglot import exp

from planner.semantics import build, literals
from planner.semantics.environment import Environment
from storage.types import (
    DATE,
    INT4,
    NAME,
    TEXT,
    TIME,
    SqlType,
    array_of,
)

# Words that PostgreSQL lets stand without parentheses.
SESSION_NODES: dict[type[exp.Expr], str] = {
    exp.CurrentDate: "current_date",
    exp.CurrentTime: "current_time",
    exp.CurrentTimestamp: "current_timestamp",
    exp.Localtime: "localtime",
    exp.Localtimestamp: "localtimestamp",
    exp.CurrentUser: "current_user",
    exp.CurrentRole: "current_role",
    exp.SessionUser: "session_user",
    exp.CurrentSchema: "current_schema",
    exp.CurrentCatalog: "current_catalog",
}


def _instant(moment: Callable[[Environment], datetime]) -> Callable[[Environment], exp.Expr]:
    def value(environment: Environment) -> exp.Expr:
        return literals.instant_constant(moment(environment).astimezone(UTC))

    return value


def _session(key: str, default: str, sql_type: SqlType) -> Callable[[Environment], exp.Expr]:
    def value(environment: Environment) -> exp.Expr:
        written = environment.context.session.get(key, default)
        return literals.literal(written, sql_type, environment)

    return value


def _current_schema(environment: Environment) -> exp.Expr:
    schemas = environment.visible_schemas
    return build.text(schemas[0], NAME) if schemas else build.null(NAME)


def _current_date(environment: Environment) -> exp.Expr:
    return literals.literal(environment.now.date().isoformat(), DATE, environment)


def _local_time(environment: Environment) -> exp.Expr:
    return literals.literal(environment.now.time().isoformat(), TIME, environment)


def _local_timestamp(environment: Environment) -> exp.Expr:
    return literals.timestamp_constant(environment.now.replace(tzinfo=None))


_now = _instant(lambda environment: environment.context.now)
_statement_now = _instant(lambda environment: environment.context.statement_now)
_user = _session("user", "postgres", NAME)
_database = _session("database", "dqe", NAME)

_SESSION_VALUES: dict[str, Callable[[Environment], exp.Expr]] = {
    "now": _now,
    "current_timestamp": _now,
    "transaction_timestamp": _now,
    "statement_timestamp": _statement_now,
    "clock_timestamp": _statement_now,
    "current_date": _current_date,
    "current_time": _local_time,
    "localtime": _local_time,
    "localtimestamp": _local_timestamp,
    "current_user": _user,
    "current_role": _user,
    "session_user": _user,
    "user": _user,
    "current_database": _database,
    "current_catalog": _database,
    "current_schema": _current_schema,
    "version": _session("version", "PostgreSQL 18.0 (dqe)", TEXT),
    "pg_backend_pid": _session("backend_pid", "0", INT4),
    "pg_postmaster_start_time": _now,
    "pg_conf_load_time": _now,
    "inet_server_addr": lambda _environment: build.null(TEXT),
    "inet_client_addr": lambda _environment: build.null(TEXT),
    "inet_server_port": lambda _environment: build.null(INT4),
    "inet_client_port": lambda _environment: build.null(INT4),
    "pg_is_in_recovery": lambda _environment: build.boolean(False),
    "txid_current": _session("transaction_id", "0", TEXT),
}


def is_session_function(name: str) -> bool:
    return name in _SESSION_VALUES


def session_value(name: str, environment: Environment) -> exp.Expr:
    """What a session function gives in this statement, as a constant."""
    return _SESSION_VALUES[name](environment)


def schemas_constant(environment: Environment, *, implicit: bool) -> exp.Expr:
    """current_schemas(implicit)."""
    names = list(environment.visible_schemas)
    if implicit:
        names.insert(0, "pg_catalog")
    return build.list_of([build.text(name, NAME) for name in names], array_of(NAME))
