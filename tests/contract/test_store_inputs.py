"""What every store promises of the inputs that were injected into a run."""

from __future__ import annotations

from dataclasses import replace

from sessionplane.domain.inputs import InputStage
from sessionplane.store.contract import Store, Tx
from tests.support.contract import add, refused
from tests.support.values import NAMESPACE, injected, run, session


class TestInputs:
    async def test_only_an_injected_input_is_one(self, store: Store) -> None:
        """What a run was started with is found by the run; an injected input by its own id and namespace."""
        await add(store, session(1), run(1), injected(1))
        assert store.read(lambda tx: tx.input(NAMESPACE, injected(1).input_id)) == injected(1)
        assert store.read(lambda tx: tx.input(NAMESPACE, run(1).run_id)) is None
        assert store.read(lambda tx: tx.input("other", injected(1).input_id)) is None
        assert store.read(lambda tx: tx.run(NAMESPACE, injected(1).input_id)) is None

    async def test_an_id_is_recorded_once(self, store: Store) -> None:
        """Runs and inputs share their ids."""
        await add(store, session(1), run(1), injected(1))
        for value in (injected(1), injected(2, input_id=run(1).run_id)):
            await refused(store, lambda tx, value=value: tx.add_input(value), KeyError)
        taken = run(2, run_id=injected(1).input_id)
        await refused(store, lambda tx: tx.add_run(taken), KeyError)

    async def test_waiting_inputs_come_by_place(self, store: Store) -> None:
        """Those of the run that are still RECORDED, behind a place, as many as are wanted."""
        await add(store, session(1), run(1), run(2))
        places = {1: 5, 2: -1, 3: 7, 4: 6}
        await add(store, *(injected(each, place=at) for each, at in places.items()))
        await add(store, injected(5, place=0, run_id=run(2).run_id))
        await store.submit(lambda tx: tx.save_input(injected(4, stage=InputStage.TAKEN, place=6)))

        def waiting(**bounds: int) -> list[int]:
            found = store.read(lambda tx: tx.waiting_inputs(run(1), **bounds))
            return [each.place for each in found]

        assert waiting() == [-1, 5, 7]
        assert waiting(after=-1) == [5, 7]

    async def test_waiting_inputs_come_as_far_as_they_fit(self, store: Store) -> None:
        """No more bytes than are wanted, but one larger input comes alone."""
        await add(store, session(1), run(1), *(injected(each, input=b"12345") for each in (1, 2, 3)))

        def waiting(bytes_max: int) -> list[int]:
            found = store.read(lambda tx: tx.waiting_inputs(run(1), bytes_max=bytes_max))
            return [each.place for each in found]

        assert [waiting(bytes_max) for bytes_max in (0, 9, 10, 15)] == [[1], [1], [1, 2], [1, 2, 3]]

    async def test_the_last_ids_of_a_stage_are_told(self, store: Store) -> None:
        """By place, and of too many the last."""
        await add(store, session(1), run(1), *(injected(each, place=-each) for each in (1, 2, 3)))
        ids = [injected(each).input_id for each in (3, 2, 1)]
        for limit in (5, 2):
            found = store.read(lambda tx, n=limit: tx.input_ids(run(1), InputStage.RECORDED, limit=n))
            assert found == ids[-limit:]
        assert store.read(lambda tx: tx.input_ids(run(1), InputStage.TAKEN, limit=5)) == []

    async def test_an_input_becomes_a_run(self, store: Store) -> None:
        """Its input stays where it is; who it waits for, its stage and its place change, and nothing else."""
        await add(store, session(1), run(1), injected(1, input=b"in", labels={"a": "b"}))
        input_id = injected(1).input_id
        made = run(2, run_id=input_id)
        moved = injected(1, run_id=input_id, stage=InputStage.QUEUED, place=9, input=b"in", labels={"a": "b"})

        def use_case(tx: Tx) -> None:
            tx.add_run(made, injected=True)
            tx.save_input(replace(moved, input=b"other", labels={}))

        await store.submit(use_case)
        assert store.read(lambda tx: tx.run(NAMESPACE, input_id)) == replace(made, input=b"in")
        assert store.read(lambda tx: tx.input(NAMESPACE, input_id)) == moved

    async def test_what_was_not_injected_is_not_saved(self, store: Store) -> None:
        """The input of a run never changes."""
        await add(store, session(1), run(1))
        for input_id in (run(1).run_id, "unknown"):
            value = injected(1, input_id=input_id)
            await refused(store, lambda tx, value=value: tx.save_input(value), KeyError)
