"""Time, ids and secrets that a test decides about."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class FakeClock:
    """Two clocks that stand still until they are told."""

    wall: int = 1_800_000_000_000
    monotonic: int = 5_000_000

    def wall_ms(self) -> int:
        """Unix milliseconds."""
        return self.wall

    def monotonic_ms(self) -> int:
        """Milliseconds that never go back."""
        return self.monotonic

    def advance(self, ms: int) -> None:
        """Let time pass on both."""
        self.wall += ms
        self.monotonic += ms


@dataclass
class Counting:
    """Ids and secrets that count, each kind from 1."""

    counts: Counter[str] = field(default_factory=Counter)

    def new_id(self, prefix: str) -> str:
        """The prefix and 32 hexadecimal digits, as real ids have them."""
        self.counts[prefix] += 1
        return f"{prefix}{self.counts[prefix]:032x}"

    def new_secret(self) -> str:
        """Another secret each time."""
        self.counts["secret"] += 1
        return f"lse_secret_{self.counts['secret']}"
