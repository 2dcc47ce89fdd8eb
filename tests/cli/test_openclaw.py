"""Reading OpenClaw's sessions.json: what is kept of an entry, and that no bad one stops the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sessionplane.cli.openclaw import BadFile, Found, read_store
from sessionplane.v1.admin_service_pb2 import ImportEntry
from tests.support.openclaw import wild

NOW_MS = 1_700_000_000_123


def found(tmp_path: Path, text: str, **more: Any) -> list[Found]:
    file = tmp_path / "sessions.json"
    file.write_text(text, encoding="utf-8")
    return read_store(file, **more)


def entry(tmp_path: Path, raw: str = "notes", **fields: Any) -> ImportEntry:
    (one,) = found(tmp_path, json.dumps({raw: fields}))
    assert one.entry is not None, one.problem
    return one.entry


def test_an_entry_says_who_and_when(tmp_path: Path) -> None:
    """The id there, three times, a name; everything else of the hundred fields is left behind."""
    read = entry(
        tmp_path,
        sessionId="there",
        updatedAt=NOW_MS,
        sessionStartedAt=NOW_MS - 1,
        lastInteractionAt=NOW_MS - 2,
        label=" Chat ",
        displayName="telegram:42",
        skillsSnapshot={"skills": [{"sessionId": "no", "updatedAt": 1}] * 100},
        origin={"sessionId": "neither"},
    )
    assert (read.raw_key, read.source_id, read.display_name) == ("notes", "there", "Chat")
    assert dict(read.labels) == {"imported.session_id": "there"}
    times = (read.update_time, read.start_time, read.last_interaction_time)
    assert [each.ToMilliseconds() for each in times] == [NOW_MS, NOW_MS - 1, NOW_MS - 2]


@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "-Infinity", "null", '"1700000000000"', "true", "{}", "[]"]
)
def test_a_time_that_is_no_number_is_none(tmp_path: Path, value: str) -> None:
    """The server takes what has no time for older than everything else."""
    (read,) = found(tmp_path, f'{{"notes": {{"sessionId": "s", "updatedAt": {value}}}}}')
    assert read.entry is not None
    assert not read.entry.HasField("update_time")


@pytest.mark.parametrize(("value", "kept"), [(-1, 0), (1.9, 1), (0, 0), (10**30, 253_402_300_799_999)])
def test_a_time_that_cannot_be_sent_is_the_nearest_that_can(tmp_path: Path, value: float, kept: int) -> None:
    """Floats, times before 1970 and microseconds are numbers still."""
    read = entry(tmp_path, sessionId="s", updatedAt=value)
    assert read.update_time.ToMilliseconds() == kept


@pytest.mark.parametrize("session_id", [None, "", 7, [], "\ud800"])
def test_an_entry_without_an_id_is_known_by_its_key(tmp_path: Path, session_id: object) -> None:
    """A repeated import recognises it by that, and no label claims an id."""
    read = entry(tmp_path, "Notes", sessionId=session_id)
    assert (read.source_id, dict(read.labels)) == ("Notes", {})


def test_an_id_that_is_too_long_is_known_by_its_digest(tmp_path: Path) -> None:
    """Always the same one, of the whole id."""
    ids = {entry(tmp_path, sessionId="x" * length).source_id for length in (129, 130, 129)}
    assert len(ids) == 2
    assert all(each.startswith("sha256:") and len(each) == 71 for each in ids)
    assert len(entry(tmp_path, "k" * 200).source_id) == 71


def test_a_name_is_cut_between_characters(tmp_path: Path) -> None:
    """A name is for people; the first 128 bytes of it will do, and a made-up one if there is no other."""
    assert entry(tmp_path, label="ü" * 100).display_name == "ü" * 64
    assert entry(tmp_path, label="  ", displayName="made up").display_name == "made up"
    assert entry(tmp_path, label="\ud800", displayName=5).display_name == ""


@pytest.mark.parametrize("value", ["null", "5", '"x"', "[]", "true"])
def test_an_entry_that_is_no_object_is_told(tmp_path: Path, value: str) -> None:
    """The others are read."""
    bad, good = found(tmp_path, f'{{"bad": {value}, "good": {{}}}}')
    assert (bad.raw_key, bad.entry, bad.problem) == ("bad", None, "the value of this key is not an object")
    assert good.entry is not None


@pytest.mark.parametrize(("raw", "problem"), [("\\ud800", "surrogate"), ("x" * 10_001, "10,001 characters")])
def test_a_key_that_cannot_be_sent_is_told(tmp_path: Path, raw: str, problem: str) -> None:
    """It is no text, or no key of anybody's."""
    (read,) = found(tmp_path, f'{{"{raw}": {{}}}}')
    assert read.entry is None
    assert problem in read.problem


def test_a_key_that_comes_twice_is_two_entries(tmp_path: Path) -> None:
    """JSON readers drop the first one in silence."""
    read = found(tmp_path, '{"k": {"sessionId": "a"}, "k": {"sessionId": "b"}}')
    assert [each.entry.source_id for each in read if each.entry] == ["a", "b"]


def test_every_bare_key_is_the_agents(tmp_path: Path) -> None:
    """The server decides what is bare; the agent is sent with all of them."""
    assert {
        each.entry.agent for each in found(tmp_path, '{"k": {}, "l": {}}', agent="ops") if each.entry
    } == {"ops"}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"k": ' + b"1" * 5_000 + b"}", "is not JSON"),
        (b"[]", "holds no JSON object"),
        (b"null", "holds no JSON object"),
        (b"\xff\xfe{}", "is not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_store_is_refused_with_a_sentence(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    """Whatever it is."""
    file = tmp_path / "sessions.json"
    file.write_bytes(content)
    with pytest.raises(BadFile, match=sentence) as refused:
        read_store(file)
    assert str(refused.value).endswith(".")


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """Its size is known without reading it."""
    with pytest.raises(BadFile, match="at most 5 can be read"):
        found(tmp_path, '{"k": {}}', bytes_max=5)
    with pytest.raises(BadFile, match="cannot be read"):
        read_store(tmp_path / "none.json")


def test_a_store_of_every_spelling_is_read_whole(tmp_path: Path) -> None:
    """Each entry, in the order of the file, with a byte order mark in front or not."""
    store = wild()
    file = store.write(tmp_path / "sessions.json")
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert [each.raw_key for each in read_store(file)] == [raw for raw, _ in store.entries]
