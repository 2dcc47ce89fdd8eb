"""Which sessions a list is asked for: conditions on fields, and what they mean.

Owns the fields, their operators, and the meaning of a filter as a predicate, which every store's selection must
agree with. Must never read text: that is `listing_text`, which makes these values from what callers write.

What a session has nothing of (a key, a label) equals nothing and begins with nothing, so it differs from
everything.
"""

from __future__ import annotations

import operator as compare
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from sessionplane.domain import moments
from sessionplane.domain.sessions import Session

LABEL_NAME: Final = re.compile(r'[^"\\\x00-\x1f]*')
"""The names of labels that a filter can ask for: a database need not undo escapes to find them."""
_PLAIN: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*")
KEYWORDS: Final = frozenset({"AND", "OR", "NOT"})
"""The words that are no values, unless they stand in quotes."""
_EVER: Final = (-(2**63), 2**63 - 1)


class Field(StrEnum):
    """What a condition may be about, as it is written; a label's name follows behind a point."""

    STATE = "state"
    KIND = "kind"
    AGENT = "agent"
    KEY = "key"
    RUNNING = "running"
    LABEL = "labels"
    UPDATE_TIME = "update_time"
    CREATE_TIME = "create_time"


class Operator(StrEnum):
    """How a condition compares, as it is written; HAS stands before a beginning that ends in `*`."""

    EQUALS = "="
    DIFFERS = "!="
    LESS = "<"
    AT_MOST = "<="
    MORE = ">"
    AT_LEAST = ">="
    HAS = ":"


Value = str | int | bool
"""A word, a key or a label's text; a moment in Unix milliseconds; whether it is running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldRule:
    """What may be asked of a field: the operators, the values in words, and an example for the docs."""

    operators: tuple[Operator, ...]
    values: str
    example: str


_SAME = (Operator.EQUALS, Operator.DIFFERS)
_TEXT = (*_SAME, Operator.HAS)
_TIME = (Operator.LESS, Operator.AT_MOST, Operator.MORE, Operator.AT_LEAST, Operator.EQUALS)

FIELDS: Mapping[Field, FieldRule] = MappingProxyType(
    {
        Field.STATE: FieldRule(
            operators=_SAME,
            values="a state of a session, with or without the prefix `SESSION_STATE_`",
            example="state = ACTIVE OR state = DETACHED",
        ),
        Field.KIND: FieldRule(
            operators=_SAME,
            values="the kind of a key; a session without one has none",
            example="kind != cron",
        ),
        Field.AGENT: FieldRule(operators=_SAME, values="the agent of a key", example="agent = support"),
        Field.KEY: FieldRule(
            operators=_TEXT,
            values="any spelling of a key; with `*` at its end, the beginning of a canonical one, and `*` alone"
            " for any key",
            example='key : "agent:main:telegram:*"',
        ),
        Field.RUNNING: FieldRule(
            operators=_SAME, values="`true` or `false`: whether a run is unfinished", example="running = true"
        ),
        Field.LABEL: FieldRule(
            operators=_TEXT,
            values="a text; with `*` at its end, its beginning, and `*` alone for any. The label's name follows"
            " behind a point",
            example="labels.team = billing AND labels.ticket:*",
        ),
        Field.UPDATE_TIME: FieldRule(
            operators=_TIME,
            values="a time as in RFC 3339, to the millisecond",
            example='update_time >= "2026-01-31T12:00:00Z"',
        ),
        Field.CREATE_TIME: FieldRule(
            operators=_TIME,
            values="a time as in RFC 3339, to the millisecond",
            example="create_time < 2026-01-31T13:00:00+01:00",
        ),
    }
)
"""field -> what may be asked of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One comparison of a field; `label` is the name of a LABEL's label.

    Raises ValueError for an operator that the field does not know, and for a name that is no LABEL_NAME.
    """

    field: Field
    operator: Operator
    value: Value
    label: str = ""

    def __post_init__(self) -> None:
        if self.operator not in FIELDS[self.field].operators:
            raise ValueError(f"{self.field} is not compared with {self.operator}.")
        if not LABEL_NAME.fullmatch(self.label):
            raise ValueError("The name of a label holds a double quote, a backslash or a control character.")

    def matches(self, session: Session) -> bool:
        """Say whether the session is as the condition wants it."""
        return _COMPARE[self.operator](_FACTS[self.field](session, self.label), self.value)

    def __str__(self) -> str:
        name = f"{self.field}.{_word(self.label)}" if self.field is Field.LABEL else self.field
        return f"{name} {self.operator} {self._value_text()}"

    def _value_text(self) -> str:
        if isinstance(self.value, bool):
            return "true" if self.value else "false"
        if isinstance(self.value, int):
            return moments.text(self.value)
        return _word(self.value) if self.operator is not Operator.HAS else quote(self.value, begins=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFilter:
    """Conditions of which a session must meet one in each group; a group is about one field.

    Its text (`str`) reads as the same filter again. Raises ValueError for a group of no field, or of two.
    """

    groups: tuple[tuple[Condition, ...], ...] = ()

    def __post_init__(self) -> None:
        for group in self.groups:
            if len({(one.field, one.label) for one in group}) != 1:
                raise ValueError("The conditions of a group are about one field.")

    def matches(self, session: Session) -> bool:
        """Say whether the session is wanted: what a store's selection is judged by."""
        return all(any(one.matches(session) for one in group) for group in self.groups)

    def updated_within(self) -> tuple[int, int]:
        """Return the earliest and the latest updated_at_ms that a wanted session can have, first above last if
        none can: a list in the order of that time need not look elsewhere.
        """
        first, last = _EVER
        for group in self.groups:
            spans = [_span(one) for one in group]
            first = max(first, min(span[0] for span in spans))
            last = min(last, max(span[1] for span in spans))
        return first, last

    def __str__(self) -> str:
        return " AND ".join(map(_group_text, self.groups))


ALL_SESSIONS: Final = SessionFilter()


def quote(text: str, *, begins: bool = False) -> str:
    """Write a text as a value, or with `begins` as the beginning of one."""
    escaped = re.sub(r'[\\"*]', r"\\\g<0>", text)
    return f'"{escaped}*"' if begins else f'"{escaped}"'


def _word(text: str) -> str:
    return text if _PLAIN.fullmatch(text) and text not in KEYWORDS else quote(text)


def _group_text(group: Iterable[Condition]) -> str:
    texts = [str(one) for one in group]
    return texts[0] if len(texts) == 1 else f"({' OR '.join(texts)})"


def _span(condition: Condition) -> tuple[int, int]:
    if condition.field is not Field.UPDATE_TIME:
        return _EVER
    at_ms = int(condition.value)
    return {
        Operator.LESS: (_EVER[0], at_ms - 1),
        Operator.AT_MOST: (_EVER[0], at_ms),
        Operator.MORE: (at_ms + 1, _EVER[1]),
        Operator.AT_LEAST: (at_ms, _EVER[1]),
        Operator.EQUALS: (at_ms, at_ms),
    }[condition.operator]


_FACTS: Final[Mapping[Field, Callable[[Session, str], Value | None]]] = {
    Field.STATE: lambda session, _: session.state.value,
    Field.KIND: lambda session, _: session.key.kind.value if session.key else None,
    Field.AGENT: lambda session, _: session.key.agent if session.key else None,
    Field.KEY: lambda session, _: session.key.text if session.key else None,
    Field.RUNNING: lambda session, _: session.running,
    Field.LABEL: lambda session, label: session.labels.get(label),
    Field.UPDATE_TIME: lambda session, _: session.updated_at_ms,
    Field.CREATE_TIME: lambda session, _: session.created_at_ms,
}
"""field -> what a session says of it, given the label's name; None where it has nothing."""


def _begins(fact: Value | None, value: Value) -> bool:
    return fact is not None and str(fact).startswith(str(value))


_COMPARE: Final[Mapping[Operator, Callable[[Any, Any], bool]]] = {
    Operator.EQUALS: compare.eq,
    Operator.DIFFERS: compare.ne,
    Operator.LESS: compare.lt,
    Operator.AT_MOST: compare.le,
    Operator.MORE: compare.gt,
    Operator.AT_LEAST: compare.ge,
    Operator.HAS: _begins,
}
