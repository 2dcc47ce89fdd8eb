"""A list's filter as a condition of SQL with the values that it binds.

Must never put a caller's text into a statement. That it selects what the filter wants is judged by
`SessionFilter.matches`, in the contract's tests.
"""

from __future__ import annotations

from collections.abc import Iterator

from sessionplane.domain.listing import Condition, Field, Operator, SessionFilter
from sessionplane.store.statements_listing import FACTS, TESTS, VISIBLE

Bound = str | int


def narrowed(wanted: SessionFilter, *, show_internal: bool) -> tuple[str, list[Bound]]:
    """Return what is to follow a statement's WHERE: the text, empty or beginning with AND, and its values."""
    texts = [] if show_internal else [VISIBLE]
    texts += [f"({' OR '.join(map(_text, group))})" for group in wanted.groups]
    values = [value for group in wanted.groups for one in group for value in _values(one)]
    return "".join(f" AND {text}" for text in texts), values


def _text(condition: Condition) -> str:
    return TESTS[condition.operator].format(fact=FACTS[condition.field])


def _values(condition: Condition) -> Iterator[Bound]:
    if condition.field is Field.LABEL:
        yield f'$."{condition.label}"'
    if condition.operator is Operator.HAS:
        yield len(str(condition.value))
    # SQLite has no truth values.
    yield int(condition.value) if isinstance(condition.value, bool) else condition.value
