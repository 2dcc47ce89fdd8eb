"""What clients were told, written down as they were told it, and the judgement of a log against it."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sessionplane.v1.event_pb2 import INPUT_STAGE_TAKEN, Event
from sessionplane.v1.run_pb2 import RunTerminal
from tests.support.story import check_log, sequences


@dataclass
class Ledger:
    """Everything that was acknowledged. `counts` says how much of each kind, so that a round can ask for traffic."""

    sessions: dict[str, str] = field(default_factory=dict)
    texts: dict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    terminals: dict[str, RunTerminal] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    taken: dict[str, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def resolved(self, key: str, session_id: str) -> None:
        """A key was said to have this session. It may never be said to have another."""
        assert self.sessions.setdefault(key, session_id) == session_id
        self._note("resolve")

    def started(self, run_id: str, session_id: str) -> None:
        """A run was said to be in this session."""
        assert self.runs.setdefault(run_id, session_id) == session_id
        self._note("start")

    def injected(self, input_id: str, session_id: str) -> None:
        """An input was said to wait for the active run of this session."""
        assert self.inputs.setdefault(input_id, session_id) == session_id
        self._note("inject")

    def took(self, input_id: str, run_id: str) -> None:
        """A runner took an input and its run was said to have ended with that."""
        self.taken[input_id] = run_id

    def published(self, kind: str, run_id: str, first: int, texts: Sequence[str]) -> None:
        """These texts were said to be on disk, from this run sequence on."""
        self.texts[run_id].update(enumerate(texts, start=first))
        self._note(kind)

    def finished(self, run_id: str, terminal: RunTerminal) -> None:
        """A run was said to have ended so."""
        assert self.terminals.setdefault(run_id, terminal) == terminal
        self._note("finish")

    async def more(self, kinds: Sequence[str], count: int) -> None:
        """Wait until so much more of each kind was acknowledged."""
        goal = {kind: self.counts[kind] + count for kind in kinds}
        while any(self.counts[kind] < least for kind, least in goal.items()):
            self._news.clear()
            await self._news.wait()

    def judge(self, logs: Mapping[str, Sequence[Event]]) -> None:
        """Hold the logs (session id -> events) against what was acknowledged. Raises AssertionError."""
        for log in logs.values():
            check_log(log)
            self._judge_runs(log)
        events = [event for log in logs.values() for event in log]
        self._judge_acknowledged(events)
        self._judge_inputs(events)

    def _judge_runs(self, log: Sequence[Event]) -> None:
        """Each run has its published events without a gap, and ended."""
        numbers: dict[str, list[int]] = defaultdict(list)
        for event in log:
            if event.run_id:
                numbers[event.run_id] += [event.run_sequence] if event.run_sequence else []
        for run_id, published in numbers.items():
            assert published == list(range(1, len(published) + 1)), f"{run_id} has {published}"
        ended = [event.run_id for event in log if event.HasField("run_terminal")]
        assert sorted(ended) == sorted(numbers), "a run without its terminal, or with two"

    def _judge_acknowledged(self, events: Sequence[Event]) -> None:
        """Everything that somebody was told is there."""
        texts: dict[str, dict[int, str]] = defaultdict(dict)
        ended: dict[str, RunTerminal] = {}
        homes: dict[str, str] = {}
        for event in events:
            homes.setdefault(event.run_id, event.session_id)
            if event.HasField("output_delta"):
                texts[event.run_id][event.run_sequence] = event.output_delta.text
            if event.HasField("run_terminal"):
                ended[event.run_id] = event.run_terminal
        for run_id, told in self.texts.items():
            assert told.items() <= texts[run_id].items(), f"{run_id} lost what was acknowledged"
        for run_id, terminal in self.terminals.items():
            assert ended[run_id] == terminal, f"{run_id} ended otherwise than was said"
        assert self.runs.items() <= homes.items(), "a run is not where it was said to be"

    def _judge_inputs(self, events: Sequence[Event]) -> None:
        """Each input was taken once, or became a run that ended once: never both, and never neither."""
        taken = [
            (event.input_recorded.input_id, event.run_id)
            for event in events
            if event.input_recorded.stage == INPUT_STAGE_TAKEN
        ]
        ended = [event.run_id for event in events if event.HasField("run_terminal")]
        became = [input_id for input_id, _ in taken] + [run_id for run_id in ended if run_id in self.inputs]
        assert sorted(became) == sorted(self.inputs), "an input that was lost, or that came twice"
        assert self.taken.items() <= dict(taken).items(), "an input was not taken by whom it was said to be"

    def _note(self, kind: str) -> None:
        self.counts[kind] += 1
        self._news.set()


class View:
    """What one subscriber saw of one session."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._grown = asyncio.Event()

    def saw(self, event: Event) -> None:
        """An event came."""
        self.events.append(event)
        self._grown.set()

    async def reach(self, sequence: int) -> None:
        """Wait until it has seen this much."""
        while not self.events or self.events[-1].sequence < sequence:
            self._grown.clear()
            await self._grown.wait()

    def judge(self, log: Sequence[Event]) -> None:
        """Assert that it saw the log, each event once, in order, and as it is kept."""
        assert sequences(self.events) == sequences(log)
        assert self.events == list(log)
