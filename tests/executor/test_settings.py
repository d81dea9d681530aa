"""Settings: what values they take, what transactions take back, what clients are told."""

from __future__ import annotations

import pytest

from cluster.errors import (
    CantChangeRuntimeParam,
    DqeError,
    FeatureNotSupported,
    InvalidName,
    InvalidParameterValue,
    UndefinedObject,
)
from executor.settings import DEFINITIONS, SessionSettings


@pytest.fixture
def settings() -> SessionSettings:
    return SessionSettings("alice", {})


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("TimeZone", "europe/berlin", "Europe/Berlin"),
        ("timezone", "utc", "UTC"),
        ("timezone", "-8", "Etc/GMT+8"),
        ("timezone", "<+02>-02", "Etc/GMT-2"),
        ("statement_timeout", "5000", "5s"),
        ("statement_timeout", "1.5s", "1500ms"),
        ("statement_timeout", "2min", "2min"),
        ("statement_timeout", "0", "0"),
        ("DateStyle", "ISO", "ISO, MDY"),
        ("client_encoding", "utf-8", "UTF8"),
        ("client_encoding", "'UNICODE'", "UTF8"),
        ("extra_float_digits", "3", "3"),
        ("row_security", "of", "off"),
        ("IntervalStyle", "ISO_8601", "iso_8601"),
        ("search_path", 'a, "B c"', 'a, "B c"'),
        ("search_path", "", ""),
        ("myapp.user_id", "42", "42"),
        ("default_transaction_isolation", "SERIALIZABLE", "serializable"),
        ("jit", "false", "off"),
        ("work_mem", "4096", "4MB"),
    ],
)
def test_values_are_kept_in_canonical_form(
    settings: SessionSettings, name: str, value: str, kept: str
) -> None:
    assert settings.set(name, value) == kept
    assert settings.show(name.upper()) == kept


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("no_such_setting", "1", UndefinedObject),
        ("timezone", "Mars/Olympus", InvalidParameterValue),
        ("timezone", "5:30", FeatureNotSupported),
        ("statement_timeout", "-1", InvalidParameterValue),
        ("statement_timeout", "5 parsecs", InvalidParameterValue),
        ("row_security", "o", InvalidParameterValue),
        ("row_security", "maybe", InvalidParameterValue),
        ("DateStyle", "SQL, DMY", FeatureNotSupported),
        ("DateStyle", "nonsense", InvalidParameterValue),
        ("client_encoding", "LATIN1", FeatureNotSupported),
        ("client_encoding", "klingon", InvalidParameterValue),
        ("standard_conforming_strings", "off", FeatureNotSupported),
        ("idle_session_timeout", "-5s", InvalidParameterValue),
        ("IntervalStyle", "sql_standard", FeatureNotSupported),
        ("IntervalStyle", "roman", InvalidParameterValue),
        ("extra_float_digits", "0", FeatureNotSupported),
        ("extra_float_digits", "99", InvalidParameterValue),
        ("search_path", "a,,b", InvalidParameterValue),
        ("server_version", "9.0", CantChangeRuntimeParam),
        ("dqe.no_such", "1", InvalidName),
    ],
)
def test_values_that_are_refused(
    settings: SessionSettings, name: str, value: str, error: type[DqeError]
) -> None:
    with pytest.raises(error):
        settings.set(name, value)


def test_words_of_errors(settings: SessionSettings) -> None:
    with pytest.raises(UndefinedObject, match='unrecognized configuration parameter "x"'):
        settings.show("x")
    with pytest.raises(
        InvalidParameterValue, match='invalid value for parameter "TimeZone": "nowhere"'
    ):
        settings.set("timezone", "nowhere")


def test_every_default_is_a_value_of_its_kind() -> None:
    for definition in DEFINITIONS.values():
        assert definition.kind(definition.name, definition.default) == definition.default


def test_reset_goes_back_to_the_start_up_packet() -> None:
    settings = SessionSettings("alice", {"TimeZone": "Asia/Tokyo", "application_name": "app"})
    settings.set("timezone", "UTC")
    settings.reset("TimeZone")
    assert settings["timezone"] == "Asia/Tokyo"
    settings.set("application_name", "other")
    settings.reset_all()
    assert settings["application_name"] == "app"
    with pytest.raises(CantChangeRuntimeParam):
        settings.reset("server_version")


def test_clients_are_told_of_reported_changes_once(settings: SessionSettings) -> None:
    assert settings.take_changes() == []
    settings.set("timezone", "Asia/Tokyo")
    settings.set("row_security", "off")
    assert settings.take_changes() == [("TimeZone", "Asia/Tokyo")]
    assert settings.take_changes() == []


def test_a_transaction_takes_back_what_it_set(settings: SessionSettings) -> None:
    settings.set("timezone", "Asia/Tokyo")
    settings.begin()
    settings.set("timezone", "UTC")
    settings.set("application_name", "inside", local=True)
    assert settings["application_name"] == "inside"
    settings.rollback()
    assert settings["timezone"] == "Asia/Tokyo"
    assert settings["application_name"] == ""


def test_commit_ends_local_settings_alone(settings: SessionSettings) -> None:
    settings.begin()
    settings.set("timezone", "Asia/Tokyo")
    settings.set("application_name", "inside", local=True)
    settings.commit()
    assert settings["timezone"] == "Asia/Tokyo"
    assert settings["application_name"] == ""


def test_transactions_take_their_defaults(settings: SessionSettings) -> None:
    settings.set("default_transaction_isolation", "serializable")
    settings.begin()
    assert settings["transaction_isolation"] == "serializable"
    settings.commit()
    assert settings["transaction_isolation"] == "read committed"


def test_show_all_lists_settings_by_name(settings: SessionSettings) -> None:
    names = [name for name, _, _ in settings.shown()]
    assert "TimeZone" in names
    assert [name.lower() for name in names] == sorted(name.lower() for name in names)
    assert ("session_authorization", "alice") in [row[:2] for row in settings.shown()]
