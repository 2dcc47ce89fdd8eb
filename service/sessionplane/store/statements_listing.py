"""The SQL of a list's filter: what a row says of each field, and how it is compared.

Owns the text, never the meaning, which is `domain.listing`'s: for each of its fields and operators there is one
piece here. Values are always bound, a label's name among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sessionplane.domain.listing import Field, Operator

# What hand-overs inside the system made is shown on request only.
VISIBLE = "s.visibility = 'VISIBLE'"

FACTS: Mapping[Field, str] = MappingProxyType(
    {
        Field.STATE: "s.state",
        Field.KIND: "s.kind",
        # The text between the first and the second colon of agent:<agent>:<rest>.
        Field.AGENT: "substr(s.key, 7, instr(substr(s.key, 7), ':') - 1)",
        Field.KEY: "s.key",
        Field.RUNNING: "(s.active_run_id <> '' OR s.queued_run_count > 0)",
        # Bound to the path of a name. json_each would know every name, and takes ten times as long.
        Field.LABEL: "json_extract(s.labels, ?)",
        Field.UPDATE_TIME: "s.updated_at_ms",
        Field.CREATE_TIME: "s.created_at_ms",
    }
)
"""field -> what a row says of it; NULL or '' where it has nothing."""

TESTS: Mapping[Operator, str] = MappingProxyType(
    {
        Operator.EQUALS: "{fact} = ?",
        # IS, since a fact may be NULL, and that differs from every value.
        Operator.DIFFERS: "{fact} IS NOT ?",
        Operator.LESS: "{fact} < ?",
        Operator.AT_MOST: "{fact} <= ?",
        Operator.MORE: "{fact} > ?",
        Operator.AT_LEAST: "{fact} >= ?",
        # Bound to the length of a beginning and to itself. LIKE and GLOB would read signs in it.
        Operator.HAS: "substr({fact}, 1, ?) = ?",
    }
)
"""operator -> how a fact is compared."""
