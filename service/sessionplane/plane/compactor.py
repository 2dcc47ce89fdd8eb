"""Retention at work: what is due, a bounded number of steps at a time, and what an operator asks for now.

Owns which large logs operators are still to be told of. Each step is a command of its own, and the next one is
submitted when it is done: what callers send meanwhile comes between two steps and waits for one at most.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from sessionplane.domain.limits import Limits
from sessionplane.live.loops import all_of
from sessionplane.plane import retention
from sessionplane.plane.context import with_request
from sessionplane.plane.retention import Compaction, SessionName, Step
from sessionplane.plane.sessions import SessionRef
from sessionplane.plane.sweeper import Execute
from sessionplane.store.contract import Extent, Topic

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """Where a log began before and after a compaction, and what that removed."""

    previous_floor_sequence: int
    floor_sequence: int
    removed: Extent


class Compactor:
    """The retention of one plane. `retain` is called every `sweep_ms`."""

    def __init__(self, execute: Execute, *, limits: Limits) -> None:
        self._execute = execute
        self._limits = limits
        # Logs that have grown large since the last look. Bounded by touched_sessions_max.
        self._large: set[SessionName] = set()

    def note_large(self, topic: Topic) -> None:
        """Remember that a log has grown large; the next look says so."""
        if len(self._large) < self._limits.touched_sessions_max:
            self._large.add(SessionName(topic.namespace, topic.subject))

    async def retain(self) -> None:
        """Look at what is due. What takes longer than a bounded number of steps is left to the next time."""
        await self._tell_large()
        steps = self._limits.compact_steps_max
        for name in await self._execute(retention.due):
            while steps > 0:
                steps -= 1
                if not (await self._look(name)).more:
                    break

    async def _look(self, name: SessionName) -> Step:
        """Do a step for a session. One that fails is put off, and hurts no other session."""
        looked = self._execute(with_request(retention.look, name))
        await all_of([looked], what="retention")
        if looked.exception() is not None:
            await self._execute(with_request(retention.put_off, name))
            return Step()
        step = looked.result()
        if step.damaged:
            log.error("log.damaged", session_id=name.session_id)
        return step

    async def compact(self, namespace: str, ref: SessionRef, older_than_ms: int | None) -> Compacted:
        """Remove now what ended longer ago; None stands for the window that the server keeps by itself. The steps that
        were done stay done, if the caller goes away or one of them fails.

        Raises SessionNotFound, KeyNotBound, Checksum and what `Execute` raises.
        """
        begun = await self._execute(
            lambda tx, context: retention.begin(tx, namespace, ref, older_than_ms, context)
        )
        removed = await self._all(begun.compaction)
        floor = begun.session.floor_sequence
        return Compacted(
            previous_floor_sequence=floor, floor_sequence=floor + removed.events, removed=removed
        )

    async def _all(self, compaction: Compaction) -> Extent:
        events = size = 0
        while (step := await self._execute(with_request(retention.compact, compaction))).more:
            events, size = events + step.removed.events, size + step.removed.bytes
        return Extent(events, size)

    async def _tell_large(self) -> None:
        """Tell operators of the logs that have grown large, while somebody may still do something about it."""
        large, self._large = self._large, set()
        for name in large:
            session = await self._execute(with_request(retention.find, name))
            if session is not None:
                log.warning(
                    "log.large",
                    session_id=name.session_id,
                    events=session.log_events,
                    bytes=session.log_size,
                    events_max=self._limits.log_events_max,
                    bytes_max=self._limits.log_bytes_max,
                )
