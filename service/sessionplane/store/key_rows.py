"""Rows of keys and imports to values and back: what `rows` is for all others.

A key stands there twice, as its canonical text and as the spelling that it was made from.
"""

from __future__ import annotations

from sessionplane.domain.keys import SessionKey, from_stored
from sessionplane.store import damage
from sessionplane.store.contract import Import, Pointer
from sessionplane.store.rows import Row


@damage.reads("pointer", named_by=2)
def pointer_of(row: Row) -> Pointer:
    """Return the pointer of a row of `statements.POINTER`."""
    namespace, key, session_id, spelling = row
    return Pointer(namespace=namespace, key=from_stored(key, spelling=spelling), session_id=session_id)


def pointer_row(namespace: str, key: SessionKey, session_id: str) -> Row:
    """Return what `statements.BIND_KEY` binds. A key that nobody wrote just now is its own spelling."""
    return (namespace, key.text, session_id, key.spelling or key.text)


@damage.reads("import", named_by=1)
def import_of(row: Row) -> Import:
    """Return the import of a row of `statements.IMPORTS`."""
    namespace, source_id, key, spelling, session_id = row
    return Import(
        namespace=namespace,
        source_id=source_id,
        key=from_stored(key, spelling=spelling),
        session_id=session_id,
    )


def import_row(imported: Import) -> Row:
    """Return what `statements.ADD_IMPORT` binds."""
    key = imported.key
    return (imported.namespace, imported.source_id, key.text, key.spelling or key.text, imported.session_id)
