"""What every store promises of what callers asked for: interrupts, and the ids of their requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sessionplane.domain.interrupts import InterruptMode, InterruptStage
from sessionplane.store.contract import ReadTx, Request, Store, Tx
from tests.support.contract import ONE, add, refused
from tests.support.values import NAMESPACE, NOW_MS, created, interrupt, session


class TestInterrupts:
    async def test_an_interrupt_comes_back_as_it_was_written(self, store: Store) -> None:
        """And it is unknown to other namespaces."""
        given = interrupt(1, reason="stop", escalate_at_ms=NOW_MS + 1)
        await add(store, session(1))
        await store.submit(lambda tx: tx.add_interrupt(given))
        assert store.read(lambda tx: tx.interrupt(NAMESPACE, given.interrupt_id)) == given
        assert store.read(lambda tx: tx.interrupt("other", given.interrupt_id)) is None

    async def test_saving_an_interrupt_writes_stage_mode_and_times(self, store: Store) -> None:
        """Who it stops and why stays as it was said first."""
        await add(store, session(1))
        await store.submit(lambda tx: tx.add_interrupt(interrupt(1, reason="stop")))
        later = interrupt(
            1,
            reason="else",
            stage=InterruptStage.DELIVERED,
            mode=InterruptMode.FORCE,
            escalate_at_ms=NOW_MS,
        )
        await store.submit(lambda tx: tx.save_interrupt(later))
        found = store.read(lambda tx: tx.interrupt(NAMESPACE, later.interrupt_id))
        assert found == replace(later, reason="stop")


class TestRequests:
    async def test_a_request_id_is_remembered_in_its_scope(self, store: Store) -> None:
        """Namespace, RPC and id together."""
        given = request("a", session_id="s", run_id="r", interrupt_id="i", detail="CREATED")
        await store.submit(lambda tx: tx.remember(given))
        assert store.read(lambda tx: tx.request(NAMESPACE, "StartRun", "a")) == given
        assert store.read(lambda tx: tx.request(NAMESPACE, "Interrupt", "a")) is None
        assert store.read(lambda tx: tx.request("other", "StartRun", "a")) is None

    async def test_a_request_id_is_remembered_once(self, store: Store) -> None:
        """A second one of the same scope rolls its use case back."""
        await add(store, session(1))
        await store.submit(lambda tx: tx.remember(request("a")))

        def use_case(tx: Tx) -> None:
            tx.append(ONE, created(), at_ms=NOW_MS)
            tx.remember(request("a", run_id="other"))

        await refused(store, use_case, KeyError)

    async def test_the_oldest_request_ids_are_forgotten_first(self, store: Store) -> None:
        """Only those before the moment, a bounded number at a time."""
        for name, at_ms in (("a", 3), ("b", 1), ("c", 2), ("d", 9)):
            await store.submit(self.remembering(name, at_ms))
        assert await store.submit(lambda tx: tx.forget_requests(before_ms=9, limit=2)) == 2
        assert self.known(store) == ["a", "d"]
        assert await store.submit(lambda tx: tx.forget_requests(before_ms=9, limit=2)) == 1
        assert self.known(store) == ["d"]

    @staticmethod
    def remembering(name: str, at_ms: int) -> Callable[[Tx], None]:
        return lambda tx: tx.remember(request(name, at_ms=at_ms))

    @staticmethod
    def known(store: Store) -> list[str]:
        def query(tx: ReadTx) -> list[str]:
            return [each for each in "abcd" if tx.request(NAMESPACE, "StartRun", each)]

        return store.read(query)


def request(name: str, *, at_ms: int = NOW_MS, **ids: str) -> Request:
    """Return what is remembered of a StartRun."""
    return Request(
        namespace=NAMESPACE, rpc="StartRun", request_id=name, fingerprint=b"fp", at_ms=at_ms, **ids
    )
