"""Every error a user or a peer can be told of, with its SQLSTATE and its outcome.

One root, `DqeError`, and one class an SQLSTATE (PostgreSQL manual, appendix A), so that code
reacts to classes and the wire server only copies fields. An error crosses nodes as a small
mapping (`to_fields`, `error_from_fields`) and comes out as the same class on the other side.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar


class Outcome(StrEnum):
    """What is known of the effects of the request that failed."""

    DID_NOT_HAPPEN = "did_not_happen"
    UNKNOWN = "unknown"


class DqeError(Exception):
    """Root of all errors; carries the fields of a PostgreSQL ErrorResponse.

    `position` counts characters of the statement's text from 1, as the wire protocol does.
    `where` is the CONTEXT line, such as `COPY t, line 3, column b`.
    """

    sqlstate: str = "XX000"
    outcome: ClassVar[Outcome] = Outcome.DID_NOT_HAPPEN

    def __init__(
        self,
        message: str,
        *,
        detail: str | None = None,
        hint: str | None = None,
        position: int | None = None,
        where: str | None = None,
        table: str | None = None,
        column: str | None = None,
        constraint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint
        self.position = position
        self.where = where
        self.table = table
        self.column = column
        self.constraint = constraint

    def to_fields(self) -> dict[str, str | int]:
        """The error as a flat mapping, without the fields that are not set."""
        fields: dict[str, str | int] = {"sqlstate": self.sqlstate, "message": self.message}
        for name in _OPTIONAL_FIELDS:
            value = getattr(self, name)
            if value is not None:
                fields[name] = value
        return fields


_OPTIONAL_FIELDS = ("detail", "hint", "position", "where", "table", "column", "constraint")


def error_from_fields(fields: Mapping[str, str | int]) -> DqeError:
    """The error that `to_fields` described; an unknown SQLSTATE becomes `OtherError`."""
    sqlstate = str(fields.get("sqlstate", "XX000"))
    message = str(fields.get("message", "unknown error"))
    optional = {name: fields[name] for name in _OPTIONAL_FIELDS if name in fields}
    if _LEADER_FIELD in fields and sqlstate == NotLeader.sqlstate:
        return NotLeader(message, leader_id=int(fields[_LEADER_FIELD]) or None, **optional)
    if _ANSWER_LOST_FIELD in fields and sqlstate == AnswerLost.sqlstate:
        return AnswerLost(message, **optional)  # type: ignore[arg-type]
    if _LEADER_CHANGED_FIELD in fields and sqlstate == LeaderChanged.sqlstate:
        waited = bool(fields[_LEADER_CHANGED_FIELD])
        return LeaderChanged(message, waited=waited, **optional)
    if _ROW_MOVED_FIELD in fields and sqlstate == RowMoved.sqlstate:
        return RowMoved(message, **optional)  # type: ignore[arg-type]
    error_class = _CLASSES.get(sqlstate)
    if error_class is None:
        return OtherError(sqlstate, message, **optional)
    return error_class(message, **optional)  # type: ignore[arg-type]


class OtherError(DqeError):
    """An error whose SQLSTATE has no class of its own here."""

    def __init__(self, sqlstate: str, message: str, **fields: str | int | None) -> None:
        super().__init__(message, **fields)  # type: ignore[arg-type]
        self.sqlstate = sqlstate


# Class 08: connection.
class ConnectionFailure(DqeError):
    sqlstate = "08006"


class ProtocolViolation(DqeError):
    sqlstate = "08P01"


# Class 0A: features.
class FeatureNotSupported(DqeError):
    sqlstate = "0A000"


class ResultTypeChanged(FeatureNotSupported):
    """A prepared statement would answer with other columns than its client was told of. Drivers
    (asyncpg, pgjdbc) know it by PostgreSQL's name of the routine, and prepare anew."""

    def __init__(self) -> None:
        super().__init__("cached plan must not change result type")

    def to_fields(self) -> dict[str, str | int]:
        return {**super().to_fields(), "routine": "RevalidateCachedQuery"}


# Class 21, 22: data.
class CardinalityViolation(DqeError):
    sqlstate = "21000"


class DataException(DqeError):
    sqlstate = "22000"


class StringDataRightTruncation(DqeError):
    sqlstate = "22001"


class NumericValueOutOfRange(DqeError):
    sqlstate = "22003"


class SequenceGeneratorLimitExceeded(DqeError):
    sqlstate = "2200H"


class NullValueNotAllowed(DqeError):
    sqlstate = "22004"


class InvalidDatetimeFormat(DqeError):
    sqlstate = "22007"


class DatetimeFieldOverflow(DqeError):
    sqlstate = "22008"


class DivisionByZero(DqeError):
    sqlstate = "22012"


class InvalidPrecedingOrFollowingSize(DqeError):
    sqlstate = "22013"


class InvalidArgumentForNtile(DqeError):
    sqlstate = "22014"


class InvalidArgumentForNthValue(DqeError):
    sqlstate = "22016"


class InvalidParameterValue(DqeError):
    sqlstate = "22023"


class InvalidRegularExpression(DqeError):
    sqlstate = "2201B"


class InvalidRowCountInLimitClause(DqeError):
    sqlstate = "2201W"


class InvalidTextRepresentation(DqeError):
    sqlstate = "22P02"


class InvalidBinaryRepresentation(DqeError):
    sqlstate = "22P03"


class BadCopyFileFormat(DqeError):
    sqlstate = "22P04"


class CharacterNotInRepertoire(DqeError):
    sqlstate = "22021"


# Class 23: constraints.
class RestrictViolation(DqeError):
    sqlstate = "23001"


class NotNullViolation(DqeError):
    sqlstate = "23502"


class ForeignKeyViolation(DqeError):
    sqlstate = "23503"


class UniqueViolation(DqeError):
    sqlstate = "23505"


class CheckViolation(DqeError):
    sqlstate = "23514"


# Class 25, 26, 28, 34: state of the session.
class ActiveSqlTransaction(DqeError):
    sqlstate = "25001"


class NoActiveSqlTransaction(DqeError):
    sqlstate = "25P01"


class InFailedSqlTransaction(DqeError):
    sqlstate = "25P02"


class IdleInTransactionSessionTimeout(DqeError):
    sqlstate = "25P03"


class ReadOnlySqlTransaction(DqeError):
    sqlstate = "25006"


class InvalidSqlStatementName(DqeError):
    sqlstate = "26000"


class InvalidAuthorization(DqeError):
    sqlstate = "28000"


class InvalidCursorName(DqeError):
    sqlstate = "34000"


class InvalidSavepointSpecification(DqeError):
    sqlstate = "3B001"


class InvalidCatalogName(DqeError):
    sqlstate = "3D000"


class InvalidSchemaName(DqeError):
    sqlstate = "3F000"


# Class 40: transactions.
class SerializationFailure(DqeError):
    sqlstate = "40001"


class LeaderChanged(SerializationFailure):
    """A tablet's leader knows nothing of what the transaction holds there: it began at another.

    Nothing was done. A coordinator that remembers what it holds may begin again at this leader.
    `waited` says that the transaction was waiting for another's lock when that ended. It crosses
    nodes.
    """

    def __init__(self, message: str, *, waited: bool = False, **fields: str | int | None) -> None:
        super().__init__(message, **fields)  # type: ignore[arg-type]
        self.waited = waited

    def to_fields(self) -> dict[str, str | int]:
        return {**super().to_fields(), _LEADER_CHANGED_FIELD: int(self.waited)}


_LEADER_CHANGED_FIELD = "leader_changed"


class RowMoved(SerializationFailure):
    """Another transaction has moved a row that was waited for to another part. The client is told,
    also by a statement that would run again by itself after other conflicts. It crosses nodes."""

    def to_fields(self) -> dict[str, str | int]:
        return {**super().to_fields(), _ROW_MOVED_FIELD: 1}


_ROW_MOVED_FIELD = "row_moved"


class StatementCompletionUnknown(DqeError):
    """The answer to a commit was lost: it may have happened."""

    sqlstate = "40003"
    outcome = Outcome.UNKNOWN


class DeadlockDetected(DqeError):
    sqlstate = "40P01"


# Class 42: what the statement says.
class SyntaxError_(DqeError):
    sqlstate = "42601"


class InsufficientPrivilege(DqeError):
    sqlstate = "42501"


class CannotCoerce(DqeError):
    sqlstate = "42846"


class GroupingError(DqeError):
    sqlstate = "42803"


class WindowingError(DqeError):
    sqlstate = "42P20"


class InvalidName(DqeError):
    sqlstate = "42602"


class NameTooLong(DqeError):
    sqlstate = "42622"


class DatatypeMismatch(DqeError):
    sqlstate = "42804"


class IndeterminateDatatype(DqeError):
    sqlstate = "42P18"


class WrongObjectType(DqeError):
    sqlstate = "42809"


class UndefinedColumn(DqeError):
    sqlstate = "42703"


class UndefinedFunction(DqeError):
    sqlstate = "42883"


class UndefinedTable(DqeError):
    sqlstate = "42P01"


class UndefinedParameter(DqeError):
    sqlstate = "42P02"


class UndefinedObject(DqeError):
    sqlstate = "42704"


class AmbiguousColumn(DqeError):
    sqlstate = "42702"


class AmbiguousFunction(DqeError):
    sqlstate = "42725"


class DuplicateColumn(DqeError):
    sqlstate = "42701"


class DuplicateTable(DqeError):
    sqlstate = "42P07"


class DuplicateCursor(DqeError):
    sqlstate = "42P03"


class DuplicateAlias(DqeError):
    sqlstate = "42712"


class DuplicateObject(DqeError):
    sqlstate = "42710"


class DuplicateSchema(DqeError):
    sqlstate = "42P06"


class DuplicatePreparedStatement(DqeError):
    sqlstate = "42P05"


class InvalidColumnReference(DqeError):
    sqlstate = "42P10"


class InvalidForeignKey(DqeError):
    sqlstate = "42830"


class GeneratedAlways(DqeError):
    sqlstate = "428C9"


class InvalidTableDefinition(DqeError):
    sqlstate = "42P16"


class InvalidObjectDefinition(DqeError):
    sqlstate = "42P17"


# Class 53 to 58, 72, XX: resources, operators, snapshots, the system.
class OutOfMemory(DqeError):
    sqlstate = "53200"


class DiskFull(DqeError):
    sqlstate = "53100"


class TooManyConnections(DqeError):
    sqlstate = "53300"


class ConfigurationLimitExceeded(DqeError):
    sqlstate = "53400"


class ProgramLimitExceeded(DqeError):
    sqlstate = "54000"


class ObjectNotInPrerequisiteState(DqeError):
    sqlstate = "55000"


class CantChangeRuntimeParam(DqeError):
    sqlstate = "55P02"


class ObjectInUse(DqeError):
    sqlstate = "55006"


class LockNotAvailable(DqeError):
    sqlstate = "55P03"


class DependentObjectsStillExist(DqeError):
    sqlstate = "2BP01"


class QueryCanceled(DqeError):
    sqlstate = "57014"


class AdminShutdown(DqeError):
    sqlstate = "57P01"


class IdleSessionTimeout(DqeError):
    sqlstate = "57P05"


class CannotConnectNow(DqeError):
    """A node or a tablet that the statement needs cannot answer; others go on."""

    sqlstate = "57P03"


class AnswerLost(CannotConnectNow):
    """A request went out, no answer came back: it may have been carried out. It crosses nodes."""

    outcome = Outcome.UNKNOWN

    def to_fields(self) -> dict[str, str | int]:
        return {**super().to_fields(), _ANSWER_LOST_FIELD: 1}


_ANSWER_LOST_FIELD = "answer_lost"


class NotLeader(CannotConnectNow):
    """This replica does not lead its group: the request did not happen here, ask elsewhere.

    `leader_id` is where the leader was last seen, or None. It crosses nodes.
    """

    def __init__(
        self, message: str, *, leader_id: int | None = None, **fields: str | int | None
    ) -> None:
        super().__init__(message, **fields)  # type: ignore[arg-type]
        self.leader_id = leader_id

    def to_fields(self) -> dict[str, str | int]:
        return {**super().to_fields(), _LEADER_FIELD: self.leader_id or 0}


_LEADER_FIELD = "leader_id"


class IoError(DqeError):
    sqlstate = "58030"


class UndefinedFile(DqeError):
    sqlstate = "58P01"


class SnapshotTooOld(DqeError):
    sqlstate = "72000"


class InternalError(DqeError):
    sqlstate = "XX000"


class DataCorrupted(DqeError):
    sqlstate = "XX001"


def _all_classes() -> dict[str, type[DqeError]]:
    return {c.sqlstate: c for c in DqeError.__subclasses__() if c is not OtherError}


_CLASSES = _all_classes()
