"""The model of a disk: what was flushed is always there, and everything else that may happen does happen."""

from __future__ import annotations

from random import Random

import pytest

from sessionplane.proof.powercut.disk import SECTOR, Disk, Happening, PowerCut
from sessionplane.proof.powercut.trace import (
    Create,
    FlushBegun,
    Flushed,
    NotUnderstood,
    Rename,
    Share,
    Truncate,
    Unlink,
    Write,
)

SEEDS = range(400)


def flush(name: str, number: int = 1) -> list[Happening]:
    """Flush a file, or the folder."""
    return [FlushBegun(number, name), Flushed(number)]


MADE = [Create("a"), *flush("")]


def disk(*happenings: Happening) -> Disk:
    """Make a disk to which this happened."""
    made = Disk()
    for each in happenings:
        made.apply(each)
    return made


def outcomes(*happenings: Happening) -> set[bytes | None]:
    """Return all that the file `a` may be after a cut; None: there is none."""
    made = disk(*happenings)
    return {None if (found := made.cut(Random(seed)).get("a")) is None else bytes(found) for seed in SEEDS}


def test_what_was_flushed_is_kept() -> None:
    """Whatever the seed, and whatever came later: bytes outside of an unflushed write never change."""
    written = [*MADE, Write("a", 0, b"x" * 2_000), *flush("a")]
    assert outcomes(*written) == {b"x" * 2_000}
    for found in outcomes(*written, Write("a", 700, b"y" * 600)):
        assert found is not None
        assert found[:700] == b"x" * 700
        assert found[1_300:] == b"x" * 700


def test_what_was_not_flushed_is_there_or_not_or_in_part_by_sectors() -> None:
    """Each sector for itself, at the sectors of the disk and not of the write."""
    begin, end = b"x" * SECTOR * 3, b"y" * SECTOR * 2
    found = outcomes(*MADE, Write("a", 0, begin), *flush("a"), Write("a", 100, end))
    whole = b"x" * 100 + end + b"x" * (SECTOR - 100)
    first_only = b"x" * 100 + b"y" * (SECTOR - 100) + b"x" * SECTOR * 2
    assert {begin, whole, first_only} <= found
    assert len(found) == 8


def test_a_later_write_may_be_kept_without_an_earlier_one() -> None:
    """Nothing but a flush orders them."""
    found = outcomes(*MADE, Write("a", 0, b"...."), *flush("a"), Write("a", 0, b"1"), Write("a", 1, b"2"))
    assert found == {b"....", b"1...", b".2..", b"12.."}


def test_a_file_may_grow_without_its_content() -> None:
    """Zeros, or whatever was there before; and it may not grow at all."""
    found = outcomes(*MADE, Write("a", 0, b"x" * 100), *flush("a"), Write("a", 100, b"y" * 100))
    assert {b"x" * 100, b"x" * 100 + b"y" * 100, b"x" * 100 + bytes(100)} <= found
    assert any(each and len(each) == 200 and not set(each[100:]) <= set(b"y\0") for each in found)


def test_a_new_size_may_be_lost() -> None:
    """A file that was cut short may be as long as before."""
    shorter = outcomes(*MADE, Write("a", 0, b"x" * 10), *flush("a"), Truncate("a", 4))
    assert shorter == {b"x" * 10, b"x" * 4}


def test_a_flush_covers_what_was_written_before_it_began() -> None:
    """Not what was written while it was under way, even if that ended before the flush did."""
    begun = [*MADE, Write("a", 0, b"1"), FlushBegun(1, "a"), Write("a", 1, b"2")]
    assert outcomes(*begun, Flushed(1)) >= {b"1", b"12"}
    assert b"" in outcomes(*begun)


def test_two_flushes_at_once_cover_what_each_of_them_saw() -> None:
    """The one that began later may end first."""
    begun = [*MADE, Write("a", 0, b"1"), FlushBegun(1, "a"), Write("a", 1, b"2"), FlushBegun(2, "a")]
    assert outcomes(*begun, Flushed(2)) == {b"12"}
    assert outcomes(*begun, Flushed(2), Write("a", 2, b"3"), Flushed(1)) >= {b"12", b"123"}


def test_a_new_file_is_lost_unless_its_folder_was_flushed() -> None:
    """However often its content was."""
    written = [Create("a"), Write("a", 0, b"x"), *flush("a")]
    assert outcomes(*written) == {None, b"x"}
    assert outcomes(*written, *flush("", 2)) == {b"x"}


def test_a_file_that_was_taken_away_may_come_back() -> None:
    """Until the folder is flushed; and a new one of its name may be lost with the old one back."""
    old = [*MADE, Write("a", 0, b"old"), *flush("a"), Unlink("a")]
    assert outcomes(*old) == {None, b"old"}
    assert outcomes(*old, *flush("", 2)) == {None}
    new = [*old, Create("a"), Write("a", 0, b"new"), *flush("a", 3)]
    assert outcomes(*new) == {None, b"old", b"new"}


def test_a_renamed_file_has_one_of_its_names() -> None:
    """Both never, none never."""
    made = disk(*MADE, Write("a", 0, b"x"), *flush("a"), Rename("a", "b"))
    assert {tuple(made.cut(Random(seed))) for seed in SEEDS} == {("a",), ("b",)}


def test_an_open_file_that_exists_is_as_it_was() -> None:
    """Opening makes no second one; emptying it is a change of size."""
    written = [*MADE, Write("a", 0, b"x"), *flush("a")]
    assert outcomes(*written, Create("a")) == {b"x"}
    assert outcomes(*written, Create("a", emptied=True)) == {b"x", b""}


def test_a_shared_file_holds_anything() -> None:
    """No call tells what stands in it."""
    found = outcomes(*MADE, Write("a", 3, b"\0"), Share("a"), *flush("a"))
    assert {b"", bytes(4)} < found
    assert len(found) > 3


def test_after_a_power_cut_the_disk_holds_what_was_left_and_nothing_else_comes_back() -> None:
    """It is the disk that the next start finds."""
    before = disk(Create("a"), Write("a", 0, b"x"), Create("b"))
    left = before.cut(Random(3))
    before.apply(PowerCut(3))
    assert all(before.cut(Random(seed)) == left for seed in SEEDS)
    assert before.whole() == left
    assert before.unsafe_count == 0


def test_the_same_seed_is_the_same_outcome() -> None:
    """So that a failure can be shown again."""
    happened = [
        Create("a"),
        Create("b"),
        *(Write(name, n * 700, b"x" * 900) for n in range(9) for name in "ab"),
    ]
    assert [disk(*happened).cut(Random(seed)) for seed in SEEDS] == [
        disk(*happened).cut(Random(seed)) for seed in SEEDS
    ]


def test_a_file_that_nobody_made_is_an_error() -> None:
    """Something was overlooked then."""
    with pytest.raises(NotUnderstood):
        disk(Write("a", 0, b"x"))
