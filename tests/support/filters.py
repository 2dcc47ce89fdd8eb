"""Filters of session lists and sessions that they may want: few values, so that they often meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
LABELS = ("team", "Team", "a.b/c-d", "", "$.x", "größe", "OR", "*", "0", "[0]", "it's", "a b")
UNNAMED = ('"', "\\", "a\n", 'team"')
"""Names that a label may have and a filter cannot write."""
MOMENTS = (NOW_MS - 1, NOW_MS, NOW_MS + 1, NOW_MS + 1_000)

VALUES: Mapping[tuple[Field, bool], Sequence[Value]] = {
    (Field.STATE, False): [state.value for state in SessionState],
    (Field.KIND, False): [kind.value for kind in KeyKind],
    (Field.AGENT, False): ["main", "a-b", "mai", "other"],
    (Field.KEY, False): KEYS,
    (Field.KEY, True): sorted({key[:end] for key in KEYS for end in range(len(key) + 1)}),
    (Field.RUNNING, False): [True, False],
    (Field.LABEL, False): TEXTS,
    (Field.LABEL, True): sorted({text[:end] for text in TEXTS for end in range(len(text) + 1)}),
    (Field.UPDATE_TIME, False): MOMENTS,
    (Field.CREATE_TIME, False): MOMENTS,
}
"""(field, whether it is a beginning) -> values that tell sessions apart."""


@st.composite
def _groups(draw: st.DrawFn) -> tuple[Condition, ...]:
    field = draw(st.sampled_from(Field))
    label = draw(st.sampled_from(LABELS)) if field is Field.LABEL else ""
    operators = draw(st.lists(st.sampled_from(FIELDS[field].operators), min_size=1, max_size=3))
    return tuple(
        Condition(
            field=field,
            operator=operator,
            value=draw(st.sampled_from(VALUES[field, operator is Operator.HAS])),
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
        labels=draw(st.dictionaries(st.sampled_from(LABELS + UNNAMED), st.sampled_from(TEXTS), max_size=4)),
        updated_at_ms=draw(st.sampled_from(MOMENTS)),
        created_at_ms=draw(st.sampled_from(MOMENTS)),
    )


def population() -> list[Session]:
    """Return sessions among which every fact that VALUES asks for occurs, and its absence."""
    states, runs = list(SessionState), [("", 0), ("run", 0), ("", 1), ("run", 2)]
    found = []
    for number, key in enumerate([*KEYS, *[None] * (len(TEXTS) * 2)]):
        active_run_id, queued_run_count = runs[number % len(runs)]
        labels = {name: TEXTS[(number + place) % len(TEXTS)] for place, name in enumerate(LABELS + UNNAMED)}
        found.append(
            session(
                number + 1,
                key=None if key is None else from_stored(key),
                state=states[number % len(states)],
                active_run_id=active_run_id,
                queued_run_count=queued_run_count,
                labels=labels if number % 3 else {},
                updated_at_ms=MOMENTS[number % len(MOMENTS)],
                created_at_ms=MOMENTS[number // 2 % len(MOMENTS)],
            )
        )
    return found
