"""A history read once for all validators: who asked what, what the logs say, and where each thing is in them."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from sessionplane.proof.history.records import Call, Happening, History, Stream
from sessionplane.proof.history.tables import UNDECIDED
from sessionplane.v1 import run_pb2
from sessionplane.v1.event_pb2 import Event

FINISHED = run_pb2.RUN_STATE_FINISHED

SIGNS = ("PublishEvents", "HeartbeatRun")
"""What a runner calls that keeps its lease."""


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
        self._made: dict[str, list[Call]] = defaultdict(list)
        self._of_run: dict[tuple[str, str], list[Call]] = defaultdict(list)
        self._first_called: dict[tuple[str, str], float] = {}
        for call in history.calls:
            self._made[call.method].append(call)
            self._of_run[call.method, getattr(call.request, "run_id", "")].append(call)
            if call.request_id:
                self._first_called.setdefault((call.method, call.request_id), call.called_at)

    def made(self, *methods: str) -> Iterator[Call]:
        """All calls of some methods, whatever became of them."""
        for method in methods:
            yield from self._made[method]

    def calls(self, *methods: str) -> Iterator[Call]:
        """The answered calls of some methods."""
        return (call for call in self.made(*methods) if call.answer is not None)

    def of_run(self, run_id: str, *methods: str) -> Iterator[Call]:
        """All calls of some methods that named a run, whatever became of them."""
        for method in methods:
            yield from self._of_run[method, run_id]

    def since(self, call: Call) -> float:
        """When the effect of a call may have begun to be: a repeated request id means the first time."""
        return self.first_called(call.method, call.request_id, call.called_at)

    def first_called(self, method: str, request_id: str, otherwise: float) -> float:
        """When a request id was first sent."""
        return self._first_called.get((method, request_id), otherwise)

    def events(self) -> Iterator[Event]:
        """Every event of every log."""
        for log in self.logs.values():
            yield from log

    def event(self, session_id: str, sequence: int) -> Event | None:
        """The event of a log, if it is there."""
        found = self.between(session_id, sequence - 1, sequence)
        return found[0] if found else None

    def head(self, session_id: str) -> int:
        """The newest sequence of a log."""
        log = self.logs.get(session_id)
        return log[-1].sequence if log else 0

    def between(self, session_id: str, after: int, through: int) -> Sequence[Event]:
        """The events behind one sequence up to another."""
        floor = self.floors.get(session_id, 0)
        return self.logs.get(session_id, ())[max(0, after - floor) : max(0, through - floor)]

    def is_whole(self, session_id: str) -> bool:
        """Whether a log begins with its first event."""
        return self.floors.get(session_id, 0) == 0

    @property
    def all_whole(self) -> bool:
        """Whether every log does."""
        return not any(self.floors.values())

    @cached_property
    def run_events(self) -> Mapping[str, Sequence[Event]]:
        """run id -> what the logs have of it."""
        found: dict[str, list[Event]] = defaultdict(list)
        for event in self.events():
            if event.run_id:
                found[event.run_id].append(event)
        return found

    @cached_property
    def _terminals(self) -> Mapping[str, Event]:
        ends = [event for event in self.events() if event.HasField("run_terminal")]
        return {event.run_id: event for event in reversed(ends)}

    def terminal_of(self, run_id: str) -> Event | None:
        """The event that ended a run: the first that says so."""
        return self._terminals.get(run_id)

    @cached_property
    def ends_seen(self) -> Mapping[str, float]:
        """run id -> when somebody first knew that it had ended."""
        seen = [(shown.until, shown.what.run_id) for shown in self.runs_shown if shown.what.state == FINISHED]
        for stream in self.history.streams:
            for frame in stream.frames:
                seen += [
                    (frame.at, e.run_id) for e in frame.message.batch.events if e.HasField("run_terminal")
                ]
        for call in self.history.calls:
            if call.refusal is not None and call.refusal.reason == "RUN_FINISHED":
                seen.append((call.ended_at, call.request.run_id))
        return {run_id: at for at, run_id in sorted(seen, reverse=True)}

    @cached_property
    def sessions_shown(self) -> Sequence[Shown]:
        """Every session that an answer or a frame showed, with the moments between which it was read."""
        shown = [
            Shown(call.called_at, call.ended_at, call.answer.session, told(call))
            for call in self.history.calls
            if "session" in fields_of(call.answer) and call.answer.session.session_id
        ]
        shown += [
            Shown(call.called_at, call.ended_at, session, told(call))
            for call in self.calls("ListSessions")
            for session in call.answer.sessions
        ]
        for stream in self.history.streams:
            if followed(stream):
                first = stream.frames[0]
                shown.append(Shown(stream.opened_at, first.at, first.message.opened.session, told(stream)))
        return shown

    @cached_property
    def runs_shown(self) -> Sequence[Shown]:
        """Every run that an answer or a frame showed."""
        shown = [
            Shown(call.called_at, call.ended_at, getattr(call.answer, name), told(call))
            for call in self.history.calls
            for name in ("run", "active_run", "follow_up_run")
            if name in fields_of(call.answer) and getattr(call.answer, name).run_id
        ]
        shown += [
            Shown(call.called_at, call.ended_at, run, told(call))
            for call in self.calls("ListRuns")
            for run in call.answer.runs
        ]
        for stream in self.history.streams:
            if stream.frames and stream.frames[0].message.opened.run.run_id:
                first = stream.frames[0]
                shown.append(Shown(stream.opened_at, first.at, first.message.opened.run, told(stream)))
        return shown

    @cached_property
    def _heads(self) -> Mapping[str, tuple[Sequence[float], Sequence[int]]]:
        """session id -> moments, and how far its log was known to go at each of them."""
        known: dict[str, list[tuple[float, int]]] = defaultdict(list)
        for shown in self.sessions_shown:
            known[shown.what.session_id].append((shown.until, shown.what.head_sequence))
        for call in self.calls("PublishEvents"):
            for event in self.run_events.get(call.request.run_id, ())[:1]:
                known[event.session_id].append((call.ended_at, call.answer.last_sequence))
        for stream in self.history.streams:
            for frame in stream.frames:
                known[followed(stream)].append((frame.at, frame.message.through_sequence))
        return {session_id: _rising(heads) for session_id, heads in known.items()}

    def known_head(self, session_id: str, before: float) -> int:
        """How far a log was known to go before a moment."""
        moments, heads = self._heads.get(session_id, ((), ()))
        at = bisect_left(moments, before)
        return heads[at - 1] if at else 0

    def last(self, what: Happening) -> float:
        """When something happened for the last time; 0 if it never did."""
        return max((each.at for each in self.history.incidents if each.what is what), default=0.0)

    def asleep(self, since: float, until: float) -> bool:
        """Say whether the machine slept between two moments."""
        naps = [
            each.at for each in self.history.incidents if each.what in {Happening.ASLEEP, Happening.AWAKE}
        ]
        return any(since < at < until for at in naps)

    @cached_property
    def leases(self) -> Mapping[tuple[str, str], int]:
        """(run id, lease token) -> the epoch of that lease."""
        return {
            (call.answer.run.run_id, call.answer.lease.token): call.answer.lease.epoch
            for call in self.calls("ClaimRun")
            if call.answer.claimed
        }

    def epoch(self, call: Call) -> int:
        """The epoch of the lease that a runner's call showed; 0 if nobody was told of it."""
        return self.leases.get((call.request.run_id, call.request.lease_token), 0)

    @cached_property
    def tokens(self) -> Mapping[str, set[tuple[str, int]]]:
        """resume token -> the places (session id, sequence) that it was given out for."""
        places: dict[str, set[tuple[str, int]]] = defaultdict(set)
        for stream in self.history.streams:
            session_id = followed(stream)
            for frame in stream.frames:
                places[frame.message.resume_token].add((session_id, frame.message.through_sequence))
        for call in self.history.calls:
            answer = call.answer
            if {"resume_token", "session"} <= set(fields_of(answer)) and answer.session.session_id:
                places[answer.resume_token].add((answer.session.session_id, answer.session.head_sequence))
        places.pop("", None)
        return places


def _rising(heads: Sequence[tuple[float, int]]) -> tuple[Sequence[float], Sequence[int]]:
    """Return moments in order, and for each the greatest head until then."""
    moments: list[float] = []
    greatest: list[int] = []
    for at, head in sorted(heads):
        moments.append(at)
        greatest.append(max(head, greatest[-1] if greatest else 0))
    return moments, greatest


def followed(stream: Stream) -> str:
    """The session that a stream follows; empty if it was never opened."""
    return str(stream.frames[0].message.opened.session.session_id) if stream.frames else ""


def fields_of(answer: Any) -> Collection[str]:
    """Name the fields that an answer may have; none if there was none."""
    return () if answer is None else list(answer.DESCRIPTOR.fields_by_name)


def told(thing: Call | Stream) -> str:
    """Name a call or a stream in a sentence."""
    if isinstance(thing, Call):
        return f"call {thing.number} ({thing.client} {thing.method})"
    return f"stream {thing.number} ({thing.client})"


def texts(call: Call) -> Sequence[str]:
    """What a publication says; clients give every one its own."""
    return [new.output_delta.text for new in call.request.events if new.output_delta.text]


def shows_known_run(answer: Any) -> bool:
    """Say whether an answer is about a run that was there before, and about that run's session."""
    duplicate = run_pb2.RUN_DISPOSITION_DUPLICATE
    return duplicate in {getattr(answer, "disposition", 0), getattr(answer, "run_disposition", 0)}


def refused(call: Call) -> bool:
    """Say whether a call was refused, and nothing else can have become of it."""
    return call.refusal is not None and call.refusal.reason not in UNDECIDED and not call.repeated


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
