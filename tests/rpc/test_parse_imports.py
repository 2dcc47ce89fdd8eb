"""What an import may bring: each entry is read by itself, and one that cannot be is refused by itself."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from sessionplane.domain.errors import LimitExceeded
from sessionplane.domain.keys import KeySettings
from sessionplane.domain.limits import DEFAULT, Limits
from sessionplane.plane.importing import ImportEntry
from sessionplane.rpc.parse import Parser
from sessionplane.rpc.parse_imports import RefusedEntry
from sessionplane.v1.admin_service_pb2 import ImportEntry as Entry
from sessionplane.v1.admin_service_pb2 import ImportSessionsRequest
from tests.support.openclaw import GONE, SPELLINGS


def read(
    *entries: Entry, settings: KeySettings | None = None, limits: Limits = DEFAULT
) -> list[ImportEntry | RefusedEntry]:
    """Read a request of these entries."""
    parser = Parser(limits, settings or KeySettings())
    return parser.imported(ImportSessionsRequest(entries=entries))


def one(raw: str, settings: KeySettings | None = None, **more: Any) -> ImportEntry | RefusedEntry:
    """Read one entry."""
    (found,) = read(Entry(raw_key=raw, **({"source_id": "s"} | more)), settings=settings)
    return found


@pytest.mark.parametrize(("raw", "key"), SPELLINGS.items())
def test_every_spelling_seen_in_the_wild_is_mapped_or_refused(raw: str, key: str | None) -> None:
    """Never silently: it is a key, or there is a reason and a sentence."""
    found = one(raw)
    if key is None:
        assert isinstance(found, RefusedEntry)
        assert found.reason in {"KEY_INVALID", "LIMIT_EXCEEDED"}
        assert (found.raw_key, found.canonical_key) == (raw, "")
        assert found.problem.endswith(".")
    else:
        assert isinstance(found, ImportEntry)
        assert (found.raw_key, found.key.text) == (raw, key)


@pytest.mark.parametrize("raw", GONE)
def test_a_sentinel_is_refused(raw: str) -> None:
    """It was nobody's conversation."""
    found = one(raw)
    assert isinstance(found, RefusedEntry)
    assert found.reason == "KEY_INVALID"


def test_the_agent_owns_bare_keys_only() -> None:
    """A store of one agent may hold keys of another, which name it themselves."""
    found = [one(raw, agent="ops") for raw in ("notes", "dm:Bo", " agent:main:notes", "AGENT:Main:dm:Bo")]
    assert [each.key.text for each in found if isinstance(each, ImportEntry)] == [
        "agent:ops:notes",
        "agent:ops:direct:bo",
        "agent:main:notes",
        "agent:main:direct:bo",
    ]
    assert isinstance(found[1], ImportEntry)
    assert found[1].key.spelling == "agent:ops:direct:Bo"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"agent": "bad id!"}, "FIELD_INVALID"),
        ({"source_id": ""}, "FIELD_INVALID"),
        ({"source_id": "x" * 129}, "LIMIT_EXCEEDED"),
        ({"display_name": "x" * 129}, "LIMIT_EXCEEDED"),
        ({"labels": {f"{number}": "" for number in range(33)}}, "LIMIT_EXCEEDED"),
    ],
)
def test_an_entry_with_a_bad_field_is_refused_by_its_name(given: dict[str, Any], reason: str) -> None:
    """The others of the call are read all the same."""
    bad = Entry(raw_key="notes", **({"source_id": "s"} | given))
    refused, good = read(bad, Entry(raw_key="good", source_id="s"))
    assert isinstance(refused, RefusedEntry)
    assert refused.reason == reason
    assert next(iter(given)) in refused.problem
    assert refused.canonical_key == ("" if "agent" in given else "agent:main:notes")
    assert isinstance(good, ImportEntry)


def test_an_agent_that_is_not_served_is_refused() -> None:
    """The allow list holds for imports too."""
    found = one("agent:ops:notes", KeySettings(agents=frozenset({"main"})))
    assert isinstance(found, RefusedEntry)
    assert found.reason == "AGENT_MISMATCH"


def test_times_are_milliseconds_and_absent_ones_stay_absent() -> None:
    """What a clock said is taken as it is; the use case judges it."""
    moment = Timestamp(seconds=5, nanos=7_999_999)
    found = one("notes", update_time=moment, last_interaction_time=Timestamp(seconds=-1))
    assert isinstance(found, ImportEntry)
    times = (found.updated_at_ms, found.started_at_ms, found.last_interaction_at_ms)
    assert times == (5_007, None, -1_000)
    bare = one("notes")
    assert isinstance(bare, ImportEntry)
    assert (bare.updated_at_ms, bare.started_at_ms, bare.last_interaction_at_ms) == (0, None, None)


def test_a_call_holds_a_bounded_number_of_entries() -> None:
    """One more refuses the call as a whole."""
    limits = Limits(import_entries_max=2)
    entries = [Entry(raw_key=f"k{number}", source_id="s") for number in range(3)]
    assert len(read(*entries[:2], limits=limits)) == 2
    with pytest.raises(LimitExceeded) as refused:
        read(*entries, limits=limits)
    assert refused.value.details == {"field": "entries", "actual": "3", "limit": "2"}
