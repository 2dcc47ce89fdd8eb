"""The settings are judged once, before anything is opened or bound, in sentences an operator can act on."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sessionplane.domain.freshness import Daily, Freshness, FreshnessSettings, Idle
from sessionplane.domain.keys import KeySettings, OpaquePeer
from sessionplane.domain.limits import DEFAULT, Limits
from sessionplane.settings import CLIENT_VARIABLES, Address, Settings, SettingsInvalid, variables


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("SESSIONPLANE_"):
            monkeypatch.delenv(name)


def problems(**given: object) -> tuple[str, ...]:
    with pytest.raises(SettingsInvalid) as refused:
        Settings.load(**given)
    return refused.value.problems


def test_a_server_starts_without_any_setting() -> None:
    """The defaults are a loopback address, a file in the working directory and the documented bounds."""
    settings = Settings.load()
    assert (settings.host, settings.port, settings.is_loopback) == ("127.0.0.1", 50051, True)
    assert settings.db == Path("sessionplane.db")
    assert settings.limits == DEFAULT
    assert settings.key_settings() == KeySettings()
    assert settings.freshness_settings() == FreshnessSettings()


def test_settings_never_change() -> None:
    """Whoever holds the settings may keep what they read."""
    with pytest.raises(ValidationError):
        Settings.load().listen = "127.0.0.1:1"


@pytest.mark.parametrize(
    ("text", "host", "port", "loopback"),
    [
        ("127.0.0.1:0", "127.0.0.1", 0, True),
        ("127.8.9.10:1", "127.8.9.10", 1, True),
        ("localhost:65535", "localhost", 65_535, True),
        ("[::1]:50051", "::1", 50_051, True),
        ("[::]:50051", "::", 50_051, False),
        ("0.0.0.0:50051", "0.0.0.0", 50_051, False),
        ("127.1:50051", "127.1", 50_051, False),
        ("localhost.example:50051", "localhost.example", 50_051, False),
        ("unix:/run/sessionplane.sock", "", 0, True),
        ("unix:///run/sessionplane.sock", "", 0, True),
    ],
)
def test_an_address_is_judged_by_its_text(text: str, host: str, port: int, loopback: bool) -> None:
    """Literal loopback addresses, `localhost` and unix sockets are this machine: no name is looked up."""
    settings = Settings.load(listen=text, insecure_bind=True)
    assert (settings.host, settings.port, settings.is_loopback) == (host, port, loopback)


def test_both_spellings_of_a_unix_socket_mean_one_path() -> None:
    """gRPC knows `unix:/path` and `unix:///path`."""
    assert Address.parse("unix:/a/b") == Address.parse("unix:///a/b") == Address(path="/a/b")


@pytest.mark.parametrize(
    "text",
    [
        ":50051",
        "50051",
        "host",
        "host:",
        "host:65536",
        "host:-1",
        "host:1 ",
        "::1:50051",
        "[::g]:1",
        "[1.2.3.4]:1",
        "ho st:1",
        "http://host:1",
        "unix:",
        "unix:/",
        "unix:relative.sock",
        "unix:/" + "x" * 107,
    ],
)
def test_what_is_no_address_is_refused_with_the_forms_that_are(text: str) -> None:
    """A typing error in an address is one sentence, not a failed bind."""
    (problem,) = problems(listen=text)
    assert problem.startswith("listen: ")
    assert text in problem


@given(st.text())
def test_any_text_is_an_address_or_a_sentence(text: str) -> None:
    """Parsing never fails in another way, and what it accepts has a place to bind."""
    try:
        address = Address.parse(text)
    except ValueError as refusal:
        problem = str(refusal)
    else:
        problem = ""
        assert address.path or (address.host and 0 <= address.port <= 65_535)
    assert not problem or text in problem or repr(text) in problem


@pytest.mark.parametrize("listen", ["0.0.0.0:50051", "[::]:50051", "10.0.0.1:1", "example.org:1"])
def test_an_address_that_others_reach_is_an_explicit_choice(listen: str) -> None:
    """There is no transport security yet, so the operator must say that the network around it is closed."""
    (problem,) = problems(listen=listen)
    assert listen in problem
    assert "insecure_bind" in problem
    assert Settings.load(listen=listen, insecure_bind=True).listen == listen


def test_flags_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given comes first; None means that a flag was not used; an empty variable counts as unset."""
    monkeypatch.setenv("SESSIONPLANE_LISTEN", "127.0.0.1:1")
    monkeypatch.setenv("SESSIONPLANE_LOG_FORMAT", "")
    assert Settings.load(listen="127.0.0.1:2").port == 2
    assert Settings.load(listen=None).port == 1
    assert Settings.load().log_format == "console"


def test_every_setting_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists are text with commas, and what has a structure is JSON."""
    given = {
        "SESSIONPLANE_LISTEN": "0.0.0.0:0",
        "SESSIONPLANE_DB": "/data/sessions.db",
        "SESSIONPLANE_INSECURE_BIND": "true",
        "SESSIONPLANE_REFLECTION": "false",
        "SESSIONPLANE_LOG_FORMAT": "JSON",
        "SESSIONPLANE_LOG_LEVEL": "Debug",
        "SESSIONPLANE_DEFAULT_AGENT": "support",
        "SESSIONPLANE_MAIN_KEY": "home",
        "SESSIONPLANE_AGENTS": "support, sales",
        "SESSIONPLANE_OPAQUE_PEERS": '[{"channel": "irc", "markers": ["direct"]}]',
        "SESSIONPLANE_FRESHNESS": '{"default": {"daily": {"hour": 4, "zone": "Europe/Berlin"}},'
        ' "direct": {"idle": {"minutes": 60}}, "cron": {}}',
        "SESSIONPLANE_LIMITS__LEASE_MS_DEFAULT": "20000",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = Settings.load()
    assert settings.db == Path("/data/sessions.db")
    assert (settings.insecure_bind, settings.reflection) == (True, False)
    assert (settings.log_format, settings.log_level) == ("json", "debug")
    assert settings.limits == Limits(lease_ms_default=20_000)
    assert settings.key_settings() == KeySettings(
        default_agent="support",
        main_key="home",
        agents=frozenset({"support", "sales"}),
        opaque_peers=(OpaquePeer(channel="irc", markers=frozenset({"direct"})),),
    )
    assert settings.freshness_settings() == FreshnessSettings(
        policies={
            "default": Freshness(daily=Daily(hour=4, zone="Europe/Berlin")),
            "direct": Freshness(idle=Idle(minutes=60)),
            "cron": Freshness(),
        }
    )
    flat = {name for name in variables() if "__" not in name}
    assert flat <= given.keys(), "a new setting belongs into this test"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("SESSIONPLANE_LISTN", "Did you mean SESSIONPLANE_LISTEN?"),
        ("SESSIONPLANE_LIMITS__LEASE_DEFAULT_MS", "Did you mean SESSIONPLANE_LIMITS__LEASE_MS_DEFAULT?"),
        ("sessionplane_insecurebind", "Did you mean SESSIONPLANE_INSECURE_BIND?"),
        ("SESSIONPLANE_LISTEN__HOST", "Did you mean SESSIONPLANE_LISTEN?"),
        ("SESSIONPLANE_X", "Remove it."),
    ],
)
def test_a_mistyped_variable_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, hint: str) -> None:
    """It would otherwise be passed over in silence, and the bound that it meant would not hold."""
    monkeypatch.setenv(name, "1")
    assert problems() == (f"{name} is no setting of sessionplane. {hint}",)


def test_variables_of_clients_may_stand_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """One environment often serves a server and the command line."""
    for name in CLIENT_VARIABLES:
        monkeypatch.setenv(name, "127.0.0.1:50051")
    Settings.load()


def test_each_problem_is_one_line_that_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator mends everything in one round."""
    monkeypatch.setenv("SESSIONPLANE_LISTEN", "nowhere")
    monkeypatch.setenv("SESSIONPLANE_LOG_LEVEL", "loud")
    monkeypatch.setenv("SESSIONPLANE_OPAQUE_PEERS", "[")
    monkeypatch.setenv("SESSIONPLANE_FRESHNESS", '{"dm": {}}')
    monkeypatch.setenv("SESSIONPLANE_LIMITS__SWEEP_MS", "often")
    monkeypatch.setenv("SESSIONPLANE_TYPO", "1")
    with pytest.raises(SettingsInvalid) as refused:
        Settings.load(db=":memory:")
    names = [line.split(":")[0].split(" ")[0] for line in str(refused.value).splitlines()]
    assert sorted(names) == [
        "SESSIONPLANE_FRESHNESS",
        "SESSIONPLANE_LIMITS__SWEEP_MS",
        "SESSIONPLANE_LISTEN",
        "SESSIONPLANE_LOG_LEVEL",
        "SESSIONPLANE_OPAQUE_PEERS",
        "SESSIONPLANE_TYPO",
        "db",
    ]


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("LIMITS__SWEEP_MS", "soon", "write a whole number (it is 'soon')"),
        ("LIMITS__SWEEP_MS", "1.5", "write a whole number (it is '1.5')"),
        ("REFLECTION", "perhaps", "write true or false (it is 'perhaps')"),
        ("LOG_FORMAT", "xml", "write 'console' or 'json' (it is 'xml')"),
        ("OPAQUE_PEERS", '{"a": 5}', "write a JSON list"),
    ],
)
def test_a_value_of_the_wrong_type_is_answered_with_what_to_write(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, advice: str
) -> None:
    """In our words, not in those of the library that reads it."""
    monkeypatch.setenv(f"SESSIONPLANE_{name}", value)
    with pytest.raises(SettingsInvalid) as refused:
        Settings.load()
    assert refused.value.problems == (f"SESSIONPLANE_{name}: {advice}.",)


@pytest.mark.parametrize("each", [each.name for each in fields(Limits)])
@pytest.mark.parametrize("value", [0, -1, 2**53 + 1])
def test_every_bound_is_a_bound(each: str, value: int) -> None:
    """Zero would refuse everything, and no bound at all is a bug."""
    assert f"limits.{each} is {value}, but must be from 1 to {2**53}." in problems(
        limits=Limits(**{each: value})
    )


def test_bounds_may_not_contradict_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A default that its own minimum refuses would refuse every request."""
    monkeypatch.setenv("SESSIONPLANE_LIMITS__LEASE_MS_MIN", "20000")
    assert problems() == ("limits.lease_ms_min is 20000, above limits.lease_ms_default, which is 15000.",)
    monkeypatch.setenv("SESSIONPLANE_LIMITS__LEASE_MS_DEFAULT", "20000")
    assert Settings.load().limits.lease_ms_default == 20_000


@pytest.mark.parametrize(
    "given",
    [
        {"agents": ["sales"]},
        {"default_agent": "Bad Agent"},
        {"main_key": "global"},
        {"opaque_peers": [{"channel": "Signal", "markers": ["direct"]}]},
    ],
)
def test_what_the_canonicaliser_refuses_is_a_settings_problem(given: dict[str, object]) -> None:
    """Keys must not find out at the first request."""
    assert len(problems(**given)) == 1


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("{", ["SESSIONPLANE_FRESHNESS: this is not JSON"]),
        ("[" * 100_000, ["SESSIONPLANE_FRESHNESS: this is not JSON"]),
        ("[]", ["SESSIONPLANE_FRESHNESS: write a JSON object."]),
        ('"never"', ["SESSIONPLANE_FRESHNESS: write a JSON object (it is 'never')."]),
        ('{"main": {}, "main": {}}', ["SESSIONPLANE_FRESHNESS: 'main' is there twice."]),
        ('{"dm": {}}', ["SESSIONPLANE_FRESHNESS: 'dm' is no kind of key. There are default, thread, main,"]),
        ('{"main": 60}', ["SESSIONPLANE_FRESHNESS.main: "]),
        ('{"main": {"idel": {"minutes": 60}}}', ["SESSIONPLANE_FRESHNESS.main.idel: there is no such field"]),
        ('{"main": {"idle": {}}}', ["SESSIONPLANE_FRESHNESS.main.idle.minutes: this is missing."]),
        ('{"main": {"idle": {"minutes": 0}}}', ["SESSIONPLANE_FRESHNESS.main.idle: minutes is 0, but must"]),
        (
            '{"main": {"idle": {"minutes": 1.5}}}',
            ["SESSIONPLANE_FRESHNESS.main.idle.minutes: write a whole number"],
        ),
        (
            '{"main": {"daily": {"hour": 24, "zone": "UTC"}}, "cron": {"daily": {"hour": 4, "zone": "Berln"}}}',
            [
                "SESSIONPLANE_FRESHNESS.main.daily: hour is 24, but must be from 0 to 23.",
                "SESSIONPLANE_FRESHNESS.cron.daily: zone is 'Berln', which is no time zone of the IANA data",
            ],
        ),
    ],
)
def test_a_freshness_policy_that_could_not_hold_is_refused(
    monkeypatch: pytest.MonkeyPatch, text: str, sentences: list[str]
) -> None:
    """Whoever sets one wants sessions to end; they must not go on because of a slip of the pen."""
    monkeypatch.setenv("SESSIONPLANE_FRESHNESS", text)
    found = problems()
    assert len(found) == len(sentences)
    for problem, sentence in zip(found, sentences, strict=True):
        assert problem.startswith(sentence)
        assert len(problem) < 250


def test_every_variable_is_described() -> None:
    """The tables in the docs are made from these descriptions."""
    assert all(variables().values())
    assert len(variables()) == len(Settings.model_fields) - 1 + len(fields(Limits))
