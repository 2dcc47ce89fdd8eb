"""What every store promises of commits: their order, what a failure leaves, who hears of them, and what is read."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from sessionplane.domain.errors import RunNotFound
from sessionplane.domain.events import Place
from sessionplane.store.contract import Committed, ReadTx, Store, Topic, Tx
from tests.support.contract import ONE, START, add, log, refused, say
from tests.support.stores import ClosableStore
from tests.support.values import NAMESPACE, NOW_MS, created, session, session_id


class TestCommits:
    async def test_commands_run_in_the_order_of_submission(self, store: Store) -> None:
        """And their futures are done in that order."""
        done: list[int] = []
        numbers = iter(range(50))
        futures = [store.submit(lambda _: next(numbers)) for _ in range(50)]
        for future in futures:
            future.add_done_callback(lambda each: done.append(each.result()))
        assert await asyncio.gather(*futures) == list(range(50))
        assert done == list(range(50))

    async def test_a_failing_use_case_hurts_no_other(self, store: Store) -> None:
        """Of three in one commit the middle one fails, with what it raised, and leaves nothing."""
        await add(store, session(1))

        def failing(tx: Tx) -> None:
            tx.append(ONE, created(), at_ms=NOW_MS)
            tx.add_session(session(2))
            raise RunNotFound(run_id="r")

        results = await asyncio.gather(
            store.submit(lambda tx: tx.append(ONE, created(), at_ms=NOW_MS)),
            store.submit(failing),
            store.submit(lambda tx: tx.append(ONE, created(), at_ms=NOW_MS)),
            return_exceptions=True,
        )
        assert [results[0], results[2]] == [1, 2]
        assert isinstance(results[1], RunNotFound)
        assert store.read(lambda tx: tx.session(NAMESPACE, session_id(2))) is None
        assert len(log(store)) == 2

    async def test_a_use_case_that_raises_stop_iteration_fails_alone(self, store: Store) -> None:
        """A future cannot carry it, and those behind it must still be told."""
        failing, behind = store.submit(lambda _: next(iter(()))), store.submit(lambda _: 1)
        with pytest.raises(RuntimeError):
            await failing
        assert await behind == 1

    async def test_the_listener_hears_of_a_commit_before_its_callers(self, store: Store) -> None:
        """With the entries of each session in order, and the topics as often as they were to be woken."""
        heard: list[Committed] = []
        await add(store, session(1))
        store.on_commit(heard.append)
        topic = Topic("session", NAMESPACE, ONE)

        def use_case(tx: Tx) -> None:
            tx.append(ONE, created(), at_ms=NOW_MS)
            tx.wake(topic)
            tx.append(ONE, created(), at_ms=NOW_MS)
            tx.wake(topic)

        future = store.submit(use_case)
        future.add_done_callback(lambda _: heard.append(Committed(entries={}, topics=())))
        await future
        assert heard[0] == Committed(entries={ONE: log(store)}, topics=(topic, topic))
        assert len(heard) == 2

    async def test_the_listener_hears_nothing_of_what_was_undone(self, store: Store) -> None:
        """Neither entries, topics nor changed sessions of a failed use case, and of an empty commit nothing at all."""
        heard: list[Committed] = []
        await add(store, session(1))
        store.on_commit(heard.append)

        def failing(tx: Tx) -> None:
            tx.append(ONE, created(), at_ms=NOW_MS)
            tx.wake(Topic("session", NAMESPACE, ONE))
            tx.save_session(session(1))
            raise RunNotFound

        await refused(store, failing, RunNotFound)
        assert heard == []

    async def test_undo_runs_for_a_failed_use_case_only_and_backwards(self, store: Store) -> None:
        """Memory that mirrors rows goes back the way it came, on the writer's thread."""
        undone: list[tuple[str, int]] = []

        def noting(name: str, *, fails: bool) -> Callable[[Tx], None]:
            def use_case(tx: Tx) -> None:
                tx.on_undo(lambda: undone.append((f"{name} 1", threading.get_ident())))
                tx.on_undo(lambda: undone.append((f"{name} 2", threading.get_ident())))
                if fails:
                    raise RunNotFound

            return use_case

        await store.submit(noting("good", fails=False))
        with pytest.raises(RunNotFound):
            await store.submit(noting("bad", fails=True))
        writer = await store.submit(lambda _: threading.get_ident())
        assert undone == [("bad 2", writer), ("bad 1", writer)]

    async def test_giving_up_a_future_does_not_take_the_command_back(self, store: Store) -> None:
        """A caller that went away changes nothing for the rows."""
        await add(store, session(1))
        store.submit(lambda tx: tx.append(ONE, created(), at_ms=NOW_MS)).cancel()
        await store.submit(lambda _: None)
        assert len(log(store)) == 1

    async def test_what_a_caller_that_went_away_committed_is_told_to_others(
        self, store: ClosableStore
    ) -> None:
        """Telling belongs to the commit, not to whoever waits for it: nobody may be left to wait."""
        heard: list[Committed] = []
        await add(store, session(1))
        store.on_commit(heard.append)
        topic = Topic("session", NAMESPACE, ONE)

        def use_case(tx: Tx) -> None:
            tx.append(ONE, created(), at_ms=NOW_MS)
            tx.wake(topic)

        store.submit(use_case).cancel()
        await store.close()
        assert [(len(each.entries[ONE]), each.topics) for each in heard] == [(1, (topic,))]

    async def test_reading_and_scanning_see_what_is_committed(self, store: Store) -> None:
        """Both give the query's result, or raise what it raises."""
        await add(store, session(1))
        assert await store.scan(lambda tx: tx.session(NAMESPACE, ONE)) == store.read(
            lambda tx: tx.session(NAMESPACE, ONE)
        )

        def failing(_: ReadTx) -> None:
            raise RunNotFound

        with pytest.raises(RunNotFound):
            store.read(failing)
        with pytest.raises(RunNotFound):
            await store.scan(failing)
        assert store.read(lambda tx: tx.session(NAMESPACE, ONE)) is not None

    async def test_a_scan_is_one_snapshot(self, store: Store) -> None:
        """What is committed while it runs belongs to the next one."""
        await add(store, session(1))
        begun, go_on = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def query(tx: ReadTx) -> tuple[Place, Place]:
            first = tx.head(ONE)
            loop.call_soon_threadsafe(begun.set)
            go_on.wait(timeout=10)
            return first, tx.head(ONE)

        scan = asyncio.create_task(store.scan(query))
        await begun.wait()
        await say(store, "meanwhile")
        go_on.set()
        assert await scan == (START, START)
        assert store.read(lambda tx: tx.head(ONE)).sequence == 1
