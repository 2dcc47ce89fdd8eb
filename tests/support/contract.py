"""What the tests of the stores' contract say to a store, and read of it, most of all of session 1."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sessionplane.domain.events import Entry, Place
from sessionplane.domain.inputs import Input
from sessionplane.domain.runs import Run
from sessionplane.domain.sessions import Session
from sessionplane.store.contract import ReadTx, Store, Tx
from tests.support.stores import newest
from tests.support.values import NAMESPACE, NOW_MS, delta, run, session_id

ONE = session_id(1)
START = Place(0, b"")
ALL = {"limit": 1_000, "bytes_max": 1 << 20}


async def add(store: Store, *values: Session | Run | Input) -> None:
    """Commit sessions, runs and injected inputs."""

    def use_case(tx: Tx) -> None:
        for value in values:
            if isinstance(value, Session):
                tx.add_session(value)
            elif isinstance(value, Input):
                tx.add_input(value)
            else:
                tx.add_run(value)

    await store.submit(use_case)


async def say(store: Store, *texts: str, number: int = 1) -> None:
    """Commit deltas of a run of session 1."""

    def use_case(tx: Tx) -> None:
        for text in texts:
            tx.append(ONE, delta(text), at_ms=NOW_MS, run_id=run(number).run_id)

    await store.submit(use_case)


def log(store: Store, after: Place = START) -> list[Entry]:
    """Return the log of session 1."""
    return store.read(lambda tx: tx.entries(ONE, after=after, **ALL))


def change_number(store: Store, number: int = 1) -> int:
    """Return the change number of a session."""
    found = store.read(lambda tx: tx.session(NAMESPACE, session_id(number)))
    assert found is not None
    return found.change_number


async def refused(store: Store, use_case: Callable[[Tx], object], error: type[Exception]) -> None:
    """Run a use case that must fail, and find that it left nothing behind."""
    before = store.read(snapshot)
    with pytest.raises(error):
        await store.submit(use_case)
    assert store.read(snapshot) == before


def snapshot(tx: ReadTx) -> list[object]:
    """Return what the tests of refusals could see change."""
    sessions = newest(tx).sessions
    logs = [tx.entries(each.session_id, after=START, **ALL) for each in sessions]
    runs = [tx.run(NAMESPACE, run(number).run_id) for number in range(5)]
    requests = [tx.request(NAMESPACE, "StartRun", each) for each in ("a", "b")]
    return [sessions, logs, runs, requests]
