"""A history read once for all validators: who asked what, what the logs say, and where each thing is in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from sessionplane.proof.history.records import Call, Happening, History, Stream
from sessionplane.v1 import run_pb2
from sessionplane.v1.event_pb2 import Event

FINISHED = run_pb2.RUN_STATE_FINISHED


class Shown(NamedTuple):
    """Something that somebody was shown, and between which moments it was so."""

    since: float
    until: float
    what: Any
    where: str


class Facts:
    """What validators ask of a history."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.logs: Mapping[str, Sequence[Event]] = history.logs
        self.floors = {session_id: log[0].sequence - 1 for session_id, log in self.logs.items() if log}
        self.answered: dict[str, list[Call]] = defaultdict(list)
        self.refused: list[Call] = []
        self.first_called: dict[tuple[str, str], float] = {}
        for call in history.calls:
            if call.request_id:
                self.first_called.setdefault((call.method, call.request_id), call.called_at)
            if call.answer is not None:
                self.answered[call.method].append(call)
            elif call.refusal is not None:
                self.refused.append(call)
        self.run_events: dict[str, list[Event]] = defaultdict(list)
        for log in self.logs.values():
            for event in log:
                if event.run_id:
                    self.run_events[event.run_id].append(event)

    def calls(self, *methods: str) -> Iterator[Call]:
        """The answered calls of some methods."""
        for method in methods:
            yield from self.answered[method]

    def made(self, *methods: str) -> Iterator[Call]:
        """All calls of some methods, whatever became of them."""
        return (call for call in self.history.calls if call.method in methods)

    def since(self, call: Call) -> float:
        """When the effect of a call may have begun to be: a repeated request id means the first time."""
        return self.first_called.get((call.method, call.request_id), call.called_at)

    def event(self, session_id: str, sequence: int) -> Event | None:
        """The event of a log, if it is there."""
        index = sequence - 1 - self.floors.get(session_id, 0)
        log = self.logs.get(session_id, ())
        return log[index] if 0 <= index < len(log) else None

    def head(self, session_id: str) -> int:
        """The newest sequence of a log."""
        log = self.logs.get(session_id)
        return log[-1].sequence if log else 0

    def between(self, session_id: str, after: int, through: int) -> Sequence[Event]:
        """The events behind one sequence up to another."""
        floor = self.floors.get(session_id, 0)
        return self.logs.get(session_id, ())[max(0, after - floor) : max(0, through - floor)]

    def terminal_of(self, run_id: str) -> Event | None:
        """The event that ended a run."""
        return next((event for event in self.run_events[run_id] if event.HasField("run_terminal")), None)

    @cached_property
    def sessions_shown(self) -> list[Shown]:
        """Every session that an answer or a frame showed, with the moments between which it was read."""
        shown = [
            Shown(call.called_at, call.ended_at, call.answer.session, told(call))
            for call in self.history.calls
            if "session" in fields_of(call.answer) and call.answer.session.session_id
        ]
        for stream in self.history.streams:
            if followed(stream):
                first = stream.frames[0]
                shown.append(Shown(stream.opened_at, first.at, first.message.opened.session, told(stream)))
        return shown

    @cached_property
    def runs_shown(self) -> list[Shown]:
        """Every run that an answer or a frame showed."""
        shown = []
        for call in self.history.calls:
            for name in ("run", "active_run", "follow_up_run"):
                if name in fields_of(call.answer):
                    run = getattr(call.answer, name)
                    if run.run_id:
                        shown.append(Shown(call.called_at, call.ended_at, run, told(call)))
        for stream in self.history.streams:
            if stream.frames and stream.frames[0].message.opened.run.run_id:
                first = stream.frames[0]
                shown.append(Shown(stream.opened_at, first.at, first.message.opened.run, told(stream)))
        return shown

    @cached_property
    def heads(self) -> dict[str, list[tuple[float, int]]]:
        """session id -> how far its log was known to go, and since when."""
        heads: dict[str, list[tuple[float, int]]] = defaultdict(list)
        for shown in self.sessions_shown:
            heads[shown.what.session_id].append((shown.until, shown.what.head_sequence))
        for call in self.calls("PublishEvents"):
            for event in self.run_events[call.request.run_id][:1]:
                heads[event.session_id].append((call.ended_at, call.answer.last_sequence))
        for stream in self.history.streams:
            for frame in stream.frames:
                heads[followed(stream)].append((frame.at, frame.message.through_sequence))
        return heads

    def asleep(self, since: float, until: float) -> bool:
        """Say whether the machine slept between two moments."""
        naps = [
            each.at for each in self.history.incidents if each.what in {Happening.ASLEEP, Happening.AWAKE}
        ]
        return any(since < at < until for at in naps)

    @cached_property
    def epochs(self) -> dict[tuple[str, str], int]:
        """(run id, lease token) -> the epoch of that lease."""
        return {
            (call.answer.run.run_id, call.answer.lease.token): call.answer.lease.epoch
            for call in self.calls("ClaimRun")
            if call.answer.claimed
        }

    @cached_property
    def tokens(self) -> dict[str, set[tuple[str, int]]]:
        """resume token -> the places (session id, sequence) that it was given out for."""
        places: dict[str, set[tuple[str, int]]] = defaultdict(set)
        for stream in self.history.streams:
            session_id = followed(stream)
            for frame in stream.frames:
                places[frame.message.resume_token].add((session_id, frame.message.through_sequence))
        for call in self.history.calls:
            answer = call.answer
            if not {"resume_token", "session"} <= set(fields_of(answer)):
                continue
            if answer.resume_token and answer.session.session_id:
                places[answer.resume_token].add((answer.session.session_id, answer.session.head_sequence))
        return places


def followed(stream: Stream) -> str:
    """The session that a stream follows; empty if it was never opened."""
    if stream.frames and stream.frames[0].message.HasField("opened"):
        return str(stream.frames[0].message.opened.session.session_id)
    return ""


def fields_of(answer: Any) -> Collection[str]:
    """Name the fields that an answer may have; none if there was none."""
    return () if answer is None else list(answer.DESCRIPTOR.fields_by_name)


def told(thing: Call | Stream) -> str:
    """Name a call or a stream in a sentence."""
    if isinstance(thing, Call):
        return f"call {thing.number} ({thing.client} {thing.method})"
    return f"stream {thing.number} ({thing.client})"


def passes(stream: Stream, event: Event) -> bool:
    """Say whether a stream's filter lets an event through: a terminal passes all but another run's. A run that is
    named as the target is the one that the first frame shows: the id of an input means the run that it waits for.
    """
    wanted = stream.request.filter
    run_id = wanted.run_id
    if stream.request.run_id and stream.frames:
        run_id = stream.frames[0].message.opened.run.run_id
    if run_id and event.run_id != run_id:
        return False
    if wanted.kinds and event.kind not in wanted.kinds:
        return event.HasField("run_terminal")
    if wanted.custom_types and event.HasField("custom"):
        return event.custom.type in wanted.custom_types
    return True
