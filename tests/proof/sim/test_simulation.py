"""The simulation: it keeps every promise, says the same twice, makes enough happen, and tells what it found."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sessionplane.proof.history.judge import Broken
from sessionplane.proof.sim import census
from sessionplane.proof.sim.disk import Cabinet, cabinet
from sessionplane.proof.sim.part import run
from sessionplane.proof.sim.plan import PARTS, plan
from sessionplane.proof.sim.shrinking import shrink
from sessionplane.proof.sim.simulation import Recorded, simulate
from sessionplane.proof.sim.story import tell, verdict

pytestmark = pytest.mark.timeout(300)  # it takes seconds, but of a core that may be shared by many

SEEDS = range(100)
SAME_SEEDS = range(50)

FOUND = {
    86: "a refusal that nobody took, which led to resolves that were logged with their key; test_plane shows it",
    212: "a disk that stayed slow in a calm world, so that a lost run ended late: a mistake of the simulation",
    2445: "a watcher that read signs of life for ever in a calm world: a mistake of the simulation",
    4678: "a pause of the machine while a server started, after which runs were lost; test_upkeep shows it",
    1_004_594: "a subscriber that left while the end was on its way: a mistake of the simulation",
}
"""Seeds that once broke a promise, and what they led to with the clients of that time. Each stays in the suite."""


@pytest.fixture(scope="module")
def disks() -> Iterator[Cabinet]:
    with cabinet() as disks:
        yield disks


@pytest.fixture(scope="module")
def played(disks: Cabinet) -> Sequence[Recorded]:
    """The first seeds, played in this process."""
    return [simulate(plan(seed), disks) for seed in SEEDS]


def test_seeds_keep_every_promise_and_enough_happens(played: Sequence[Recorded]) -> None:
    """Nobody was lied to, and every kind of use and trouble was really there."""
    counts: Counter[str] = Counter()
    for recorded in played:
        seed = recorded.plan.seed
        assert not recorded.broken, f"python -m sessionplane.proof.sim {seed}: {recorded.broken[0]}"
        counts += census.count(recorded.history)
    assert census.missing(counts, len(SEEDS)) == []


def test_the_same_seed_is_the_same_log_byte_for_byte(played: Sequence[Recorded]) -> None:
    """Fifty seeds, once more in a process that hashes differently: all that clients did and saw, and every log."""
    digests = [hashlib.sha256(each.history.dump()).hexdigest() for each in played[: len(SAME_SEEDS)]]
    script = Path(__file__).with_name("digests.py")
    command = [sys.executable, str(script), str(SAME_SEEDS.start), str(SAME_SEEDS.stop)]
    other = "1" if sys.flags.hash_randomization else "2"
    environment = os.environ | {"PYTHONHASHSEED": other}
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert again.split() == digests
    assert len(set(digests)) == len(digests), "two seeds are the same"


@pytest.mark.parametrize("seed", FOUND)
def test_seeds_that_once_failed(disks: Cabinet, seed: int) -> None:
    """What was found once is not there again."""
    assert not simulate(plan(seed), disks).broken


def test_every_part_can_be_taken_out_of_a_plan() -> None:
    """What is left is a plan of the same seed, and less of it; at some point there is nothing left to take."""
    for part in PARTS:
        plans = [plan(seed) for seed in range(100)]
        less = [each.without(part) for each in plans]
        assert [each.seed for each in less] == [each.seed for each in plans]
        assert less != plans, f"no plan has {part}"
    smallest = plan(1)
    for part in [*PARTS] * 10:
        smallest = smallest.without(part)
    assert all(smallest.without(part) == smallest for part in PARTS)


def test_shrinking_keeps_what_the_failure_needs() -> None:
    """Everything is taken away but what the failure is about."""
    crashing = next(planned for seed in range(100) if (planned := plan(seed)).crashes and planned.callers > 1)
    gone = shrink(crashing, lambda less: bool(less.crashes) and less.callers > 1)
    left = crashing
    for part in gone:
        left = left.without(part)
    assert left.crashes == crashing.crashes
    assert (left.callers, left.runners, left.steps, left.subscribers, left.watchers, left.restarts) == (
        2,
        1,
        1,
        0,
        0,
        (),
    )


def test_a_broken_promise_is_told_with_its_seed(played: Sequence[Recorded]) -> None:
    """The story has the plan, every line of the recording and the verdict."""
    whole = played[3]
    assert list(verdict(whole)) == ["seed 3: every promise was kept"]
    broken = replace(whole, broken=[Broken("Fencing", "two had it")])
    story = list(tell(broken))
    assert story[0].startswith("Plan(seed=3")
    assert len(story) > len(whole.history.lines)
    assert story[-1] == "seed 3: Fencing: two had it"


def test_too_little_traffic_is_invalid(disks: Cabinet) -> None:
    """Seeds in which nothing happens count for nothing, however many there are."""
    quiet: Recorded = simulate(
        replace(plan(3), callers=0, runners=0, operators=0, subscribers=0, watchers=0), disks
    )
    counts = census.count(quiet.history)
    assert not quiet.broken
    problems = census.missing(Counter({thing: number * 1_000 for thing, number in counts.items()}), 1_000)
    assert len(problems) == len(census.PER_THOUSAND) + 1
    assert problems[-1] == "invalid: 1000 of 1000 seeds had hardly any traffic"


def test_as_a_part_of_the_self_test_it_uses_all_cores_and_reports(tmp_path: Path) -> None:
    """Progress is told from the first block to the last, and a failing seed leaves its story."""
    seen: list[tuple[int, int]] = []
    outcome = run(24, folder=tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert outcome.ok, outcome.failures
    assert (outcome.checked, outcome.unit) == (24, "seeds")
    assert seen[-1] == (24, 24)
    assert len(seen) > 1
    assert list(tmp_path.iterdir()) == []


def test_a_seed_is_played_again_by_one_line(tmp_path: Path) -> None:
    """The command that a failure names tells the story of that seed."""
    command = [sys.executable, "-m", "sessionplane.proof.sim", "5", "--without", "crashes"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "seed 5: every promise was kept" in told
    assert "calls ResolveSession" in told or "calls StartRun" in told
