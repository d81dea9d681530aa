"""The system's information functions: names, texts and comments of objects, settings.

They are answered from the catalog at hand when the call is bound, as constants or as lists to look
up in; what says the same of every object is in `system_constants`.
"""

from __future__ import annotations

import re

from sqlglot import exp

from catalog.model import Table, View
from catalog.system_tables import objects
from cluster.errors import FeatureNotSupported, UndefinedFunction, UndefinedObject, UndefinedTable
from planner.bound import SystemTable, type_of
from planner.functions import Call, Catalogue, Emit
from planner.semantics import build
from planner.semantics.environment import Environment
from planner.semantics.rules import define, natural
from planner.types import REG_KINDS, named_type
from storage.types import (
    BOOL,
    INT4,
    INT8,
    REGCLASS,
    REGTYPE,
    TEXT,
    Kind,
    SqlType,
    array_of,
    type_oid,
)

# pg_class's OIDs of system catalogs, for `'pg_class'::regclass`.
SYSTEM_OIDS = {
    "pg_tablespace": 1213,
    "pg_shdepend": 1214,
    "pg_type": 1247,
    "pg_attribute": 1249,
    "pg_proc": 1255,
    "pg_class": 1259,
    "pg_authid": 1260,
    "pg_auth_members": 1261,
    "pg_database": 1262,
    "pg_foreign_server": 1417,
    "pg_sequence": 2224,
    "pg_foreign_data_wrapper": 2328,
    "pg_shdescription": 2396,
    "pg_aggregate": 2600,
    "pg_am": 2601,
    "pg_amop": 2602,
    "pg_amproc": 2603,
    "pg_attrdef": 2604,
    "pg_cast": 2605,
    "pg_constraint": 2606,
    "pg_conversion": 2607,
    "pg_depend": 2608,
    "pg_description": 2609,
    "pg_index": 2610,
    "pg_inherits": 2611,
    "pg_language": 2612,
    "pg_namespace": 2615,
    "pg_opclass": 2616,
    "pg_operator": 2617,
    "pg_rewrite": 2618,
    "pg_trigger": 2620,
    "pg_opfamily": 2753,
    "pg_db_role_setting": 2964,
    "pg_largeobject_metadata": 2995,
    "pg_extension": 3079,
    "pg_policy": 3256,
    "pg_partitioned_table": 3350,
    "pg_statistic_ext": 3381,
    "pg_collation": 3456,
    "pg_event_trigger": 3466,
    "pg_enum": 3501,
    "pg_range": 3541,
    "pg_seclabel": 3596,
    "pg_ts_dict": 3600,
    "pg_ts_parser": 3601,
    "pg_ts_config": 3602,
    "pg_ts_template": 3764,
    "pg_subscription": 6100,
    "pg_publication": 6104,
}


def table_oid(found: Table | SystemTable) -> int | None:
    """A table's OID in pg_class; None for system tables that are not known by theirs."""
    if isinstance(found, SystemTable):
        return SYSTEM_OIDS.get(found.name) if found.schema == "pg_catalog" else None
    return objects.relation_oid(found.id)


def registered_name(node: exp.Expr, environment: Environment) -> exp.Expr:
    """The text of a regclass, regtype or regproc."""
    kind = type_of(node).kind
    if kind is Kind.REGTYPE:
        return build.call("pg_format_type", node, build.null(INT4), type=TEXT)
    found = object_text("regclass", node, environment)
    return build.call("coalesce", found, build.cast_as(node.copy(), TEXT), type=TEXT)


def object_text(function: str, node: exp.Expr, environment: Environment) -> exp.Expr:
    """What a system function says of the object with that OID, from the catalog at hand."""
    answers = [
        each
        for each in objects.object_texts(environment.context.catalog)
        if each.function == function and each.text is not None
    ]
    if function == "regclass":
        answers += [objects.ObjectText("regclass", oid, n) for n, oid in SYSTEM_OIDS.items()]
    oids = build.list_of([build.integer(each.oid, INT8) for each in answers], array_of(INT8))
    texts = build.texts([each.text or "" for each in answers])
    return _answer(build.cast_as(node, INT8), oids, texts)


def _answer(node: exp.Expr, keys: exp.Expr, texts: exp.Expr) -> exp.Expr:
    """The text beside the key that the node is; NULL where it is none."""
    place = build.call("list_position", keys, node, type=INT4)
    return build.call("list_extract", texts, place, type=TEXT)


def registered_cast(value: exp.Expr, target: SqlType, environment: Environment) -> exp.Expr | None:
    """Casts from names to regclass and its like; None where the cast is an ordinary one."""
    if target.kind not in REG_KINDS:
        return None
    written = build.literal_text(value)
    if written is None:
        return None
    return build.cast_as(build.integer(_oid_named(written, target, environment), INT8), target)


def _oid_named(written: str, target: SqlType, environment: Environment) -> int:
    plain = written.strip()
    if plain.isdigit():
        return int(plain)
    if plain == "-":
        return 0
    if target.kind is Kind.REGTYPE:
        return type_oid(_type_named(plain))
    if target.kind is Kind.REGPROC:
        raise UndefinedFunction(f'function "{written}" does not exist')
    found = relation_oid(plain, environment)
    if found is None:
        raise UndefinedTable(f'relation "{written}" does not exist')
    return found


def _type_named(written: str) -> SqlType:
    base = written.partition("(")[0]
    return named_type(base + ("[]" if written.endswith("[]") and "(" in written else ""))


def relation_oid(written: str, environment: Environment) -> int | None:
    """The OID of the relation (or index) that a text names; None where there is none."""
    parts = [
        part[1:-1].replace('""', '"') if part.startswith('"') else part.lower()
        for part in _NAME_PART.findall(written)
    ]
    name = parts[-1] if parts else ""
    schemas = parts[:-1] or environment.search_path
    catalog = environment.context.catalog
    for schema in schemas:
        if schema == "pg_catalog" and name in SYSTEM_OIDS:
            return SYSTEM_OIDS[name]
        found = (
            catalog.find_table(name, schema)
            or catalog.find_view(name, schema)
            or catalog.find_sequence(name, schema)
        )
        if found is not None:
            return objects.relation_oid(found.id)
        for each in catalog.tables.values():
            for index in objects.shown_indexes(each):
                if each.schema == schema and index.name == name:
                    return index.oid
    return None


_NAME_PART = re.compile(r'"(?:[^"]|"")*"|[^.]+')


def _looked_up(function: str) -> Emit:
    def emit(call: Call) -> exp.Expr:
        return object_text(function, call.arguments[0], call.casts.environment)

    return emit


def _description(call: Call) -> exp.Expr:
    """Only relations have comments of users."""
    if build.literal_text(call.arguments[1]) not in (None, "pg_class"):
        return build.null(TEXT)
    return object_text("obj_description", call.arguments[0], call.casts.environment)


def _column_description(call: Call) -> exp.Expr:
    oid, number = (build.cast_as(each, INT8) for each in call.arguments)
    whole = exp.Mul(this=oid, expression=build.integer(objects.COLUMNS_EACH, INT8))
    key = build.typed(exp.Paren(this=exp.Add(this=whole, expression=number)), INT8)
    return object_text("col_description", key, call.casts.environment)


def _view_named(call: Call) -> exp.Expr:
    """pg_get_viewdef of a name, which PostgreSQL keeps beside that of an OID."""
    environment = call.casts.environment
    name = build.literal_text(call.arguments[0])
    if name is None:
        raise FeatureNotSupported("pg_get_viewdef needs an OID or a constant name")
    oid = relation_oid(name, environment)
    if oid is None:
        raise UndefinedTable(f'relation "{name}" does not exist')
    return object_text("pg_get_viewdef", build.integer(oid, INT8), environment)


def _first(call: Call) -> exp.Expr:
    return build.cast_as(call.arguments[0], TEXT)


def _setting(call: Call) -> exp.Expr:
    name = build.literal_text(call.arguments[0])
    settings = call.casts.environment.context.settings
    if name is None:
        known = {**_DEFAULT_SETTINGS, **settings}
        return _answer(
            call.arguments[0], build.texts(list(known)), build.texts(list(known.values()))
        )
    value = settings.get(name.lower(), _DEFAULT_SETTINGS.get(name.lower()))
    if value is not None:
        return build.text(value)
    if len(call.arguments) > 1:
        return build.null(TEXT)
    raise UndefinedObject(f'unrecognized configuration parameter "{name}"')


_DEFAULT_SETTINGS = {
    "server_version": "18.0",
    "server_version_num": "180000",
    "server_encoding": "UTF8",
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "search_path": '"$user", public',
    "max_index_keys": "32",
    "block_size": "8192",
    "default_transaction_isolation": "read committed",
    "transaction_isolation": "read committed",
}


def _to_regclass(call: Call) -> exp.Expr:
    if isinstance(call.arguments[0], exp.Parameter):
        return build.null(REGCLASS)  # described before its value is known
    name = build.literal_text(call.arguments[0])
    if name is None:
        raise FeatureNotSupported("to_regclass needs a constant name")
    found = relation_oid(name, call.casts.environment)
    if found is None:
        return build.null(REGCLASS)
    return build.cast_as(build.integer(found, INT8), REGCLASS)


def _to_regtype(call: Call) -> exp.Expr:
    """The type of that name, NULL where there is none."""
    if isinstance(call.arguments[0], exp.Parameter):
        return build.null(REGTYPE)  # described before its value is known
    name = build.literal_text(call.arguments[0])
    if name is None:
        raise FeatureNotSupported("to_regtype needs a constant name")
    try:
        found = type_oid(named_type(name))
    except UndefinedObject:
        return build.null(REGTYPE)
    return build.cast_as(build.integer(found, INT8), REGTYPE)


def _visible(call: Call) -> exp.Expr:
    """Whether the relation is found without its schema."""
    environment = call.casts.environment
    catalog = environment.context.catalog
    relations: list[Table | View] = [*catalog.tables.values(), *catalog.views.values()]
    hidden = [
        objects.relation_oid(each.id)
        for each in relations
        if each.schema not in environment.search_path
    ]
    if not hidden:
        return build.boolean(True)
    oids = [build.integer(oid, INT8) for oid in hidden]
    inside = build.typed(exp.In(this=build.operand(call.arguments[0]), expressions=oids), BOOL)
    return build.negation(inside)


def register(catalogue: Catalogue) -> None:
    """The system's information functions."""
    for rest in ("", ", bool"):
        define(catalogue, f"pg_get_viewdef(text{rest}) -> text", _view_named)
    for name in ("pg_get_constraintdef", "pg_get_indexdef", "pg_get_viewdef"):
        for rest in ("", ", bool", ", int4, bool"):
            define(catalogue, f"{name}(oid{rest}) -> text", _looked_up(name))
    define(catalogue, "pg_get_partkeydef(oid) -> text", _looked_up("pg_get_partkeydef"))
    define(catalogue, "obj_description(oid) -> text", _looked_up("obj_description"))
    define(catalogue, "obj_description(oid, name) -> text", _description)
    define(catalogue, "col_description(oid, int4) -> text", _column_description)
    define(catalogue, "pg_get_userbyid(oid) -> name", _looked_up("pg_get_userbyid"))
    define(catalogue, "format_type(oid, int4) -> text", natural("pg_format_type"))
    define(catalogue, "pg_table_is_visible(oid) -> bool", _visible)
    define(catalogue, "to_regclass(text) -> regclass", _to_regclass)
    define(catalogue, "to_regtype(text) -> regtype", _to_regtype)
    for rest in ("", ", bool"):
        define(catalogue, f"current_setting(text{rest}) -> text", _setting)
        define(catalogue, f"pg_get_expr(text, oid{rest}) -> text", _first)
    define(catalogue, "gen_random_uuid() -> uuid", _random_uuid)
    define(catalogue, "uuidv4() -> uuid", _random_uuid)
    define(catalogue, "pg_size_pretty(int8) -> text", natural("pg_size_text"))
    define(catalogue, "pg_size_pretty(numeric) -> text", natural("pg_size_text"))
    define(catalogue, "pg_column_size(any) -> int4", natural("pg_value_size"))


def _random_uuid(call: Call) -> exp.Expr:
    node = build.call("gen_random_uuid", type=call.type)
    node.meta["volatile"] = True
    return node
