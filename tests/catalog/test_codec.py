"""Whatever the catalog holds survives its bytes."""

from __future__ import annotations

import msgspec
import pytest

from catalog.codec import (
    decode_envelope,
    encode_envelope,
    outcome_of,
)
from catalog.commands import CommandResult, CreateTable, DropTable, Envelope
from catalog.definition import (
    ColumnDefinition,
    GroupDefinition,
    PartDefinition,
    SchemeDefinition,
    TableDefinition,
    UniqueDefinition,
)
from catalog.model import (
    Bound,
    BoundKind,
    Catalog,
    ColumnId,
    ColumnStatistics,
    Node,
    NodeId,
    PartitionMethod,
    Placement,
    TableId,
    TableStatistics,
)
from cluster.errors import UndefinedTable
from storage.types import INT8, Kind, SqlType, array_of


def test_catalog_round_trips() -> None:
    catalog = Catalog(
        cluster_id="c",
        version=7,
        nodes={NodeId(1): Node(NodeId(1), "a:1", "a:2", region="eu")},
        statistics={
            TableId(4): TableStatistics(
                rows=3, columns={ColumnId(9): ColumnStatistics(2, 0.5, "a", None, 4.0)}
            )
        },
    )
    written = msgspec.msgpack.encode(catalog)
    assert msgspec.msgpack.decode(written, type=Catalog) == catalog


def test_command_round_trips() -> None:
    definition = TableDefinition(
        schema="public",
        name="t",
        columns=(
            ColumnDefinition("k", INT8, not_null=True),
            ColumnDefinition("v", array_of(SqlType(Kind.NUMERIC, precision=12, scale=2))),
        ),
        primary_key=UniqueDefinition(("k",)),
        scheme=SchemeDefinition(
            method=PartitionMethod.RANGE,
            columns=("k",),
            parts=(
                PartDefinition(
                    "p",
                    low=(Bound(BoundKind.MINVALUE),),
                    high=(Bound(BoundKind.VALUE, "10"),),
                    placement=Placement(region="eu", nodes=(NodeId(2),)),
                ),
            ),
            groups=(GroupDefinition("cold", ("v",)),),
        ),
    )
    for command in (CreateTable(definition), DropTable((("public", "t"),))):
        envelope = Envelope("id-1", command)
        assert decode_envelope(encode_envelope(envelope)) == envelope


def test_unknown_bytes_are_refused() -> None:
    with pytest.raises(msgspec.MsgspecError):
        decode_envelope(b"\xc1 nonsense")


def test_outcome_keeps_class_and_fields_of_an_error() -> None:
    outcome = outcome_of(UndefinedTable('table "t" does not exist', hint="look again"))
    with pytest.raises(UndefinedTable) as caught:
        outcome.unwrap()
    assert caught.value.hint == "look again"
    assert outcome_of(CommandResult(version=3)).unwrap() == CommandResult(version=3)
