"""What every store promises of itself: what it knows, how much it takes, and what is there after it was closed."""

from __future__ import annotations

import pytest

from sessionplane.domain.errors import Draining, Overloaded
from sessionplane.domain.limits import Limits
from sessionplane.store.contract import Store
from tests.support.contract import ONE, add, change_number, log, say, snapshot
from tests.support.stores import ClosableStore, HeldWriter, OpenStore
from tests.support.values import NOW_MS, created, key, run, session


class TestFacts:
    async def test_a_fact_is_what_was_saved_last(self, store: Store) -> None:
        """Unknown names are None, and a fact outlives nothing but a later one."""
        assert store.read(lambda tx: tx.fact("key_settings")) is None
        for value in ("1", "2"):
            await store.submit(lambda tx, value=value: tx.save_fact("key_settings", value))
        assert store.read(lambda tx: tx.fact("key_settings")) == "2"
        assert store.read(lambda tx: tx.fact("store_id")) == store.store_id


class TestBounds:
    async def test_a_full_queue_refuses_at_once(self, open_any: OpenStore) -> None:
        """By the number of commands; what was accepted is done, and there is room again."""
        store = await open_any(limits=Limits(writer_commands_max=2))
        async with HeldWriter(store):
            second = store.submit(lambda _: 2)
            with pytest.raises(Overloaded):
                store.submit(lambda _: 3)
        assert await second == 2
        assert await store.submit(lambda _: 4) == 4

    async def test_a_queue_that_is_full_of_bytes_refuses_at_once(self, open_any: OpenStore) -> None:
        """By the sizes that the callers named."""
        store = await open_any(limits=Limits(writer_bytes_max=100))
        async with HeldWriter(store):
            second = store.submit(lambda _: 2, size=60)
            with pytest.raises(Overloaded):
                store.submit(lambda _: 3, size=41)
            third = store.submit(lambda _: 3, size=40)
        assert [await second, await third] == [2, 3]

    async def test_closing_settles_what_is_queued_and_refuses_the_rest(self, store: ClosableStore) -> None:
        """Nothing that was accepted is lost."""
        await add(store, session(1))
        futures = [store.submit(lambda tx: tx.append(ONE, created(), at_ms=NOW_MS)) for _ in range(20)]
        await store.close()
        assert [await each for each in futures] == list(range(1, 21))
        with pytest.raises(Draining):
            store.submit(lambda _: None)
        with pytest.raises(Draining):
            store.read(lambda tx: tx.store_id)
        with pytest.raises(Draining):
            await store.scan(lambda tx: tx.store_id)

    async def test_a_database_keeps_its_rows_and_its_identity(self, open_any: OpenStore) -> None:
        """Opened again, it is the same store, and logs and numbers go on where they were."""
        store = await open_any()
        await add(store, session(1, key=key()), run(1))
        await say(store, "a", "b")
        identity, before = store.store_id, store.read(snapshot)
        await store.close()
        again = await open_any()
        assert (again.store_id, again.read(lambda tx: tx.store_id)) == (identity, identity)
        assert again.read(snapshot) == before
        await say(again, "c")
        await again.submit(lambda tx: tx.save_session(session(1)))
        assert [each.sequence for each in log(again)] == [1, 2, 3]
        assert change_number(again, 1) == 2
