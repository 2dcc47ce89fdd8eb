"""Retention under any sequence of runs, times, compactions and restarts, beside a list of everything that ever was.

After each step what is left of a log is the end of that list, byte for byte; it adds up to the session's row; nothing
that a run under way has said is missing; and the floor is where a model that fits on a page says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sessionplane.domain.errors import LogFull, RunQueueFull
from sessionplane.domain.events import Entry
from sessionplane.domain.limits import Limits
from sessionplane.domain.sessions import Session
from sessionplane.plane import retention
from tests.support.compacted import check_compacted
from tests.support.planes import NAMESPACE, Bench, ref

T = TypeVar("T")

pytestmark = pytest.mark.timeout(900)  # a failure is made small before it is shown

WINDOW_MS = 10_000
STEP = 3
KEYS = st.sampled_from(["a", "b"])
NUMBERS = st.integers(0, 30)


@dataclass
class Seen:
    """One run as the model knows it: its places in the log, and when it ended."""

    first: int
    terminal: int = 0
    ended_ms: int | None = None


@dataclass
class Story:
    """One session: everything it ever said, its runs, the floor, and when retention looks next."""

    entries: list[Entry] = field(default_factory=list)
    runs: dict[str, Seen] = field(default_factory=dict)
    floor: int = 0
    planned_ms: int | None = None

    def end(self, run_id: str, terminal: int, now_ms: int) -> None:
        """Take note of an end."""
        self.runs[run_id].terminal, self.runs[run_id].ended_ms = terminal, now_ms
        if self.planned_ms is None:
            self.planned_ms = now_ms + WINDOW_MS

    def kept(self, ended_by_ms: int) -> Seen | None:
        """The first run above the floor that is unfinished or ended later."""
        above = [run for run in self.runs.values() if run.first > self.floor]
        young = [run for run in above if run.ended_ms is None or run.ended_ms > ended_by_ms]
        return min(young, key=lambda run: run.first, default=None)

    def compact(self, ended_by_ms: int) -> None:
        """Move the floor as far as it may go."""
        kept = self.kept(ended_by_ms)
        if kept is None:
            self.floor = max([self.floor, *(run.terminal for run in self.runs.values())])
        elif self.floor or any(run.first < kept.first for run in self.runs.values()):
            self.floor = kept.first - 1

    def retain(self, now_ms: int) -> None:
        """Do what retention does when it has all the steps that it needs."""
        if self.planned_ms is None or self.planned_ms > now_ms:
            return
        self.compact(now_ms - WINDOW_MS)
        kept = self.kept(now_ms - WINDOW_MS)
        self.planned_ms = kept.ended_ms + WINDOW_MS if kept and kept.ended_ms is not None else None


class Retained(RuleBasedStateMachine):
    """Drives a plane and the list alike. Logs are far below their bounds here."""

    limits = Limits(log_window_ms=WINDOW_MS, compact_step_events_max=STEP, compact_steps_max=500)

    @initialize()
    def open(self) -> None:
        self.folder = TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.bench = Bench(Path(self.folder.name) / "plane.db", self.limits)
        self.stories: dict[str, Story] = {}
        self.wait(self._open())
        self.start("a")

    async def _open(self) -> None:
        self.bench.open()
        await self.bench.plane.start()
        self.began_ms = self.bench.clock.wall - self.bench.clock.monotonic

    def teardown(self) -> None:
        if hasattr(self, "bench"):
            self.wait(self.bench.store.close())
            self.loop.close()
            self.folder.cleanup()

    def wait(self, call: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(call)

    @property
    def now_ms(self) -> int:
        """The time by which the process judges: a restart takes it from the wall, and nothing else does."""
        return self.began_ms + self.bench.clock.monotonic

    def live(self) -> list[tuple[str, str]]:
        return [
            (key, run_id)
            for key, story in self.stories.items()
            for run_id, run in story.runs.items()
            if run.ended_ms is None
        ]

    def some_live(self, number: int) -> tuple[str, str]:
        live = self.live()
        return live[number % len(live)]

    @rule(key=KEYS)
    def start(self, key: str) -> None:
        story = self.stories.setdefault(key, Story())
        try:
            run = self.wait(self.bench.start(key)).run
        except (LogFull, RunQueueFull):
            return
        story.runs[run.run_id] = Seen(first=run.first_sequence)

    @precondition(lambda self: self.live())
    @rule(number=NUMBERS, texts=st.integers(0, 8), ends=st.booleans())
    def work(self, number: int, texts: int, ends: bool) -> None:
        """Claim the run of a lane, publish something, and perhaps end it."""
        key, _ = self.some_live(number)
        run_id = self.bench.session(key).active_run_id
        if run_id not in self.bench.tokens and self.wait(self.bench.claim(run_id, lease_ms=10**12)) is None:
            return
        self.say(run_id, texts)
        if ends:
            self.wait(self.bench.finish(run_id))
            self.note_end(key, run_id)

    def say(self, run_id: str, texts: int) -> None:
        self.wait(self.bench.publish(run_id, *("x" * texts)))

    def note_end(self, key: str, run_id: str) -> None:
        self.stories[key].end(run_id, self.bench.run(run_id).terminal_sequence, self.now_ms)

    @precondition(lambda self: self.live())
    @rule(number=NUMBERS)
    def drop_queued(self, number: int) -> None:
        """End a run that nobody has claimed, wherever it stands in line."""
        key, run_id = self.some_live(number)
        if run_id not in self.bench.tokens:
            self.wait(self.bench.interrupt(run_id=run_id))
            self.note_end(key, run_id)

    @precondition(lambda self: self.stories)
    @rule(number=NUMBERS)
    def idle_talk(self, number: int) -> None:
        """An event that belongs to no run."""
        key = sorted(self.stories)[number % len(self.stories)]
        try:
            self.wait(self.bench.interrupt(key, expected_run_id="nobody"))
        except LogFull:
            return

    @rule(ms=st.sampled_from([1, 1_000, WINDOW_MS // 2, WINDOW_MS - 1, WINDOW_MS, 3 * WINDOW_MS]))
    def pass_time(self, ms: int) -> None:
        self.bench.clock.advance(ms)

    @rule(ms=st.sampled_from([-100 * WINDOW_MS, 100 * WINDOW_MS]))
    def set_the_clock(self, ms: int) -> None:
        self.bench.clock.wall += ms

    @rule()
    def retain(self) -> None:
        self.wait(self.bench.plane.compactor.retain())
        for story in self.stories.values():
            story.retain(self.now_ms)

    @precondition(lambda self: self.stories)
    @rule(number=NUMBERS, age_ms=st.sampled_from([0, 1_000, WINDOW_MS, None]))
    def compact(self, number: int, age_ms: int | None) -> None:
        key = sorted(self.stories)[number % len(self.stories)]
        before = self.bench.session(key)
        done = self.wait(self.bench.plane.compactor.compact(NAMESPACE, ref(key), age_ms))
        self.stories[key].compact(self.now_ms - (WINDOW_MS if age_ms is None else age_ms))
        after = self.bench.session(key)
        assert (done.previous_floor_sequence, done.floor_sequence) == (
            before.floor_sequence,
            after.floor_sequence,
        )
        assert done.removed == (
            after.floor_sequence - before.floor_sequence,
            before.log_size - after.log_size,
        )

    @rule(steps=st.integers(0, 3))
    def restart(self, steps: int) -> None:
        """Stop in the middle of whatever retention is at: some steps are done, the rest is for the next process."""
        self.wait(self.crash(steps))
        for key, story in self.stories.items():
            self.check_progress(story, self.bench.session(key))
        self.began_ms = self.bench.clock.wall - self.bench.clock.monotonic

    def check_progress(self, story: Story, session: Session) -> None:
        """Some of what may go is gone, and none of what may not."""
        before = story.floor
        story.retain(self.now_ms)
        assert before <= session.floor_sequence <= story.floor
        story.floor, story.planned_ms = session.floor_sequence, session.compact_at_ms

    async def crash(self, steps: int) -> None:
        for name in await self.bench.do(retention.due):
            for _ in range(steps):
                await self.bench.do(retention.look, name)
        await self.bench.reopen()

    @invariant()
    def what_is_left_is_the_end_of_what_was(self) -> None:
        for key, story in self.stories.items():
            session = self.bench.session(key)
            self.read_on(story, session)
            left = self.left(session)
            assert left == story.entries[session.floor_sequence :]
            self.check_floor(story, session)
            unfinished = [run.first for run in story.runs.values() if run.ended_ms is None]
            assert session.floor_sequence < min(unfinished, default=session.head_sequence + 1)
            self.bench.plane.read(lambda tx, session=session: check_compacted(tx, session))

    def check_floor(self, story: Story, session: Session) -> None:
        assert session.floor_sequence == story.floor

    def left(self, session: Session) -> list[Entry]:
        return self.bench.plane.read(
            lambda tx: tx.entries(
                session.session_id,
                after=tx.floor(session.session_id).place,
                limit=100_000,
                bytes_max=1 << 30,
            )
        )

    def read_on(self, story: Story, session: Session) -> None:
        """Take over what was said since the last look, before it can go."""
        place = self.bench.plane.read(lambda tx: tx.place(session.session_id, len(story.entries)))
        assert place is not None, "something went that nobody has seen"
        story.entries += self.bench.plane.read(
            lambda tx: tx.entries(session.session_id, after=place, limit=100_000, bytes_max=1 << 30)
        )


class Bounded(Retained):
    """The same with logs that are always full: the floor moves when it must, and no log grows."""

    limits = Limits(
        log_window_ms=WINDOW_MS,
        compact_step_events_max=STEP,
        log_events_max=12,
        log_reserve_events_max=6,
        run_queue_max=2,
    )

    def say(self, run_id: str, texts: int) -> None:
        before = self.bench.run(run_id).last_run_sequence
        try:
            self.wait(self.bench.publish(run_id, *("x" * texts)))
        except LogFull:
            assert self.bench.run(run_id).last_run_sequence == before

    def check_progress(self, story: Story, session: Session) -> None:
        """The bounds may have moved the floor before."""

    def check_floor(self, story: Story, session: Session) -> None:
        """What may go beyond the reserve is what nobody is asked about: changes of state, claims and ends of the runs
        that were accepted.
        """
        story.floor, story.planned_ms = session.floor_sequence, session.compact_at_ms
        asked_for_nobody = 10 * (
            1 + len([run for run in story.runs.values() if run.first > session.floor_sequence])
        )
        assert session.log_events <= 12 + 6 + asked_for_nobody


STEPS = settings(max_examples=settings.default.max_examples // 8, stateful_step_count=30)

TestRetained = Retained.TestCase
TestRetained.settings = STEPS
TestBounded = Bounded.TestCase
TestBounded.settings = STEPS
