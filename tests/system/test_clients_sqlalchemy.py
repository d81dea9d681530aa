"""SQLAlchemy over psycopg: create_all, reflection, the ORM. Runs where SQLAlchemy is installed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from dqe.local_cluster import LocalCluster

sqlalchemy: Any = pytest.importorskip("sqlalchemy")
orm: Any = pytest.importorskip("sqlalchemy.orm")

pytestmark = pytest.mark.cluster


@pytest.fixture
def engine(cluster: LocalCluster) -> Any:
    made = sqlalchemy.create_engine(cluster.url.replace("postgresql:", "postgresql+psycopg:"))
    yield made
    made.dispose()


@pytest.fixture
def tables(engine: Any) -> Any:
    sa = sqlalchemy
    metadata = sa.MetaData()
    sa.Table(
        "people",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("name", sa.String(50), nullable=False),
        sa.Column("made", sa.DateTime(timezone=True), server_default=sa.func.now()),
        sa.Column("score", sa.Numeric(10, 2)),
        sa.Column("data", sa.dialects.postgresql.JSONB),
        sa.Column("tags", sa.ARRAY(sa.Text)),
        sa.CheckConstraint("name <> ''", name="people_named"),
    )
    metadata.create_all(engine)
    metadata.create_all(engine)  # finds it there
    yield metadata
    metadata.drop_all(engine)


def test_reflection(engine: Any, tables: Any) -> None:
    inspector = sqlalchemy.inspect(engine)
    assert inspector.get_table_names() == ["people"]
    assert inspector.get_pk_constraint("people")["constrained_columns"] == ["id"]
    assert inspector.get_foreign_keys("people") == []
    assert inspector.get_indexes("people") == []
    assert [c["name"] for c in inspector.get_check_constraints("people")] == ["people_named"]
    found = sqlalchemy.MetaData()
    found.reflect(engine)
    shown = {column.name: str(column.type) for column in found.tables["people"].columns}
    assert shown == {
        "id": "INTEGER",
        "name": "VARCHAR(50)",
        "made": "TIMESTAMP",
        "score": "NUMERIC(10, 2)",
        "data": "JSONB",
        "tags": "ARRAY",
    }


def test_rows(engine: Any, tables: Any) -> None:
    sa = sqlalchemy
    people = tables.tables["people"]
    with engine.connect() as connection:
        given = [
            {"id": i, "name": f"n{i}", "score": Decimal(i), "data": {"a": i}, "tags": ["x"]}
            for i in range(300)
        ]
        connection.execute(sa.insert(people), given)
        connection.commit()
        few = sa.select(people.c.score, people.c.tags).where(people.c.data["a"].astext == "7")
        assert connection.execute(few).all() == [(Decimal("7.00"), ["x"])]
        changed = sa.update(people).where(people.c.id > 100).values(score=5)
        assert connection.execute(changed).rowcount == 199
        made = sa.insert(people).values(id=999, name="r").returning(people.c.made)
        assert connection.execute(made).scalar_one() is not None
        with pytest.raises(sa.exc.IntegrityError):
            connection.execute(sa.insert(people).values(id=999, name="again"))
        connection.rollback()
        streamed = connection.execution_options(stream_results=True, yield_per=50)
        result = streamed.execute(sa.select(people.c.id).where(people.c.id >= 10))
        assert [len(part) for part in result.partitions(50)] == [50, 50, 50, 50, 50, 41]


def test_objects(engine: Any, tables: Any) -> None:
    base = orm.declarative_base(metadata=tables)

    class Person(base):  # type: ignore[valid-type,misc]
        __table__ = tables.tables["people"]

    with orm.Session(engine) as session:
        session.add_all([Person(id=i, name=f"n{i}", tags=["a", "b"]) for i in range(3)])
        session.commit()
        one = session.get(Person, 1)
        assert one.tags == ["a", "b"]
        one.name = "changed"
        session.commit()
        session.delete(session.get(Person, 2))
        session.commit()
        names = session.scalars(sqlalchemy.select(Person.name).order_by(Person.id)).all()
        assert names == ["n0", "changed"]
