r"""The text of a list's filter: the part of AIP-160 that this server reads.

Owns the grammar. Must never decide what a condition means (`listing` does) nor mend what it does not understand.

    filter    = [ group { AND group } ]
    group     = alternatives | "(" alternatives ")"
    alternatives = condition { OR condition }          all of one field
    condition = field operator value
    field     = state | kind | ... | labels "." name
    value     = bare text | "quoted text" | 'quoted text'

AND and OR are capitals, and OR binds tighter (AIP-160). A bare value ends at white space and at any of `"'()<>=!,\`;
in quotes, a backslash stands before a quote, a backslash or a `*` that means itself. What AIP-160 has besides, NOT,
conditions side by side, functions and OR between fields, is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from sessionplane.domain import keys, moments
from sessionplane.domain.errors import FilterInvalid, SessionPlaneError
from sessionplane.domain.key_rules import AGENT_ID_RULE, agent_id, excerpt
from sessionplane.domain.keys import KeyKind, KeySettings
from sessionplane.domain.limits import DEFAULT, Limits
from sessionplane.domain.listing import (
    FIELDS,
    KEYWORDS,
    LABEL_NAME,
    Condition,
    Field,
    Operator,
    SessionFilter,
    Value,
)
from sessionplane.domain.sessions import SessionState

_STATE_PREFIX: Final = "SESSION_STATE_"
_KEY_PREFIX: Final = "agent:"

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_AND: Final = re.compile(r"AND\b")
_OR: Final = re.compile(r"OR\b")
_OPENS: Final = re.compile(r"\(")
_CLOSES: Final = re.compile(r"\)")
_POINT: Final = re.compile(r"\.")
_OPERATOR: Final = re.compile(r"[<>!]=|[<>=:]")
_BARE_VALUE: Final = re.compile(r"[^\s\"'()<>=!,\\]+")
_BARE_NAME: Final = re.compile(r"[^\s\"'()<>=!,\\:*]+")
_QUOTED: Final = re.compile(r"""(["'])((?:(?!\1)[^\\]|\\["'\\*])*)\1""")
_SPECIAL: Final = re.compile(r"\\(.)|\*")
# What no row can hold, and no database takes.
_UNUSABLE: Final = re.compile("[\0\ud800-\udfff]")


def parse(text: str, *, key_settings: KeySettings, limits: Limits = DEFAULT) -> SessionFilter:
    """Read a filter; a blank one wants every session. A key in any spelling becomes the canonical one.

    Raises FilterInvalid, which says at which character (`position`, the first is 1) what is wrong and what to do.
    """
    size = len(text.encode(errors="surrogatepass"))
    if size > limits.filter_bytes_max:
        raise FilterInvalid(
            field="filter",
            problem=f"it has {size} bytes, at most {limits.filter_bytes_max}; ask for less at once",
        )
    if unusable := _UNUSABLE.search(text):
        raise _refusal(
            unusable.start(), f"there is U+{ord(unusable[0]):04X}, which no session holds; leave it out"
        )
    return _Parser(text, key_settings, limits).filter()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """A value as it was read: where it began, its text, and whether a `*` ended it."""

    at: int
    text: str
    open_end: bool


class _Parser:
    """Reads one filter from its beginning to its end; `_at` is how far it came."""

    def __init__(self, text: str, key_settings: KeySettings, limits: Limits) -> None:
        self._text = text
        self._at = 0
        self._keys = key_settings
        self._limits = limits
        self._count = 0

    def filter(self) -> SessionFilter:
        groups = []
        if self._ahead():
            groups.append(self._group())
        while self._ahead():
            self._require_and()
            groups.append(self._group())
        return SessionFilter(groups=tuple(groups))

    def _require_and(self) -> None:
        if self._take(_AND):
            return
        word = self._peek(_WORD) or self._text[self._at]
        problem = f"AND is missing before {excerpt(word)}"
        if word in {"and", "or"}:
            problem = f"{word} is written in capitals"
        elif word == "OR":
            problem = "OR stands behind a parenthesis; write all that it joins into one pair of them"
        elif word == ")":
            problem = "a parenthesis is closed that was not opened; leave it out"
        raise _refusal(self._at, problem)

    def _group(self) -> tuple[Condition, ...]:
        at, opened = self._skip(), self._take(_OPENS)
        group = [self._condition()]
        while self._take(_OR):
            other_at = self._skip()
            group.append(self._condition())
            if (group[-1].field, group[-1].label) != (group[0].field, group[0].label):
                raise _refusal(other_at, "OR joins conditions of two fields; it can only join those of one")
        if opened and not self._take(_CLOSES):
            raise self._unclosed(at)
        return tuple(group)

    def _unclosed(self, opened_at: int) -> FilterInvalid:
        if self._peek(_AND):
            return _refusal(self._at, "AND stands in parentheses, which hold what OR joins; leave them out")
        return _refusal(opened_at, "a parenthesis is not closed behind its conditions, which OR joins")

    def _condition(self) -> Condition:
        at = self._skip()
        self._count += 1
        if self._count > self._limits.filter_conditions_max:
            problem = f"the filter has more than {self._limits.filter_conditions_max} conditions; ask for less at once"
            raise _refusal(at, problem)
        field = self._field()
        label = self._label() if field is Field.LABEL else ""
        operator = self._operator(field)
        operator, value = self._value(field, operator)
        self._skip()
        return Condition(field=field, operator=operator, value=value, label=label)

    def _field(self) -> Field:
        at = self._skip()
        word = self._peek(_WORD)
        if word == "NOT" or self._text.startswith("-", at):
            raise _refusal(at, "a condition is negated; compare with != instead")
        if not word:
            raise _refusal(at, f"a field is missing; {_FIELDS_KNOWN}")
        if word not in set(Field):
            raise _refusal(at, f"{excerpt(word)} is no field of a filter; {_FIELDS_KNOWN}")
        self._at += len(word)
        return Field(word)

    def _label(self) -> str:
        missing = "the name of a label is missing; write labels.<name>, and a name with other signs in quotes"
        if not self._take(_POINT):
            raise _refusal(self._at, missing)
        if name := self._peek(_BARE_NAME):
            self._at += len(name)
            return name
        quoted = self._quoted(missing)
        if quoted.open_end:
            raise _refusal(quoted.at, r"a * stands in the name of a label; write \* for the character")
        if not LABEL_NAME.fullmatch(quoted.text):
            problem = r"labels whose names hold \, double quotes or control characters cannot be asked for"
            raise _refusal(quoted.at, f"{problem}; ask for another")
        return quoted.text

    def _operator(self, field: Field) -> Operator:
        at = self._skip()
        written = self._take(_OPERATOR)
        allowed = FIELDS[field].operators
        if written and written in allowed:
            return Operator(written)
        problem = f"{field} is not compared with {written}" if written else f"{field} is not compared"
        raise _refusal(at, f"{problem}; use one of {' '.join(allowed)}")

    def _value(self, field: Field, operator: Operator) -> tuple[Operator, Value]:
        """Read what the field is compared with; `= x*` is another way to write `: x*`."""
        self._skip()
        written = self._written(f"the value is missing; write it as in {FIELDS[field].example}")
        if written.open_end:
            if Operator.HAS not in FIELDS[field].operators or operator is Operator.DIFFERS:
                problem = r"a * ends a value that must be whole; write \* in quotes for the character"
                raise _refusal(written.at, problem)
            operator = Operator.HAS
        elif operator is Operator.HAS:
            raise _refusal(
                written.at, "the beginning behind : has no * at its end; compare whole values with ="
            )
        return operator, _READERS[field](self, written)

    def _written(self, missing: str) -> _Written:
        bare = self._peek(_BARE_VALUE)
        if not bare or bare in KEYWORDS:
            return self._quoted(missing)
        at = self._at
        self._at += len(bare)
        return _written_as(at, bare)

    def _quoted(self, missing: str) -> _Written:
        at = self._at
        shape = _QUOTED.match(self._text, at)
        if shape:
            self._at = shape.end()
            return _written_as(at, shape[2])
        if self._text.startswith(("'", '"'), at):
            raise _refusal(
                at, r"a quoted text is not closed, or has a \ before another character than \ * and quotes"
            )
        raise _refusal(at, missing)

    # What the readers below make of a value.

    def state(self, written: _Written) -> str:
        return _one_of(SessionState, written, written.text.removeprefix(_STATE_PREFIX))

    def kind(self, written: _Written) -> str:
        return _one_of(KeyKind, written, written.text)

    def agent(self, written: _Written) -> str:
        agent = agent_id(written.text)
        if agent is None:
            raise _refusal(written.at, f"{excerpt(written.text)} is no agent id; use {AGENT_ID_RULE}")
        return agent

    def key(self, written: _Written) -> str:
        """Read a key in any spelling, or the beginning of a canonical one, which nobody can complete."""
        text = written.text
        if written.open_end:
            if not text.startswith(_KEY_PREFIX) and not _KEY_PREFIX.startswith(text):
                problem = f"no canonical key begins with {excerpt(text)}; write agent:<agent>:<beginning>*"
                raise _refusal(written.at, problem)
            return text
        try:
            return keys.canonical(text, settings=self._keys, field="the key", limits=self._limits).text
        except SessionPlaneError as error:
            raise _refusal(written.at, str(error).removesuffix(".")) from error

    def running(self, written: _Written) -> bool:
        return _one_of(_TRUTH, written, written.text) == _TRUTH[0]

    def label(self, written: _Written) -> str:
        return written.text

    def time(self, written: _Written) -> int:
        try:
            return moments.parse(written.text)
        except ValueError as error:
            raise _refusal(written.at, f"{excerpt(written.text)} {error}") from error

    # Moving on.

    def _ahead(self) -> bool:
        return self._skip() < len(self._text)

    def _skip(self) -> int:
        """Pass white space and return the place behind it."""
        space = _SPACE.match(self._text, self._at)
        self._at = space.end() if space else self._at
        return self._at

    def _peek(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        return found[0] if found else ""

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = self._peek(pattern)
        self._at += len(found)
        return found


_READERS: Final[Mapping[Field, Callable[[_Parser, _Written], Value]]] = {
    Field.STATE: _Parser.state,
    Field.KIND: _Parser.kind,
    Field.AGENT: _Parser.agent,
    Field.KEY: _Parser.key,
    Field.RUNNING: _Parser.running,
    Field.LABEL: _Parser.label,
    Field.UPDATE_TIME: _Parser.time,
    Field.CREATE_TIME: _Parser.time,
}
_TRUTH: Final = ("true", "false")
_FIELDS_KNOWN: Final = f"use one of {', '.join(Field)}"


def _written_as(at: int, raw: str) -> _Written:
    """Undo escapes and take the `*` off the end; NUL, which no filter holds, stands for it in between."""
    marked = _SPECIAL.sub(lambda found: found[1] or "\0", raw)
    text = marked.removesuffix("\0")
    if "\0" in text:
        raise _refusal(
            at, r"a * stands within a value; it can only end one, and \* in quotes is the character"
        )
    return _Written(at=at, text=text, open_end=text != marked)


def _one_of(known: Iterable[str], written: _Written, word: str) -> str:
    choices = list(map(str, known))
    if word not in choices:
        raise _refusal(written.at, f"{excerpt(written.text)} is unknown; use one of {', '.join(choices)}")
    return word


def _refusal(at: int, problem: str) -> FilterInvalid:
    return FilterInvalid(field="filter", problem=f"at character {at + 1}, {problem}", position=at + 1)
