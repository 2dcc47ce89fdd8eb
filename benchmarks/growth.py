"""Measures whether cost grows with the file: `make bench-growth`, the same calls over a small and a large database.

Two files are written past the server: one with a thousand sessions and ten thousand events, one with a million and ten
million. A server is started on each, and the workloads take turns between them, at sessions anywhere in the file. Where
a table says floor, it is the small file. Before each measurement both files are read once, so that it is not about
whether they fit into memory. It needs Linux, about 5 GB of disk and of memory, and a quarter of an hour.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path

import uvloop

import driving
import processes
import report
from load import RESOLVE, connected, make_calls
from processes import Server
from samples import Line, at_least, at_most, measured
from sessionplane.proof import filled
from sessionplane.v1 import run_pb2, session_pb2
from sessionplane.v1 import runner_service_pb2 as runner
from sessionplane.v1 import session_service_pb2 as pb
from sessionplane.v1.event_pb2 import OutputDelta

SMALL, LARGE = 1_000, 1_000_000
QUICK_SMALL, QUICK_LARGE = 1_000, 50_000
ROUNDS, QUICK_ROUNDS = 7, 3
RATIO_MAX = 1.3
TARGETS = (at_least("ratio", round(1 / RATIO_MAX, 2)), at_most("cpu_ratio", RATIO_MAX))
WARM_UP = 0.2
PAGE = processes.HERE.parent / "docs" / "performance.md"

IN_FLIGHT = 64
RUNNERS = 16
REPLAYED = 1_000
IDLE_S = 3
PUBLISH = "/sessionplane.v1.RunnerService/PublishEvents"
FINISH = "/sessionplane.v1.RunnerService/FinishRun"
STREAM = "/sessionplane.v1.SessionService/StreamEvents"
LIST = "/sessionplane.v1.SessionService/ListSessions"
DELTAS = [runner.NewEvent(output_delta=OutputDelta(text=filled.TEXT))] * 16


@dataclass
class Side:
    """One file with a server on it, and what the workloads use of it."""

    sessions: int
    server: Server
    dice: random.Random
    idle: Iterator[int]
    long: list[str] = field(default_factory=list)
    made: int = 0

    def some_key(self) -> session_pb2.SessionRef:
        """Name any session of the file."""
        return session_pb2.SessionRef(key=filled.key_text(self.dice.randrange(self.sessions)))

    def idle_key(self) -> session_pb2.SessionRef:
        """Name a session in which nothing happens at the moment."""
        return session_pb2.SessionRef(key=filled.key_text(next(self.idle)))

    def number(self) -> str:
        """Return text that was never used on this side."""
        self.made += 1
        return f"{os.getpid()}-{self.made}"

    async def calls(
        self,
        path: str,
        requests: Sequence[bytes],
        *,
        in_flight: int = IN_FLIGHT,
        take: Callable[[bytes], None] | None = None,
    ) -> None:
        """Make all calls."""
        async with connected(self.server) as connections:
            await make_calls(connections, path, requests, in_flight=in_flight, take=take)


async def known(at: Side, count: int) -> int:
    """Keys that have a session."""
    requests = [pb.ResolveSessionRequest(session=at.some_key()).SerializeToString() for _ in range(count)]
    await at.calls(RESOLVE, requests)
    return count


async def new(at: Side, count: int) -> int:
    """Keys that have none, between those that have one."""
    refs = [session_pb2.SessionRef(key=f"{at.some_key().key}-{at.number()}") for _ in range(count)]
    await at.calls(RESOLVE, [pb.ResolveSessionRequest(session=ref).SerializeToString() for ref in refs])
    return count


def publication(run_id: str, lease_token: str) -> bytes:
    """Encode a publication of sixteen pieces of text."""
    request = runner.PublishEventsRequest(run_id=run_id, lease_token=lease_token, events=DELTAS)
    return request.SerializeToString()


async def hold(at: Side, count: int) -> list[tuple[str, str]]:
    """Start runs in sessions of their own and claim them; returns their ids and lease tokens."""
    run_ids = [f"run-{at.number()}" for _ in range(count)]
    specs = [run_pb2.RunSpec(run_id=run_id, input=run_pb2.Payload(text="measure")) for run_id in run_ids]
    starts = [pb.StartRunRequest(session=at.idle_key(), run=spec).SerializeToString() for spec in specs]
    await at.calls(driving.START, starts)
    held: list[tuple[str, str]] = []

    def take(data: bytes) -> None:
        claimed = runner.ClaimRunResponse.FromString(data)
        held.append((claimed.run.run_id, claimed.lease.token))

    wanted = [runner.ClaimRunRequest(run_id=run_id).SerializeToString() for run_id in run_ids]
    await at.calls(driving.CLAIM, wanted, take=take)
    return held


async def finish(at: Side, held: Sequence[tuple[str, str]]) -> None:
    """End runs."""
    ends = [
        runner.FinishRunRequest(run_id=run_id, lease_token=token, outcome=run_pb2.RUN_OUTCOME_SUCCEEDED)
        for run_id, token in held
    ]
    await at.calls(FINISH, [end.SerializeToString() for end in ends])


async def published(at: Side, count: int) -> int:
    """Publications of a few runs in turn, which begin and end with it."""
    held = await hold(at, RUNNERS)
    requests = [publication(*held[number % RUNNERS]) for number in range(count)]
    await at.calls(PUBLISH, requests, in_flight=RUNNERS)
    await finish(at, held)
    return count


async def through(at: Side, count: int) -> int:
    """Runs from their start to their end: four calls each."""
    held = await hold(at, count)
    await at.calls(PUBLISH, [publication(*each) for each in held])
    await finish(at, held)
    return count


async def subscribed(at: Side, count: int) -> int:
    """Streams of any session, attached: opened, and closing."""
    # Without old events: in the small file each stream that comes and goes would make them more.
    requests = [
        pb.StreamEventsRequest(session=at.some_key(), until=pb.STREAM_UNTIL_CAUGHT_UP) for _ in range(count)
    ]
    await at.calls(STREAM, [each.SerializeToString() for each in requests], in_flight=RUNNERS)
    return count


async def replayed(at: Side, count: int) -> int:
    """Logs of a thousand events, from their beginning."""
    events = 0

    def take(data: bytes) -> None:
        nonlocal events
        events += len(pb.StreamEventsResponse.FromString(data).batch.events)

    requests = [
        pb.StreamEventsRequest(
            session=session_pb2.SessionRef(session_id=at.long[number % len(at.long)]),
            start=pb.STREAM_START_OLDEST,
            until=pb.STREAM_UNTIL_CAUGHT_UP,
            presence=session_pb2.PRESENCE_OBSERVER,
        ).SerializeToString()
        for number in range(count)
    ]
    await at.calls(STREAM, requests, in_flight=2, take=take)
    assert events >= count * REPLAYED
    return events


async def listed(at: Side, count: int) -> int:
    """Pages of a hundred sessions."""
    await at.calls(LIST, [pb.ListSessionsRequest(page_size=100).SerializeToString()] * count, in_flight=4)
    return count


async def rested(_: Side, __: int) -> int:
    """Seconds in which nobody asks for anything: what is due is looked for, and nothing is found."""
    await asyncio.sleep(IDLE_S)
    return IDLE_S


Work = Callable[[Side, int], Awaitable[int]]
"""Does so much on a side; returns how many operations that were."""

WORKLOADS: Mapping[str, tuple[str, Work, int]] = {
    "known": ("resolve, established key", known, 4_000),
    "new": ("resolve, new key", new, 1_500),
    "publish": ("publish 16 events", published, 600),
    "runs": ("a run from start to end", through, 300),
    "subscribe": ("open a stream, attached", subscribed, 600),
    "replay": ("replay of 1,000 events, per event", replayed, 60),
    "list": ("page of 100 sessions", listed, 120),
    "idle": ("a second of nothing to do", rested, 1),
}


async def prepared(sessions: int, server: Server) -> Side:
    """Let some logs become long."""
    dice = random.Random(os.getpid())
    side = Side(sessions, server, dice, cycle(dice.sample(range(sessions), min(sessions, 50_000))))
    async with connected(server, 1) as (connection,):
        for _ in range(RUNNERS):
            held = await driving.hold_run(connection)
            await driving.fill(connection, held, REPLAYED)
            side.long.append(held.session_id)
    return side


def read_once(folder: Path) -> None:
    """Read all files, so that the kernel has them."""
    for database in folder.glob("*.db*"):
        with database.open("rb", buffering=0) as file:
            while file.read(1 << 20):
                pass


async def line_of(workload: str, small: Side, large: Side, rounds: int, folder: Path) -> Line:
    """Let both files take turns at a workload."""
    name, work, count = WORKLOADS[workload]
    line = Line(name, "operation", f"{small.sessions:,} sessions", TARGETS)
    for at in (small, large):
        await work(at, max(RUNNERS, round(count * WARM_UP)))
    for number in range(rounds):
        # Who comes first finds the caches as the other left them.
        for at in (small, large) if number % 2 else (large, small):
            await asyncio.to_thread(read_once, folder)
            with measured(at.server) as sample:
                sample.operations = await work(at, count)
            (line.floors if at is small else line.results).append(sample)
    return line


async def measure(chosen: argparse.Namespace, folder: Path, servers: Mapping[int, Server]) -> list[Line]:
    """Run the workloads, one line of progress each."""
    rounds = chosen.rounds or (QUICK_ROUNDS if chosen.quick else ROUNDS)
    small, large = [await prepared(sessions, server) for sessions, server in servers.items()]
    lines = []
    for workload in chosen.only or WORKLOADS:
        print(f"{workload:<12}", end="", flush=True)
        line = await line_of(workload, small, large, rounds, folder)
        numbers = line.numbers()
        shown = (report.ranged(numbers[each]) for each in ("ratio", "cpu_ratio"))
        print(" rate {:<20} CPU {}".format(*shown), flush=True)
        lines.append(line)
    return lines


def start(stack: ExitStack, folder: Path, sessions: int) -> Server:
    """Write a file unless it is there, and start a server on it."""
    database, built_s = folder / f"{sessions}.db", 0.0
    if not database.exists():
        # A server makes the file, so that it says what its keys are canonical under.
        with processes.sessionplane(folder, database.stem):
            pass
        built_s = filled.build(database, sessions)
    size_mb, began_s = database.stat().st_size / 1e6, time.monotonic()
    # Who has left a stream is settled with the next sweep, and not counted to the next workload.
    server = stack.enter_context(processes.sessionplane(folder, database.stem, detach_linger_ms=1))
    print(
        f"{sessions:,} sessions, {sessions * filled.EVENTS:,} events, {size_mb:,.0f} MB: written in"
        f" {built_s:.0f} s, served after {time.monotonic() - began_s:.1f} s",
        flush=True,
    )
    return server


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="make bench-growth ARGS=...", description=__doc__.partition("\n\n")[0]
    )
    parser.add_argument(
        "--quick", action="store_true", help="a large file of 50,000 sessions: a minute or two"
    )
    parser.add_argument(
        "--small", type=int, metavar="N", help=f"sessions of the small file [default: {SMALL:,}]"
    )
    parser.add_argument(
        "--large", type=int, metavar="N", help=f"sessions of the large file [default: {LARGE:,}]"
    )
    parser.add_argument(
        "--rounds", type=int, metavar="N", help=f"rounds of each workload [default: {ROUNDS}]"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="leave the files there, and use them again the next time"
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", choices=WORKLOADS, help=f"of: {', '.join(WORKLOADS)}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the numbers go [default: results/]")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/performance.md")
    return parser.parse_args()


@contextlib.contextmanager
def folder_of(chosen: argparse.Namespace) -> Iterator[Path]:
    """Give the files a folder for the time, or the one that keeps them."""
    if chosen.keep:
        chosen.keep.mkdir(parents=True, exist_ok=True)
        yield chosen.keep
        return
    with tempfile.TemporaryDirectory(prefix="growth-") as name:
        yield Path(name)


def main() -> int:
    """Measure, print, write; returns the exit code, which says nothing about targets."""
    chosen = arguments()
    command = " ".join(["make bench-growth", *([f"ARGS='{' '.join(sys.argv[1:])}'"] if sys.argv[1:] else [])])
    results = processes.HERE / "results"
    results.mkdir(exist_ok=True)
    print(f"{report.machine()}\nload before: {os.getloadavg()[0]:.1f}\n")
    before_ms = report.loop_ms()
    sizes = (
        chosen.small or (QUICK_SMALL if chosen.quick else SMALL),
        chosen.large or (QUICK_LARGE if chosen.quick else LARGE),
    )
    with folder_of(chosen) as folder, ExitStack() as stack:
        servers = {sessions: start(stack, folder, sessions) for sessions in sizes}
        lines = uvloop.run(measure(chosen, folder, servers))
    loops_ms = (before_ms, report.loop_ms())
    print()
    for row in report.table(lines):
        print(row)
    written = chosen.json or results / f"growth-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    written.write_text(
        json.dumps(report.to_json(lines, command, loops_ms), indent=1) + "\n", encoding="utf-8"
    )
    print(f"\nNumbers of every round: {os.path.relpath(written)}")
    if chosen.docs:
        report.write_docs(PAGE, report.markdown(lines, command, loops_ms), "growth")
    return 0


if __name__ == "__main__":
    sys.exit(main())
