"""What every store promises of keys: whom they name, how they were spelled, and which imports came under them."""

from __future__ import annotations

from sessionplane.domain.keys import from_stored
from sessionplane.store.contract import Import, Pointer, ReadTx, Store, Tx
from tests.support.contract import ONE, add, refused
from tests.support.values import NAMESPACE, key, session, session_id


class TestKeys:
    async def test_a_key_names_its_session(self, store: Store) -> None:
        """One pointer for each namespace and key."""
        await add(store, session(1, key=key()))
        assert await store.submit(lambda tx: tx.bind_key(NAMESPACE, key(), ONE)) == ONE
        found = store.read(lambda tx: tx.session_by_key(NAMESPACE, key()))
        assert found is not None
        assert found.session_id == ONE
        assert store.read(lambda tx: tx.session_by_key(NAMESPACE, key("x"))) is None
        assert store.read(lambda tx: tx.session_by_key("other", key())) is None

    async def test_the_first_binding_stays(self, store: Store) -> None:
        """The loser of a race is told who won."""
        await add(store, session(1), session(2))
        await store.submit(lambda tx: tx.bind_key(NAMESPACE, key(), ONE))
        assert await store.submit(lambda tx: tx.bind_key(NAMESPACE, key(), session_id(2))) == ONE
        assert await store.submit(lambda tx: tx.bind_key("other", key(), session_id(2))) == session_id(2)

    async def test_a_pointer_keeps_the_spelling_that_made_it(self, store: Store) -> None:
        """Whoever finds or takes the key later does not change it; a key that nobody spelled is its own."""
        spelled, echoed = (from_stored("agent:main:x", spelling=each) for each in (" X ", ""))
        await store.submit(lambda tx: tx.bind_key(NAMESPACE, spelled, ONE))
        await store.submit(lambda tx: tx.bind_key(NAMESPACE, echoed, session_id(2)))
        await store.submit(lambda tx: tx.bind_key("other", echoed, ONE))
        first = store.read(lambda tx: tx.pointer(NAMESPACE, echoed))
        second = store.read(lambda tx: tx.pointer("other", echoed))
        assert first == Pointer(namespace=NAMESPACE, key=spelled, session_id=ONE)
        assert second is not None
        assert (first.key.spelling, second.key.spelling) == (" X ", "agent:main:x")
        assert store.read(lambda tx: tx.pointer(NAMESPACE, key("y"))) is None

    async def test_a_released_key_is_told_as_it_was_spelled(self, store: Store) -> None:
        """It is free then; who does not hold it releases nothing."""
        spelled = from_stored("agent:main:x", spelling="X")
        await store.submit(lambda tx: tx.bind_key(NAMESPACE, spelled, ONE))
        assert await store.submit(lambda tx: tx.release_key(NAMESPACE, key("x"), session_id(2))) is None
        assert await store.submit(lambda tx: tx.release_key("other", key("x"), ONE)) is None
        released = await store.submit(lambda tx: tx.release_key(NAMESPACE, key("x"), ONE))
        assert released is not None
        assert (released, released.spelling) == (spelled, "X")
        assert store.read(lambda tx: tx.pointer(NAMESPACE, key("x"))) is None

    async def test_all_pointers_are_read_in_pages(self, store: Store) -> None:
        """By namespace and key, each once, strictly behind the last one of the page before."""

        def use_case(tx: Tx) -> None:
            for namespace in ("b", "a"):
                for rest in ("y", "x", "z"):
                    tx.bind_key(namespace, key(rest), ONE)

        await store.submit(use_case)
        found = [("", "")]

        def page(tx: ReadTx) -> list[Pointer]:
            return tx.pointers(after=found[-1], limit=2)

        while some := store.read(page):
            assert len(some) <= 2
            found += [(each.namespace, each.key.text) for each in some]
        assert found[1:] == [(namespace, key(rest).text) for namespace in "ab" for rest in "xyz"]

    async def test_a_pointer_may_come_before_its_session(self, store: Store) -> None:
        """A use case binds and creates in the order that suits it."""

        def use_case(tx: Tx) -> None:
            tx.bind_key(NAMESPACE, key(), ONE)
            tx.add_session(session(1, key=key()))

        await store.submit(use_case)
        assert store.read(lambda tx: tx.session_by_key(NAMESPACE, key())) is not None


class TestImports:
    async def test_an_import_is_known_by_its_source_and_key(self, store: Store) -> None:
        """The same id under another key, or of another tenant, is another session."""
        await store.submit(lambda tx: tx.add_import(imported("s", "x")))
        assert store.read(lambda tx: tx.imported(NAMESPACE, "s", key("x"))) == ONE
        for namespace, source_id, rest in (("other", "s", "x"), (NAMESPACE, "t", "x"), (NAMESPACE, "s", "y")):
            found = store.read(lambda tx, n=namespace, s=source_id, r=rest: tx.imported(n, s, key(r)))
            assert found == ""

    async def test_an_import_is_added_once(self, store: Store) -> None:
        """A second one of the same source and key raises KeyError."""
        await store.submit(lambda tx: tx.add_import(imported("s", "x")))
        await refused(store, lambda tx: tx.add_import(imported("s", "x")), KeyError)
        await store.submit(lambda tx: tx.add_import(imported("s", "y")))

    async def test_all_imports_are_read_in_pages_with_their_spellings(self, store: Store) -> None:
        """In order, each once; a key that nobody spelled is its own spelling."""
        given = [imported(source, rest) for source in "ba" for rest in "yx"]

        def use_case(tx: Tx) -> None:
            for each in given:
                tx.add_import(each)

        await store.submit(use_case)
        found = [("", "", "")]

        def page(tx: ReadTx) -> list[Import]:
            return tx.imports(after=found[-1], limit=3)

        while some := store.read(page):
            assert all(each.key.spelling == each.key.text.upper() for each in some)
            found += [(each.namespace, each.source_id, each.key.text) for each in some]
        assert found[1:] == [(NAMESPACE, source, key(rest).text) for source in "ab" for rest in "xy"]

    async def test_an_import_is_renamed_unless_its_new_key_has_one(self, store: Store) -> None:
        """Two entries of one source under one key are one import; the one that is there stays."""

        def use_case(tx: Tx) -> None:
            for rest in ("x", "y"):
                tx.add_import(imported("s", rest))
            tx.rename_import(imported("s", "x"), key("z"))
            tx.rename_import(imported("s", "y"), key("z"))

        await store.submit(use_case)
        found = store.read(lambda tx: tx.imports(after=("", "", ""), limit=9))
        assert [each.key for each in found] == [key("y"), key("z")]


def imported(source_id: str, rest: str) -> Import:
    """A session of another system that became session 1."""
    spelled = from_stored(key(rest).text, spelling=key(rest).text.upper())
    return Import(namespace=NAMESPACE, source_id=source_id, key=spelled, session_id=ONE)
