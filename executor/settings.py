"""A session's settings: SET, SHOW, RESET, and what of them a transaction takes back.

`DEFINITIONS` lists what PostgreSQL clients ask for or set. A setting whose other values this
server could not honour is held to those it can (0A000 otherwise); an unknown one is 42704; any
name with a dot is a client's own and takes any text, except under `dqe.`, which is ours.

Values live in layers, the last one set counting: built in, the client's start-up packet
(where RESET goes back to), the session's. A transaction remembers the session's layer at its
start, for ROLLBACK, and the names set with SET LOCAL, for its end (manual, SET).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from catalog.horizon import DEFAULT_RETENTION, HISTORY_RETENTION
from cluster.errors import CantChangeRuntimeParam, InvalidName, UndefinedObject
from executor import setting_kinds as kinds
from executor.past_times import LAST_READ
from planner.optimizer.planning import CHEAPEST, LED, NEAREST, READ_REPLICAS

DATABASE = "dqe"
SERVER_VERSION = "18.0"
SERVER_VERSION_NUMBER = "180000"

ISOLATION_LEVELS = ("read uncommitted", "read committed", "repeatable read", "serializable")
_ISOLATION_LEVELS = kinds.one_of(*ISOLATION_LEVELS)
_MESSAGE_LEVELS = (
    "debug5",
    "debug4",
    "debug3",
    "debug2",
    "debug1",
    "log",
    "notice",
    "warning",
    "error",
)
_NOT_ENFORCED = "This limit is not enforced yet."


@dataclass(frozen=True, slots=True)
class Definition:
    """A setting: its name as shown, default, kind, and whether clients are told of changes."""

    name: str
    default: str
    kind: kinds.Kind
    description: str
    reported: bool = False
    fixed: bool = False


def _fixed(name: str, value: str, description: str, *, reported: bool = False) -> Definition:
    return Definition(name, value, kinds.text, description, reported=reported, fixed=True)


DEFINITIONS: dict[str, Definition] = {
    definition.name.lower(): definition
    for definition in (
        Definition(
            "application_name", "", kinds.text, "The client's name for itself.", reported=True
        ),
        Definition("bytea_output", "hex", kinds.one_of("hex", "escape"), "How bytea is written."),
        Definition("check_function_bodies", "on", kinds.boolean, "Checks functions when made."),
        Definition(
            "client_encoding", "UTF8", kinds.encoding, "The client's encoding.", reported=True
        ),
        Definition(
            "client_min_messages",
            "notice",
            kinds.one_of(*_MESSAGE_LEVELS),
            "The least of the messages sent to the client.",
        ),
        Definition(
            "DateStyle",
            "ISO, MDY",
            kinds.date_style,
            "How dates are read and written.",
            reported=True,
        ),
        Definition(
            "default_table_access_method",
            "heap",
            kinds.only(kinds.text, "heap", hint="CREATE TABLE ... USING names the method."),
            "The access method of new tables; heap is the cluster's default.",
        ),
        Definition(
            "default_tablespace",
            "",
            kinds.only(kinds.text, "", hint="There are no tablespaces."),
            "The tablespace of new tables.",
        ),
        Definition(
            "default_transaction_deferrable", "off", kinds.boolean, "New transactions defer."
        ),
        Definition(
            "default_transaction_isolation",
            "read committed",
            _ISOLATION_LEVELS,
            "The isolation level of new transactions.",
        ),
        Definition(
            "default_transaction_read_only",
            "off",
            kinds.boolean,
            "New transactions only read.",
            reported=True,
        ),
        Definition(
            "extra_float_digits",
            "1",
            kinds.only(
                kinds.integer(-15, 3),
                "1",
                "2",
                "3",
                hint="Floating-point numbers are always written exactly.",
            ),
            "Digits of floating-point numbers.",
        ),
        Definition(
            "idle_in_transaction_session_timeout",
            "0",
            kinds.milliseconds,
            "How long a transaction may idle.",
        ),
        Definition(
            "idle_session_timeout",
            "0",
            kinds.milliseconds,
            "How long a session may idle.",
        ),
        Definition(
            "IntervalStyle",
            "postgres",
            kinds.only(
                kinds.one_of("postgres", "postgres_verbose", "sql_standard", "iso_8601"),
                "postgres",
                "iso_8601",
            ),
            "How intervals are written.",
            reported=True,
        ),
        Definition(
            "jit", "off", kinds.only(kinds.boolean, "off"), "Compiles expressions to machine code."
        ),
        Definition("lc_messages", "C", kinds.only(kinds.text, "C"), "The language of messages."),
        Definition("lc_monetary", "C", kinds.only(kinds.text, "C"), "The locale of money."),
        Definition("lc_numeric", "C", kinds.only(kinds.text, "C"), "The locale of numbers."),
        Definition("lc_time", "C", kinds.only(kinds.text, "C"), "The locale of dates."),
        Definition(
            "lock_timeout",
            "0",
            kinds.milliseconds,
            "How long to wait for a lock.",
        ),
        Definition(
            "dqe.commit_protocol",
            "two-phase",
            kinds.one_of("two-phase", "three-phase"),
            "How transactions over several tablets commit.",
        ),
        Definition(
            "dqe.concurrency_control",
            "pessimistic",
            kinds.one_of("pessimistic", "optimistic"),
            "Whether new transactions lock rows as statements run, or validate them at COMMIT.",
        ),
        Definition(
            "dqe.max_transaction_bytes",
            "16GB",
            kinds.kilobytes,
            "The most that one transaction may change.",
        ),
        Definition(
            READ_REPLICAS,
            LED,
            kinds.one_of(LED, NEAREST, CHEAPEST),
            "Which replicas answer queries of the present.",
        ),
        Definition(
            "dqe.read_staleness",
            "0",
            kinds.milliseconds,
            "How far back reads may look, so that the nearest replica can answer.",
        ),
        Definition("row_security", "on", kinds.boolean, "Applies row security; there is none."),
        Definition(
            "search_path",
            '"$user", public',
            kinds.search_path,
            "The schemas in which names are looked up.",
            reported=True,
        ),
        Definition(
            "standard_conforming_strings",
            "on",
            kinds.only(kinds.boolean, "on"),
            "Backslashes in '...' mean themselves.",
            reported=True,
        ),
        Definition("statement_timeout", "0", kinds.milliseconds, "How long a statement may run."),
        Definition(
            "synchronous_commit",
            "on",
            kinds.only(
                kinds.one_of("on", "off", "local", "remote_write", "remote_apply"),
                "on",
                hint="Durability is a property of tables: WITH (durability = ...).",
            ),
            "Waits for durability at commit.",
        ),
        Definition("TimeZone", "UTC", kinds.time_zone, "The session's time zone.", reported=True),
        Definition("transaction_deferrable", "off", kinds.boolean, "This transaction defers."),
        Definition(
            "transaction_isolation",
            "read committed",
            _ISOLATION_LEVELS,
            "This transaction's isolation level.",
        ),
        Definition("transaction_read_only", "off", kinds.boolean, "This transaction only reads."),
        Definition(
            "transaction_timeout",
            "0",
            kinds.only(kinds.milliseconds, "0", hint=_NOT_ENFORCED),
            "How long a transaction may take.",
        ),
        Definition(
            "work_mem",
            "4MB",
            kinds.only(kinds.kilobytes, "4MB", hint="Memory is bounded by the node."),
            "Memory of a query's step.",
        ),
        Definition(
            "xmloption",
            "content",
            kinds.only(kinds.one_of("content", "document"), "content"),
            "How XML is read; there is no XML.",
        ),
        _fixed(LAST_READ, "", "The timestamp that the last query read at."),
        _fixed(HISTORY_RETENTION, DEFAULT_RETENTION, "How long rows that ended can be read."),
        _fixed("dqe.dead_after", "5min", "How long a node is silent before it is replaced."),
        _fixed("block_size", "8192", "Bytes of a disk block."),
        _fixed("in_hot_standby", "off", "Whether this server only follows.", reported=True),
        _fixed("integer_datetimes", "on", "Times are whole microseconds.", reported=True),
        _fixed("is_superuser", "on", "Whether the user may do everything.", reported=True),
        _fixed("lc_collate", "C", "How text is ordered."),
        _fixed("lc_ctype", "C", "How characters are classified."),
        _fixed("max_identifier_length", "63", "Bytes of the longest name."),
        _fixed("max_index_keys", "32", "Columns of the widest key."),
        _fixed("max_prepared_transactions", "0", "Transactions that outlive their sessions."),
        _fixed("scram_iterations", "4096", "Iterations of password hashing.", reported=True),
        _fixed("server_encoding", "UTF8", "The server's encoding.", reported=True),
        _fixed("server_version", SERVER_VERSION, "PostgreSQL's version spoken.", reported=True),
        _fixed("server_version_num", SERVER_VERSION_NUMBER, "The same as a number."),
        _fixed("session_authorization", "", "The session's user.", reported=True),
    )
}

_RESERVED_PREFIX = "dqe"
_TRANSACTION_SETTINGS = {
    "transaction_isolation": "default_transaction_isolation",
    "transaction_read_only": "default_transaction_read_only",
    "transaction_deferrable": "default_transaction_deferrable",
}


class SessionSettings(Mapping[str, str]):
    """The values in force, by lower-case name. `version` grows with every change of them, so not
    with a transaction that has the session's values."""

    def __init__(self, user: str, startup: Mapping[str, str]) -> None:
        """`startup` are the options of the client's start-up packet; wrong ones raise."""
        self._base = {name: item.default for name, item in DEFINITIONS.items()}
        self._base["session_authorization"] = user
        for name, value in startup.items():
            self._base[name.lower()] = _checked(name.lower(), value)
        self._session: dict[str, str] = {}
        self._local: dict[str, str] = {}
        self._before_transaction: dict[str, str] | None = None
        self._since_begun = 0
        self.version = 0
        self._untold = False
        self._in_force: dict[str, str] = {}
        self._changed()
        self._told = dict(self._reported())
        self._untold = False

    # -- reading ------------------------------------------------------------------------

    def __getitem__(self, name: str) -> str:
        return self._in_force[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._in_force)

    def __len__(self) -> int:
        return len(self._in_force)

    def _changed(self, *, tells: bool = True) -> None:
        self.version += 1
        self._in_force = {**self._base, **self._session, **self._local}
        self._untold |= tells

    def show(self, name: str) -> str:
        """The value of a setting by its name in any case; 42704 for one unknown."""
        try:
            return self[name.lower()]
        except KeyError:
            raise _unknown(name) from None

    def shown(self) -> list[tuple[str, str, str]]:
        """Every setting's name, value and description, by name."""
        rows = []
        for name in sorted(self):
            definition = DEFINITIONS.get(name)
            if definition is not None:
                rows.append((definition.name, self[name], definition.description))
        return rows

    # -- changing -----------------------------------------------------------------------

    def set(self, name: str, value: str, *, local: bool = False) -> str:
        """Changes a setting and returns the value as kept; `local` until the transaction's
        end. Raises 42704, 55P02, 22023 or 0A000."""
        key = name.lower()
        kept = _checked(key, value)
        if local:
            self._local[key] = kept
        else:
            self._local.pop(key, None)
            self._session[key] = kept
        self._changed()
        return kept

    def reset(self, name: str) -> None:
        """Back to what the session started with."""
        key = name.lower()
        definition = DEFINITIONS.get(key)
        if definition is None and "." not in key:
            raise _unknown(name)
        if definition is not None and definition.fixed:
            raise _cannot_change(definition)
        self._local.pop(key, None)
        self._session.pop(key, None)
        self._changed()

    def reset_all(self) -> None:
        self._session.clear()
        self._local.clear()
        self._changed()

    # -- transactions -------------------------------------------------------------------

    def begin(self) -> None:
        """A transaction starts: its own settings take their defaults. None of these is told."""
        self._before_transaction = dict(self._session)
        self._since_begun = self.version
        changes = False
        for name, default in _TRANSACTION_SETTINGS.items():
            changes |= self[name] != self[default]
            self._local[name] = self[default]
        if changes:
            self._changed(tells=False)

    def commit(self) -> None:
        """It is over: what was set for it alone is taken back."""
        own = self._untold or not self._local.keys() <= _TRANSACTION_SETTINGS.keys()
        self._end()
        self._untold = own

    def rollback(self) -> None:
        """What was set in the transaction is taken back."""
        told = self.version == self._since_begun and not self._untold
        before = self._before_transaction
        if before is not None and before != self._session:
            self._session = before
            self._changed()
        self._end()
        self._untold = not told

    def _end(self) -> None:
        local, self._local = self._local, {}
        self._before_transaction = None
        if any(value != self._beneath(name) for name, value in local.items()):
            self._changed(tells=False)

    def _beneath(self, name: str) -> str | None:
        """The session's own value, whatever the transaction's is; None for none."""
        return self._session.get(name, self._base.get(name))

    # -- telling the client -------------------------------------------------------------

    def take_changes(self) -> list[tuple[str, str]]:
        """Reported settings that changed since the last call, with their new values."""
        if not self._untold:
            return []
        self._untold = False
        now = self._reported()
        changed = [(name, value) for name, value in now.items() if self._told[name] != value]
        self._told = now
        return changed

    def _reported(self) -> dict[str, str]:
        return {
            definition.name: self[key]
            for key, definition in DEFINITIONS.items()
            if definition.reported
        }


def _checked(key: str, value: str) -> str:
    definition = DEFINITIONS.get(key)
    if definition is None:
        _check_custom(key)
        return value
    if definition.fixed:
        raise _cannot_change(definition)
    return definition.kind(definition.name, value)


def _check_custom(key: str) -> None:
    prefix, dot, rest = key.partition(".")
    if not dot:
        raise _unknown(key)
    if prefix == _RESERVED_PREFIX:
        raise InvalidName(
            f'invalid configuration parameter name "{key}"',
            detail=f'"{_RESERVED_PREFIX}" is a reserved prefix.',
        )
    if not prefix or not rest:
        raise InvalidName(
            f'invalid configuration parameter name "{key}"',
            detail="Custom parameter names must be two or more simple identifiers "
            "separated by dots.",
        )


def _unknown(name: str) -> UndefinedObject:
    return UndefinedObject(f'unrecognized configuration parameter "{name}"')


def _cannot_change(definition: Definition) -> CantChangeRuntimeParam:
    return CantChangeRuntimeParam(f'parameter "{definition.name}" cannot be changed')
