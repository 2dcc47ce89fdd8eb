"""The tail: slices that are shared, bounded and never lie about what they hold."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sessionplane.domain.events import Custom, Entry, EventKind, Place
from sessionplane.domain.limits import Limits
from sessionplane.domain.streams import EVERYTHING, Filter
from sessionplane.live.tail import Slice, Tail, Tails, bounded
from sessionplane.store import codec
from tests.support.logs import SESSION_ID, Log, joined

LIMITS = Limits(tail_events_max=8, tail_bytes_max=10_000, batch_events_max=4, batch_bytes_max=5_000)
ONE_RUN = Filter(run_id="run_1")


class Listener:
    """A follower that counts."""

    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def tail() -> Tail:
    return Tail(0, LIMITS, codec.custom_type)


def test_a_slice_holds_what_lies_behind_its_place(log: Log, tail: Tail) -> None:
    """A slice is the joined bytes of the entries behind a place, up to the newest."""
    tail.grow(log.texts(3))
    piece = tail.slice(log.place(1), EVERYTHING)
    assert piece is not None
    assert (piece.after, piece.through, piece.count) == (log.place(1), log.place(3), 2)
    assert piece.data == joined(log.entries[1:])


def test_shared_slices_are_bounded(log: Log) -> None:
    """However many places and filters followers come with, a quiet tail keeps no more copies than it may hold."""
    limits = replace(LIMITS, tail_events_max=64, tail_bytes_max=2_000)
    tail = Tail(0, limits, codec.custom_type)
    tail.grow(log.texts(8))
    for number in range(200):
        assert tail.slice(log.place(number % 8), Filter(run_id=f"run_{number}")) is not None
        assert tail.slice(log.place(number % 8), EVERYTHING) is not None
        assert len(tail._slices) <= limits.tail_events_max
        assert sum(len(piece.data) for piece in tail._slices.values()) <= limits.tail_bytes_max


def test_followers_at_one_place_share_a_slice(log: Log, tail: Tail) -> None:
    """Two followers at the same place with the same filter get the very same object, others do not."""
    tail.grow(log.texts(3))
    shared = tail.slice(log.place(1), EVERYTHING)
    assert tail.slice(log.place(1), Filter()) is shared
    assert tail.slice(log.place(0), EVERYTHING) is not shared
    assert tail.slice(log.place(1), ONE_RUN) is not shared


def test_growing_makes_new_slices(log: Log, tail: Tail) -> None:
    """A slice that ended at the head is not handed out again once the tail has grown."""
    tail.grow(log.texts(2))
    before = tail.slice(log.place(1), EVERYTHING)
    tail.grow(log.texts(1))
    after = tail.slice(log.place(1), EVERYTHING)
    assert before is not None
    assert after is not None
    assert (before.through, after.through) == (log.place(2), log.place(3))


@pytest.mark.parametrize("sequence", [0, 1])
def test_a_place_before_the_tail_is_the_logs_business(log: Log, tail: Tail, sequence: int) -> None:
    """The tail answers None for a place whose next entry it does not hold."""
    log.texts(2)
    tail.grow(log.texts(2))
    assert tail.slice(log.place(sequence), EVERYTHING) is None
    assert tail.slice(log.place(2), EVERYTHING) is not None


def test_there_is_nothing_behind_the_head(log: Log, tail: Tail) -> None:
    """The tail answers None at its head, and when it is empty."""
    assert tail.slice(Place(0, b""), EVERYTHING) is None
    tail.grow(log.texts(2))
    assert tail.slice(log.head, EVERYTHING) is None


def test_a_head_that_is_ahead_of_the_entries_is_the_logs_business(log: Log, tail: Tail) -> None:
    """A commit that the loop has not been told of yet may raise the head; what it brought is read from the log."""
    tail.grow(log.texts(2))
    told_later = log.texts(2)
    tail.head = 4
    assert tail.slice(log.place(2), EVERYTHING) is None
    tail.grow(told_later)
    piece = tail.slice(log.place(2), EVERYTHING)
    assert piece is not None
    assert piece.through == log.place(4)


def test_the_head_never_goes_back(log: Log, tail: Tail) -> None:
    """What a commit brings late does not move a head that was read from the log."""
    entries = log.texts(3)
    tail.head = 3
    tail.grow(entries[:2])
    assert tail.head == 3


def test_the_tail_is_bounded_by_events(log: Log, tail: Tail) -> None:
    """Beyond tail_events_max the oldest entries go, and the newest stay."""
    for _ in range(30):
        tail.grow(log.texts(1))
        assert len(tail._entries) <= LIMITS.tail_events_max
        assert tail._entries[-1] == log.entries[-1]


def test_the_tail_is_bounded_by_bytes(log: Log, tail: Tail) -> None:
    """Beyond tail_bytes_max the oldest entries go, and a single entry that is larger is not kept."""
    for _ in range(30):
        tail.grow(log.texts(1, size=2_000))
        assert sum(len(entry.data) for entry in tail._entries) == tail._bytes <= LIMITS.tail_bytes_max
    tail.grow(log.texts(1, size=LIMITS.tail_bytes_max + 1))
    assert tail._entries == []
    assert tail._bytes == 0


def test_a_gap_empties_the_tail_first(log: Log, tail: Tail) -> None:
    """Entries that do not follow on the last ones replace them, so that no slice has a hole."""
    tail.grow(log.texts(2))
    log.texts(1)
    tail.grow(log.texts(2))
    assert tail.slice(log.place(1), EVERYTHING) is None
    piece = tail.slice(log.place(3), EVERYTHING)
    assert piece is not None
    assert piece.data == joined(log.entries[3:])


def test_a_slice_fits_one_frame_by_events(log: Log, tail: Tail) -> None:
    """A slice holds at most batch_events_max entries."""
    tail.grow(log.texts(6))
    piece = tail.slice(log.place(0), EVERYTHING)
    assert piece is not None
    assert (piece.count, piece.through) == (4, log.place(4))


def test_a_slice_fits_one_frame_by_bytes(log: Log) -> None:
    """Entries are cut before the one that would exceed batch_bytes_max, and a larger one goes alone."""
    sizes = [2_000, 2_000, 2_000, 9_000, 10]
    for size in sizes:
        log.texts(1, size=size)
    assert bounded(log.entries, LIMITS) == log.entries[:2]
    assert bounded(log.entries[2:], LIMITS) == log.entries[2:3]
    assert bounded(log.entries[3:], LIMITS) == log.entries[3:4]
    assert bounded(log.entries[4:], LIMITS) == log.entries[4:]


def test_a_filter_drops_events_but_accounts_for_them(log: Log) -> None:
    """A filtered slice has fewer events and the same range."""
    log.text("a", run_id="run_1")
    log.text("b", run_id="run_2")
    log.terminal("run_2")
    piece = Slice(log.place(0), log.entries, ONE_RUN, codec.custom_type)
    assert (piece.count, piece.data) == (1, log.entries[0].data)
    assert piece.through == log.place(3)


def test_marks_do_not_depend_on_the_filter(log: Log) -> None:
    """Events that decide how a stream goes on are marks, whether or not they are delivered."""
    log.input("run_2")
    log.text("b", run_id="run_2")
    log.terminal("run_2")
    wanted = Filter(kinds=frozenset({EventKind.CUSTOM}), run_id="run_1")
    piece = Slice(log.place(0), log.entries, wanted, codec.custom_type)
    assert piece.count == 0
    assert [mark.sequence for mark in piece.marks] == [1, 3]


def test_a_slice_is_cut_behind_a_mark(log: Log) -> None:
    """The part up to a sequence ends with it, and at the end it is the slice itself."""
    log.text("a")
    log.terminal("run_1")
    log.texts(2)
    piece = Slice(log.place(0), log.entries, EVERYTHING, codec.custom_type)
    part = piece.until(2, EVERYTHING)
    assert (part.through, part.data) == (log.place(2), joined(log.entries[:2]))
    assert piece.until(4, EVERYTHING) is piece


class Reader:
    """Reads types, and keeps whose."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __call__(self, entry: Entry) -> str:
        self.read.append(entry.sequence)
        return codec.custom_type(entry)


CALLS = Filter(custom_types=frozenset({"tool.call"}))
PICTURES = Filter(custom_types=frozenset({"picture"}))


def test_a_type_is_read_once_for_all_who_filter_by_it(log: Log) -> None:
    """However many filters and places ask for the type of an event, its bytes are looked into once."""
    reader = Reader()
    tail = Tail(0, LIMITS, reader)
    for name in ("tool.call", "picture", "tool.call"):
        log.add(Custom(type=name), run_id="run_1")
    log.text("between")
    tail.grow(log.entries)
    for wanted, counts in ((CALLS, (3, 2)), (PICTURES, (2, 2))):
        pieces = [tail.slice(log.place(sequence), wanted) for sequence in (0, 1)]
        assert tuple(piece.count for piece in pieces if piece) == counts
    assert sorted(reader.read) == [1, 2, 3]


def test_no_type_is_read_for_who_does_not_filter_by_it(log: Log) -> None:
    """Filters that know nothing of types cost nothing more than they did, nor does an event that they drop anyway."""
    reader = Reader()
    tail = Tail(0, LIMITS, reader)
    log.add(Custom(type="tool.call"), run_id="run_1")
    tail.grow(log.entries)
    elsewhere = replace(CALLS, run_id="run_2")
    for wanted in (EVERYTHING, ONE_RUN, Filter(kinds=frozenset({EventKind.CUSTOM})), elsewhere):
        assert tail.slice(log.place(0), wanted) is not None
    assert reader.read == []


def test_what_a_tail_drops_it_forgets_the_types_of(log: Log) -> None:
    """The types that are remembered are of entries that are there, after trimming and after a gap."""
    tail = Tail(0, LIMITS, codec.custom_type)
    for _ in range(30):
        tail.grow([log.add(Custom(type="tool.call"))])
        tail.slice(log.place(len(log.entries) - 1), CALLS)
        assert set(tail._types) <= {entry.sequence for entry in tail._entries}
    log.add(Custom(type="lost"))
    tail.grow([log.add(Custom(type="tool.call"))])
    assert tail._types == {}


def test_growing_wakes_all_followers(log: Log) -> None:
    """Each follower of the session is woken by a commit of it, and by no other."""
    tails = Tails(LIMITS, codec.custom_type)
    one, two, other = Listener(), Listener(), Listener()
    tails.follow(SESSION_ID, one)
    tails.follow(SESSION_ID, two)
    tails.follow("ses_other", other)
    tails.grow(SESSION_ID, log.texts(2))
    assert (one.woken, two.woken, other.woken) == (1, 1, 0)


def test_followers_are_woken_in_the_order_in_which_they_came(log: Log) -> None:
    """Who came first is served first, in every process alike: a run that is repeated must not depend on hashes."""
    woken: list[int] = []

    class Numbered:
        def __init__(self, number: int) -> None:
            self.number = number

        def wake(self) -> None:
            woken.append(self.number)

    tails = Tails(LIMITS, codec.custom_type)
    for number in range(40):
        tails.follow(SESSION_ID, Numbered(number))
    tails.grow(SESSION_ID, log.texts(1))
    assert woken == list(range(40))


def test_what_nobody_follows_is_not_kept(log: Log) -> None:
    """A session without followers has no tail, before the first and after the last."""
    tails = Tails(LIMITS, codec.custom_type)
    tails.grow(SESSION_ID, log.texts(1))
    follower = Listener()
    assert tails.follow(SESSION_ID, follower).head == 0
    tails.grow(SESSION_ID, log.texts(1))
    tails.leave(SESSION_ID, follower)
    assert tails.follow(SESSION_ID, follower).head == 0


def test_followed_sessions_are_counted() -> None:
    """A session has one tail however many follow it, and leaving twice counts once."""
    tails = Tails(LIMITS, codec.custom_type)
    one, two = Listener(), Listener()
    tails.follow(SESSION_ID, one)
    tails.follow(SESSION_ID, two)
    assert len(tails) == 1
    tails.leave(SESSION_ID, one)
    tails.leave(SESSION_ID, one)
    assert len(tails) == 1
    tails.leave(SESSION_ID, two)
    assert len(tails) == 0


def test_a_small_tail_still_serves_what_fits() -> None:
    """With room for one entry the tail serves the newest one."""
    log, tail = Log(), Tail(0, replace(LIMITS, tail_events_max=1), codec.custom_type)
    tail.grow(log.texts(3))
    piece = tail.slice(log.place(2), EVERYTHING)
    assert piece is not None
    assert piece.data == log.entries[2].data
