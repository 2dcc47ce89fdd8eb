"""What the shape of a key tells: its kind, and the conversation that a thread hangs on."""

from __future__ import annotations

import pytest

from sessionplane.domain.keys import KeyKind, canonical
from tests.support.keys import PLAIN


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        ("main", KeyKind.MAIN),
        ("settings2", KeyKind.CUSTOM),
        ("main:thread:5", KeyKind.CUSTOM),
        ("direct", KeyKind.CUSTOM),
        ("direct:bo", KeyKind.DIRECT),
        ("telegram:direct:7", KeyKind.DIRECT),
        ("telegram:work:direct:7:thread:8", KeyKind.DIRECT),
        ("telegram:group:7:topic:8", KeyKind.GROUP),
        ("telegram:group", KeyKind.CUSTOM),
        ("telegram:work:group:7", KeyKind.CUSTOM),
        ("telegram:work:direct", KeyKind.CUSTOM),
        ("slack:channel:c1:thread:17.5", KeyKind.CHANNEL),
        ("matrix:channel:!R:example.org", KeyKind.CHANNEL),
        ("subagent:a", KeyKind.SUBAGENT),
        ("subagent:a:subagent:b", KeyKind.SUBAGENT),
        ("subagent", KeyKind.CUSTOM),
        ("cron:j", KeyKind.CRON),
        ("cron:j:run:7", KeyKind.CRON),
        ("hook:u", KeyKind.HOOK),
        ("acp:u", KeyKind.ACP),
        ("node-3", KeyKind.CUSTOM),
        ("ses_0190b7a1", KeyKind.CUSTOM),
    ],
)
def test_the_kind_follows_from_the_shape(raw: str, kind: KeyKind) -> None:
    """The kind is told from the rest alone, whichever agent owns it."""
    assert canonical(raw, settings=PLAIN).kind is kind
    assert canonical(raw, settings=PLAIN, agent="ops").kind is kind


@pytest.mark.parametrize(
    ("raw", "thread"),
    [
        ("main:thread:5", True),
        ("direct:bo:thread:8", True),
        ("telegram:work:direct:7:thread:8", True),
        ("telegram:group:7:topic:8", True),
        ("slack:channel:c1:thread:17.5", True),
        ("matrix:channel:!R:example.org:Thread:$E", True),
        ("main", False),
        ("telegram:group:7", False),
        ("telegram:group:7:topic", False),
        ("telegram:group:thread:8", False),
        ("direct:topic:8", False),
        ("main:group:topic:8", False),
        ("thread:direct:7", False),
        ("book:topic:8", False),
        ("thread:8", False),
        ("cron:j:thread:8", False),
        ("hook:mail:thread:8", False),
        ("subagent:direct:7:thread:8", False),
    ],
)
def test_a_thread_hangs_on_a_conversation(raw: str, thread: bool) -> None:
    """The words `thread` and `topic` make one behind main, a peer or a room; in an id they mean nothing."""
    assert canonical(raw, settings=PLAIN).is_thread is thread
    assert canonical(raw, settings=PLAIN, agent="ops").is_thread is thread
