"""What people are told before they accept other key settings."""

from __future__ import annotations

from sessionplane.domain.key_changes import KeyRecord
from sessionplane.domain.key_report import KeyChanges, Listed, Meeting, Move, refused_line, stray_line
from sessionplane.domain.keys import KeySettings, from_stored

BEFORE = KeyRecord(settings=KeySettings())
AFTER = KeyRecord(settings=KeySettings(default_agent="ops"))


def key(number: int, agent: str = "main") -> str:
    return f"agent:{agent}:k{number}"


def move(number: int) -> Move:
    """A key of agent main that goes to agent ops."""
    return Move(
        namespace="default",
        key=from_stored(key(number)),
        target=from_stored(key(number, "ops")),
        session_id=f"ses_{number}",
    )


def listed(count: int) -> Listed:
    made = Listed()
    for number in range(count):
        made.add(f"line {number}")
    return made


def report(**found: object) -> list[str]:
    return list(KeyChanges(before=BEFORE, after=AFTER, key_count=1_234, **found).report())  # type: ignore[arg-type]


def test_a_report_names_the_first_of_each_kind_and_counts_the_rest() -> None:
    """Twenty lines are read; ten thousand are not."""
    told = report(moves=[move(number) for number in range(1_021)], refused=listed(21), strays=listed(20))
    assert told[:4] == [
        "The key settings are not those that the database was written under.",
        "  default_agent: main -> ops",
        "Of its 1,234 keys, 1,062 are touched.",
        "Keys that become another (1,021):",
    ]
    assert told[4] == "  agent:main:k0 -> agent:ops:k0"
    assert told[24] == "  ... and 1,001 more"
    refused = told.index("Keys that are refused (21):")
    assert told[refused + 21] == "  ... and 1 more"
    assert "Nobody can reach them by key until the settings" in told[refused + 22]
    assert told[-1] == "  line 19"


def test_a_report_says_who_keeps_a_key() -> None:
    """And that the others are still there."""
    meeting = Meeting(
        namespace="default",
        key=from_stored(key(1, "ops")),
        keeper_id="ses_1",
        loser_ids=("ses_2", "ses_3"),
    )
    told = report(moves=[move(1)], meetings=[meeting])
    assert told[-2] == "  agent:ops:k1: ses_1 keeps it; final: ses_2, ses_3"
    assert "nothing is removed" in told[-1]


def test_a_report_is_silent_about_what_does_not_happen() -> None:
    """Only what is there has a heading."""
    assert len(report(moves=[move(1)])) == 5


def test_only_what_somebody_would_notice_is_a_change() -> None:
    """Keys that stay for everybody need nobody's consent."""
    assert not KeyChanges(before=None, after=AFTER, key_count=9).touched
    for found in ({"moves": [move(1)]}, {"refused": listed(1)}, {"strays": listed(1)}):
        assert KeyChanges(before=None, after=AFTER, key_count=9, **found).touched


def test_lines_say_why_and_where_to() -> None:
    """A refused key comes with its rule, a stray spelling with where it leads."""
    assert refused_line(from_stored(key(1)), "not served") == "agent:main:k1: not served"
    assert stray_line(from_stored(key(1)), "k1", "agent:ops:k1") == "agent:main:k1: k1 -> agent:ops:k1"
