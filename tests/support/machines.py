"""A plane and its model side by side: how a state machine calls both, and the calls that are about keys."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from sessionplane.domain.errors import SessionPlaneError
from sessionplane.domain.freshness import Freshness, FreshnessSettings, Idle
from sessionplane.domain.limits import Limits
from sessionplane.domain.runs import RunDisposition, RunPolicy
from sessionplane.domain.sessions import (
    ConflictPolicy,
    EndedPolicy,
    Interaction,
    MissingPolicy,
    Visibility,
)
from tests.support.model import Model
from tests.support.model_rows import (
    FIRST_MAX,
    GRACE_MS,
    IDLE_MS,
    LINE_MAX,
    LINGER_MS,
    QUIET_MS,
    RUN_MS,
    START_MS,
    SWEEP_MS,
    Answer,
    ModelSession,
    Resolving,
)
from tests.support.planes import NAMESPACE, Bench, ref

T = TypeVar("T")

LIMITS = Limits(
    run_queue_max=LINE_MAX,
    run_first_max=FIRST_MAX,
    interrupt_grace_ms_default=GRACE_MS,
    detach_linger_ms=LINGER_MS,
    sweep_ms=SWEEP_MS,
    detached_ttl_ms=QUIET_MS,
)
FRESHNESS = FreshnessSettings(policies={"custom": Freshness(idle=Idle(minutes=IDLE_MS // 60_000))})
KEYS = st.sampled_from(["a", "cron:b"])
NUMBERS = st.integers(0, 30)
COMERS = st.lists(
    st.sampled_from(["user", "user", "run", "timer", "machine", "reader"]), min_size=2, max_size=5
)


class Machine(RuleBasedStateMachine):
    """Drives a plane and the model alike."""

    @initialize()
    def open(self) -> None:
        self.folder = TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.bench = Bench(Path(self.folder.name) / "plane.db", LIMITS, FRESHNESS)
        self.model = Model()
        self.started = 0
        self.session_ids: dict[str, str] = {}
        self.wait(self._open())
        self.start("a")

    async def _open(self) -> None:
        self.bench.open()
        await self.bench.plane.start()

    def teardown(self) -> None:
        if hasattr(self, "bench"):
            self.wait(self.bench.store.close())
            self.loop.close()
            self.folder.cleanup()

    def wait(self, call: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(call)

    def expect(self, answer: Answer, call: Coroutine[Any, Any, Any]) -> Any:
        """Make a call that must be answered, or refused without a trace, as the model says."""
        if not isinstance(answer, str):
            return self.wait(self.bench.refused(answer, call))
        answered = self.wait(call)
        for key, name in self.model.keys.items():
            self.session_ids.setdefault(name, self.bench.session(key).session_id)
        return answered

    def where(self, name: str) -> str:
        """A key as it is, or the id of a session that the model has a name for."""
        return self.session_ids.get(name, name)

    def some_session(self, number: int) -> ModelSession:
        """Choose a session, whether its key is still its own or not."""
        return list(self.model.sessions.values())[-1 - number % len(self.model.sessions)]

    def some_run(self, number: int, *states: str) -> tuple[str, str]:
        """Choose a run, mostly one in these states, with the token that its last runner has."""
        wanted = [run.run_id for run in self.model.runs.values() if run.state in states]
        choice = wanted if wanted and number % 5 < 4 else list(self.model.runs)
        run_id = choice[-1 - number % len(choice)]
        return run_id, self.bench.tokens.get(run_id, "none")

    def new_id(self) -> str:
        self.started += 1
        return f"run-{self.started}"

    def start(self, key: str, policy: RunPolicy = RunPolicy.ENQUEUE) -> None:
        run_id = self.new_id()
        answer = self.model.start(key, run_id, policy.value)
        call = self.bench.start(
            self.where(key), run_id=run_id, policy=policy, start_timeout_ms=START_MS, run_timeout_ms=RUN_MS
        )
        started = self.expect(answer, call)
        if not isinstance(started, SessionPlaneError):
            assert (started.disposition, started.input_id) == (answer, run_id)
            session_id = self.session_ids[self.model.asked[run_id][2]]
            assert started.view.session.session_id == session_id


class KeyMachine(Machine):
    """The calls that are about keys."""

    @rule(key=KEYS)
    def resolve(self, key: str) -> None:
        self.resolve_as(key, Resolving())

    @rule(
        key=KEYS,
        missing=st.sampled_from(MissingPolicy),
        conflict=st.sampled_from(ConflictPolicy),
        ended=st.sampled_from(EndedPolicy),
        number=st.none() | NUMBERS,
        system=st.booleans(),
        hidden=st.booleans(),
    )
    def resolve_by_policy(
        self,
        key: str,
        missing: MissingPolicy,
        conflict: ConflictPolicy,
        ended: EndedPolicy,
        number: int | None,
        system: bool,
        hidden: bool,
    ) -> None:
        expected = self.some_session(number).name if number is not None else ""
        self.resolve_as(key, Resolving(missing, conflict, ended, expected, system, hidden))

    def resolve_as(self, key: str, wish: Resolving) -> None:
        before = self.model.keys.get(key)
        answer = self.model.resolve(key, wish)
        call = self.bench.resolve(
            key,
            missing=MissingPolicy(wish.missing),
            conflict=ConflictPolicy(wish.conflict),
            ended=EndedPolicy(wish.ended),
            expected_session_id=self.session_ids.get(wish.expected, ""),
            interaction=Interaction.SYSTEM if wish.system else Interaction.USER,
            visibility=Visibility.INTERNAL if wish.hidden else Visibility.VISIBLE,
        )
        found = self.expect(answer, call)
        if isinstance(found, SessionPlaneError):
            return
        session = self.model.sessions[self.model.keys[key]]
        assert (found.resolution, found.view.session.session_id) == (answer, self.session_ids[session.name])
        previous = session.previous if session.name != before else ""
        assert found.previous_session_id == self.session_ids.get(previous, "")

    @rule(key=st.sampled_from(["a", "a", "cron:b"]), comers=COMERS)
    def come_now_and_then(self, key: str, comers: list[str]) -> None:
        """Users and machinery come one after the other, with most of the time between them that makes a session stale,
        and no sweep: what is known of them is not on disk.
        """
        for comer in comers:
            if comer == "run":
                self.start(key)
            elif comer == "reader":
                self.bench.plane.read(lambda tx: tx.session_by_key(NAMESPACE, ref(key).key))
            else:
                self.resolve_as(key, Resolving(system=comer == "timer", hidden=comer == "machine"))
            self.model.wait(IDLE_MS * 2 // 3)
            self.bench.clock.advance(IDLE_MS * 2 // 3)

    @rule(key=KEYS, number=st.none() | NUMBERS, expected=st.none() | NUMBERS)
    def reset(self, key: str, number: int | None, expected: int | None) -> None:
        """Of a key, or of some session by its id."""
        where = key if number is None else self.some_session(number).name
        name = "" if expected is None else self.some_session(expected).name
        answer = self.model.reset(where, name)
        self.expect(answer, self.bench.reset(self.where(where), expected=self.where(name)))

    @rule(key=KEYS, number=st.none() | NUMBERS)
    def delete(self, key: str, number: int | None) -> None:
        where = key if number is None else self.some_session(number).name
        answer = self.model.delete(where)
        gone = self.expect(answer, self.bench.delete(self.where(where)))
        assert gone.deleted is (answer == "deleted")

    @rule(number=NUMBERS, label=st.sampled_from("xy"), fresh=st.sampled_from([True, True, False]))
    def update(self, number: int, label: str, fresh: bool) -> None:
        name = self.some_session(number).name
        answer = self.model.update(name, {"label": label}, fresh=fresh)
        etag = {} if fresh else {"etag": "0"}
        self.expect(answer, self.bench.update(self.where(name), labels={"label": label}, **etag))

    @rule(number=NUMBERS)
    def start_again(self, number: int) -> None:
        """What is known is a duplicate, a run or an input, whatever became of its session."""
        run_id = list(self.model.asked)[-1 - number % len(self.model.asked)]
        where, policy, name = self.model.asked[run_id]
        before = self.bench.contents()
        again = self.wait(self.bench.start(self.where(where), run_id=run_id, policy=RunPolicy(policy)))
        assert (again.disposition, again.input_id) == (RunDisposition.DUPLICATE, run_id)
        assert again.view.session.session_id == self.session_ids[name]
        assert self.bench.contents() == before

    @rule(number=NUMBERS)
    def start_by_id(self, number: int) -> None:
        """In the session that is meant, however old; not if it is final or gone."""
        self.start(self.some_session(number).name)
