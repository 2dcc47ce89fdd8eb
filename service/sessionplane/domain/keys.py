"""The one canonicaliser: any spelling of a session key in, the one `SessionKey` out.

Owns the order of the rules in `key_rules`, who owns a key and which parts keep their case. What a shape
means is told by `key_shapes`. Must never look anything up, read a clock, or mend what it does not
understand: a key that breaks a rule is refused by that rule's name. No second implementation may
exist, here or elsewhere: `explain` runs the code of `canonical` and listens to it.

Why one pass over each rule is enough, so that a canonical key is its own canonical form: NFC never
joins a character to the colon before it, folding neither makes nor removes a colon or an empty
segment, and what decides about a span (channel, marker, `thread`) is compared folded.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from sessionplane.domain.errors import AgentMismatch, FieldInvalid, KeyInvalid, LimitExceeded
from sessionplane.domain.key_rules import (
    AGENT_ID_RULE,
    WHITE_SPACE,
    Rule,
    agent_id,
    excerpt,
    fold,
    is_canonical_segment,
    refused_character,
)
from sessionplane.domain.key_shapes import (
    KIND_BY_FIRST_WORD,
    KIND_BY_MARKER,
    MAIN,
    KeyKind,
    is_thread,
    kind_of,
    marker_index,
)
from sessionplane.domain.limits import DEFAULT, Limits

__all__ = [
    "DEFAULT_OPAQUE_PEERS",
    "KEY_RULES_VERSION",
    "Explanation",
    "KeyKind",
    "KeySettings",
    "OpaquePeer",
    "Rule",
    "SessionKey",
    "Step",
    "canonical",
    "explain",
    "from_stored",
    "is_full",
]

KEY_RULES_VERSION: Final[int] = 1
"""Rises with every change that gives any text another canonical form; the database records it."""

_RESERVED: Final = frozenset({"global", "unknown"})
_STORED: Final = re.compile(r"agent:([a-z0-9][a-z0-9_-]{0,63}):(.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpaquePeer:
    """A channel whose ids keep their case behind the given markers (`direct`, `group`, `channel`).

    One segment is kept, or with `whole_tail` all of them but the word of a trailing `:thread:`.
    Raises ValueError for a channel that no canonical key can have, or an unknown marker.
    """

    channel: str
    markers: frozenset[str]
    whole_tail: bool = False

    def __post_init__(self) -> None:
        if not is_canonical_segment(self.channel) or self.channel in KIND_BY_FIRST_WORD:
            raise ValueError(
                f"The channel {excerpt(self.channel)} of opaque_peers must be one segment in lower case"
                f" without spaces, and none of {', '.join(KIND_BY_FIRST_WORD)}."
            )
        if not self.markers or not self.markers <= KIND_BY_MARKER.keys():
            raise ValueError(
                f"The markers of channel {self.channel} in opaque_peers must be"
                f" some of {', '.join(KIND_BY_MARKER)}."
            )


DEFAULT_OPAQUE_PEERS: Final = (
    OpaquePeer(channel="signal", markers=frozenset({"direct", "group"})),
    OpaquePeer(channel="matrix", markers=frozenset({"direct", "group", "channel"}), whole_tail=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySettings:
    """What a server may choose about its keys; each change can give a spelling another home.

    `main_key` is a further spelling of `main`; `agents` None serves every agent.
    Raises ValueError with a sentence for the operator.
    """

    default_agent: str = MAIN
    main_key: str = MAIN
    agents: frozenset[str] | None = None
    opaque_peers: tuple[OpaquePeer, ...] = DEFAULT_OPAQUE_PEERS

    def __post_init__(self) -> None:
        for agent in (self.default_agent, *sorted(self.agents or ())):
            if agent_id(agent) != agent:
                raise ValueError(f"{excerpt(agent)} is not an agent id: use {AGENT_ID_RULE}.")
        if self.agents is not None and self.default_agent not in self.agents:
            raise ValueError(f"default_agent {self.default_agent} is not in agents: add it there.")
        if not is_canonical_segment(self.main_key) or self.main_key in _RESERVED:
            raise ValueError(
                f"main_key {excerpt(self.main_key)} must be one segment in lower case without spaces,"
                f" and none of {', '.join(sorted(_RESERVED))}."
            )
        channels = [peer.channel for peer in self.opaque_peers]
        if len(set(channels)) < len(channels):
            raise ValueError("opaque_peers names a channel twice: give each channel one entry.")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SessionKey:
    """A canonical key, `agent:<agent>:<rest>`; it sorts as its text does in the database.

    Only `canonical`, `explain` and `from_stored` build one, so whoever holds one holds a canonical key.
    `spelling` is what it was made from, without white space around it and with the request's agent put in
    front of a bare key: enough to make it again under other settings. It is "" where nobody wrote the key
    just now, and no part of the identity.
    """

    text: str
    agent: str
    rest: str
    spelling: str = field(default="", compare=False)

    def __str__(self) -> str:
        return self.text

    @property
    def kind(self) -> KeyKind:
        """What this key is about; a shape that is none of the known ones is `custom`."""
        return kind_of(self.rest)

    @property
    def is_thread(self) -> bool:
        """Whether it is a :thread: or :topic: of another conversation."""
        return is_thread(self.rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One rule that changed the text, or decided about it and left it as it was."""

    rule: Rule
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A canonical key and the rules that led to it, in order; each step begins where the last one ended."""

    key: SessionKey
    steps: tuple[Step, ...]


def canonical(
    raw: str, *, settings: KeySettings, agent: str = "", field: str = "session.key", limits: Limits = DEFAULT
) -> SessionKey:
    """Give the one key that this spelling means.

    `agent` is the request's agent, "" for none; `field` names the key in errors, and the agent is the
    field `agent` beside it. A canonical key is its own canonical form, and white space around a
    spelling changes nothing while the whole is within `raw_key_bytes_max`.

    Raises KeyInvalid (a rule refuses the key), AgentMismatch (its agent is not the request's, or is not
    served), FieldInvalid (the request's agent is no agent id), LimitExceeded (bytes of UTF-8, of the raw
    text or of the folded rest).
    """
    return _derive(raw, settings=settings, asked=agent, field=field, limits=limits, note=_unheard)


def explain(
    raw: str, *, settings: KeySettings, agent: str = "", field: str = "session.key", limits: Limits = DEFAULT
) -> Explanation:
    """Give what `canonical` gives, with each rule that changed or decided something; raises the same."""
    trace = _Trace(raw)
    key = _derive(raw, settings=settings, asked=agent, field=field, limits=limits, note=trace.note)
    return Explanation(key=key, steps=tuple(trace.steps))


def from_stored(text: str, *, spelling: str = "") -> SessionKey:
    """Split a canonical text that the store wrote; its rest is trusted, not judged again.

    Raises ValueError when it cannot have been written from a SessionKey: the database is not ours.
    """
    shape = _STORED.fullmatch(text)
    if shape is None:
        raise ValueError(f"The stored key {excerpt(text)} is not of the form agent:<agent>:<rest>.")
    return SessionKey(text=text, agent=shape[1], rest=shape[2], spelling=spelling)


_Note = Callable[[Rule, str, str], None]


def _unheard(rule: Rule, agent: str, rest: str) -> None:
    """Nobody asked why."""


class _Trace:
    """Collects the steps of one key; an empty agent stands for text whose agent is not decided yet."""

    def __init__(self, raw: str) -> None:
        self.steps: list[Step] = []
        self._text = raw

    def note(self, rule: Rule, agent: str, rest: str) -> None:
        after = f"agent:{agent}:{rest}" if agent else rest
        self.steps.append(Step(rule=rule, before=self._text, after=after))
        self._text = after


def _derive(
    raw: str, *, settings: KeySettings, asked: str, field: str, limits: Limits, note: _Note
) -> SessionKey:
    """Apply the rules, once each, in their order."""
    text = _cleaned(raw, field, limits.raw_key_bytes_max, note)
    agent, rest = _owned(text, settings, asked, field, note)
    spelling = f"agent:{agent}:{text}" if asked and not is_full(text) else text
    rest = _unwrapped(agent, rest, field, note)
    rest = _folded(agent, rest, settings, note)
    if rest == settings.main_key and rest != MAIN:
        rest = MAIN
        note(Rule.MAIN_KEY, agent, rest)
    if rest in _RESERVED:
        raise _refused(field, Rule.RESERVED, f"{rest} is a reserved name; choose another")
    _require_within(rest, limits.key_rest_bytes_max, field)
    return SessionKey(text=f"agent:{agent}:{rest}", agent=agent, rest=rest, spelling=spelling)


def _cleaned(raw: str, field: str, bytes_max: int, note: _Note) -> str:
    _require_within(raw, bytes_max, field)
    trimmed = raw.strip(WHITE_SPACE)
    if trimmed != raw:
        note(Rule.TRIM, "", trimmed)
    text = unicodedata.normalize("NFC", trimmed)
    if text != trimmed:
        note(Rule.NFC, "", text)
    if not text:
        raise _refused(field, Rule.EMPTY, "it is empty; send the key of the session, such as main")
    refusal = refused_character(text)
    if refusal:
        rule, character = refusal
        raise _refused(field, rule, f"it holds {character}; send the key without it")
    return text


def _owned(text: str, settings: KeySettings, asked: str, field: str, note: _Note) -> tuple[str, str]:
    """Decide the agent: the key's own, else the one that the request asks for, else the default."""
    hint = _agent_of_request(asked, field) if asked else ""
    source = field
    if is_full(text):
        agent, rest = _split_full(text, field)
        note(Rule.AGENT_PREFIX, agent, rest)
    elif hint:
        agent, rest, source = hint, text, _agent_field(field)
        note(Rule.AGENT_HINT, agent, rest)
    else:
        agent, rest = settings.default_agent, text
        note(Rule.DEFAULT_AGENT, agent, rest)
    if hint and agent != hint:
        problem = f"the request's agent is {hint}; send the key's own agent or none"
        raise AgentMismatch(field=source, agent=agent, problem=_by_rule(problem, Rule.AGENT_HINT))
    if settings.agents is not None and agent not in settings.agents:
        problem = "this server does not serve it; use an agent of its list, or add it there"
        raise AgentMismatch(field=source, agent=agent, problem=_by_rule(problem, Rule.ALLOW_LIST))
    return agent, rest


def _unwrapped(agent: str, rest: str, field: str, note: _Note) -> str:
    """Drop prefixes that a builder put in front of a full key; the agent stays the same or it is refused."""
    if "" in rest.split(":"):
        problem = "it has an empty segment; write exactly one colon between two parts, and none at the end"
        raise _refused(field, Rule.EMPTY_SEGMENT, problem)
    inner_rest = rest
    while is_full(inner_rest):
        inner_agent, inner_rest = _split_full(inner_rest, field)
        if inner_agent != agent:
            problem = f"agent {agent} is followed by the prefix of agent {inner_agent}; send one prefix only"
            raise _refused(field, Rule.UNWRAP, problem)
    if inner_rest != rest:
        note(Rule.UNWRAP, agent, inner_rest)
    return inner_rest


def _folded(agent: str, rest: str, settings: KeySettings, note: _Note) -> str:
    """Fold all but the opaque spans; colons are where they were, so segments keep their places."""
    plain = fold(rest)
    if plain == rest:
        return rest
    segments, written = plain.split(":"), rest.split(":")
    for index in _opaque_indexes(segments, settings):
        segments[index] = written[index]
    folded = ":".join(segments)
    if folded != plain:
        note(Rule.OPAQUE, agent, rest)
    if folded != rest:
        note(Rule.FOLD, agent, folded)
    return folded


def _opaque_indexes(segments: list[str], settings: KeySettings) -> list[int]:
    """Which segments keep their case, told from the folded ones."""
    marker = marker_index(segments)
    for peer in settings.opaque_peers if marker else ():
        if peer.channel == segments[0] and segments[marker] in peer.markers:
            span = range(marker + 1, len(segments) if peer.whole_tail else marker + 2)
            # The last `thread` with an id on both sides is the marker; earlier ones belong to the peer's id.
            threads = [index for index in span[1:-1] if segments[index] == "thread"]
            return [index for index in span if index not in threads[-1:]]
    return []


def is_full(text: str) -> bool:
    """Say whether a spelling names its agent itself, however badly."""
    return text[:6].lower() == "agent:"


def _split_full(text: str, field: str) -> tuple[str, str]:
    """Take `agent:<agent>:<rest>` apart; whether the rest is usable is for others to say."""
    _, agent, *rest = text.split(":", 2)
    if not rest:
        problem = "nothing follows the agent; write agent:<agent>:<rest>"
        raise _refused(field, Rule.AGENT_PREFIX, problem)
    folded = agent_id(agent)
    if folded is None:
        problem = f"{excerpt(agent)} is not an agent id; use {AGENT_ID_RULE}"
        raise _refused(field, Rule.AGENT_ID, problem)
    return folded, rest[0]


def _agent_of_request(asked: str, field: str) -> str:
    agent = agent_id(asked)
    if agent is None:
        problem = f"{excerpt(asked)} is not an agent id; use {AGENT_ID_RULE}"
        raise FieldInvalid(field=_agent_field(field), problem=_by_rule(problem, Rule.AGENT_ID))
    return agent


def _agent_field(key_field: str) -> str:
    message, dot, _ = key_field.rpartition(".")
    return f"{message}{dot}agent"


def _require_within(text: str, bytes_max: int, field: str) -> None:
    # Lone surrogates are counted here as three bytes and refused by their own rule later.
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    if size > bytes_max:
        raise LimitExceeded(field=field, actual=size, limit=bytes_max)


def _refused(field: str, rule: Rule, problem: str) -> KeyInvalid:
    return KeyInvalid(field=field, problem=_by_rule(problem, rule))


def _by_rule(problem: str, rule: Rule) -> str:
    return f"{problem} (rule {rule.name})"
