"""Filters of session lists and sessions that they may want: few values, so that they often meet."""

from __future__ import annotations

from hypothesis import strategies as st

from sessionplane.domain.keys import KeyKind, from_stored
from sessionplane.domain.listing import FIELDS, Condition, Field, Operator, SessionFilter, Value
from sessionplane.domain.sessions import Session, SessionState
from tests.support.values import NOW_MS, session

RESTS = (
    "main",
    "settings2",
    "direct:5",
    "signal:direct:5",
    "signal:7:direct:5",
    "signal:7:direct",
    "signal:group:Ab*C",
    "signal:group",
    "a:channel:x:thread:3",
    "channel:x",
    "cron:daily:run:7",
    "cron",
    "subagent:a:subagent:b",
    "hook:%_?[x]",
    "acp:ärger",
    "x:group:direct:y",
)
KEYS = tuple(f"agent:{agent}:{rest}" for agent in ("main", "a-b") for rest in RESTS)
TEXTS = ("", "a", "ab", "AB", "größe", "a*", '"\\', "true", "AND", "%", "🙂", "1", "a b\t\n")
LABELS = ("team", "Team", "a.b/c-d", "", '"\\', "$.x", "größe", "OR", "*", "0")
MOMENTS = (NOW_MS - 1, NOW_MS, NOW_MS + 1, NOW_MS + 1_000)

_beginnings = st.sampled_from(KEYS).flatmap(lambda key: st.integers(0, len(key)).map(lambda end: key[:end]))

_VALUES: dict[tuple[Field, bool], st.SearchStrategy[Value]] = {
    (Field.STATE, False): st.sampled_from([state.value for state in SessionState]),
    (Field.KIND, False): st.sampled_from([kind.value for kind in KeyKind]),
    (Field.AGENT, False): st.sampled_from(["main", "a-b", "other"]),
    (Field.KEY, False): st.sampled_from(KEYS),
    (Field.KEY, True): _beginnings,
    (Field.RUNNING, False): st.booleans(),
    (Field.LABEL, False): st.sampled_from(TEXTS),
    (Field.LABEL, True): st.sampled_from(TEXTS),
    (Field.UPDATE_TIME, False): st.sampled_from(MOMENTS),
    (Field.CREATE_TIME, False): st.sampled_from(MOMENTS),
}
"""(field, whether it is a beginning) -> values."""


@st.composite
def _groups(draw: st.DrawFn) -> tuple[Condition, ...]:
    field = draw(st.sampled_from(Field))
    label = draw(st.sampled_from(LABELS)) if field is Field.LABEL else ""
    operators = draw(st.lists(st.sampled_from(FIELDS[field].operators), min_size=1, max_size=3))
    return tuple(
        Condition(
            field=field,
            operator=operator,
            value=draw(_VALUES[field, operator is Operator.HAS]),
            label=label,
        )
        for operator in operators
    )


filters = st.lists(_groups(), max_size=4).map(lambda groups: SessionFilter(groups=tuple(groups)))
"""Any filter."""


@st.composite
def sessions(draw: st.DrawFn, number: int) -> Session:
    """A session that conditions can tell from others."""
    key = draw(st.none() | st.sampled_from(KEYS))
    return session(
        number,
        key=None if key is None else from_stored(key),
        state=draw(st.sampled_from(SessionState)),
        active_run_id=draw(st.sampled_from(["", "run"])),
        queued_run_count=draw(st.integers(0, 2)),
        labels=draw(st.dictionaries(st.sampled_from(LABELS), st.sampled_from(TEXTS), max_size=4)),
        updated_at_ms=draw(st.sampled_from(MOMENTS)),
        created_at_ms=draw(st.sampled_from(MOMENTS)),
    )
