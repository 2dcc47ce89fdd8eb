"""Resolving keys: established ones, new ones, and many callers who want the same new one at once.

The floor is the bare handler: the same method on the same kind of server, with the same request and an answer of the
same fields, and nothing behind it. What is missing to it is what resolving costs. It is fair since no unary method in
Python can be quicker, and since the load generator is far from its own limit on both sides. New keys have a second
floor, bare SQLite: the rows that each new session needs, half as many in a commit as there are calls in flight.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import chain, islice, repeat

from http2 import Connection
from load import RESOLVE, Bench, connected, make_calls
from processes import HERE, Server
from samples import Line, Sample, at_least, measured
from sessionplane.v1 import session_pb2
from sessionplane.v1 import session_service_pb2 as pb

IN_FLIGHT = 64
ESTABLISHED_KEYS = 1_000
ESTABLISHED_CALLS = 4_000
NEW_CALLS = 1_500
NEW_GROUP = IN_FLIGHT // 2
STORM_CALLS = 256
STORMS = 12


def request(key: str) -> bytes:
    """Encode the resolve of a key."""
    return pb.ResolveSessionRequest(session=session_pb2.SessionRef(key=key)).SerializeToString()


async def _load(
    server: Server, requests: Sequence[bytes], take: Callable[[bytes], None] | None = None
) -> Sample:
    async with connected(server) as connections:
        await _warm(connections)
        with measured(server) as sample:
            await make_calls(connections, RESOLVE, requests, in_flight=IN_FLIGHT, take=take)
            sample.operations = len(requests)
    return sample


async def _warm(connections: Sequence[Connection]) -> None:
    await make_calls(connections, RESOLVE, [request("direct:warm")] * 200, in_flight=IN_FLIGHT)


async def established(bench: Bench) -> Line:
    """Keys whose sessions are there."""
    line = Line("resolve, established key", "call", "bare handler", (at_least("ratio", 0.85),))
    keys = [request(f"direct:known-{number:06}") for number in range(ESTABLISHED_KEYS)]
    requests = list(islice(chain.from_iterable(repeat(keys)), bench.size(ESTABLISHED_CALLS)))
    await _load(bench.ours, keys)
    for _ in range(bench.rounds):
        line.floors.append(await _load(bench.floor, requests))
        line.results.append(await _load(bench.ours, requests))
    return line


async def new(bench: Bench) -> Line:
    """Keys that nobody has asked for: each is a session, committed before the answer."""
    line = Line(
        f"resolve, new key, {IN_FLIGHT} in flight", "call", "bare handler", (at_least("ratio", 0.60),)
    )
    count = bench.size(NEW_CALLS)
    for turn in range(bench.rounds):
        requests = [request(f"direct:new-{turn}-{number:06}") for number in range(count)]
        answers: list[bytes] = []
        line.floors.append(await _load(bench.floor, requests))
        line.results.append(await _load(bench.ours, requests, answers.append))
        assert len({_session_id(data) for data in answers}) == count, "each new key is a session of its own"
    return line


async def new_rows(bench: Bench) -> Line:
    """The same against the rows alone."""
    line = Line(f"resolve, new key, {IN_FLIGHT} in flight", "call", f"bare SQLite, {NEW_GROUP} a commit")
    count = bench.size(NEW_CALLS)
    for turn in range(bench.rounds):
        requests = [request(f"direct:row-{turn}-{number:06}") for number in range(count)]
        line.floors.append(bare_sqlite(bench, "resolve", count, NEW_GROUP))
        line.results.append(await _load(bench.ours, requests))
    return line


def bare_sqlite(bench: Bench, kind: str, count: int, group: int) -> Sample:
    """Measure bare SQLite in a new process, on a new file."""
    database = bench.folder / "bare.db"
    for file in bench.folder.glob("bare.db*"):
        file.unlink()
    command = [sys.executable, str(HERE / "bare_sqlite.py"), kind, str(count), str(group), str(database)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Sample(**json.loads(done.stdout))


async def storm(bench: Bench) -> Line:
    """All at once for one new key: one of them creates, the others join."""
    name = f"resolve, storm of {STORM_CALLS} on one new key"
    line = Line(name, "call", "bare handler", (at_least("ratio", 0.85),))
    storms = bench.size(STORMS)
    for turn in range(bench.rounds):
        keys = [f"direct:storm-{turn}-{number:06}" for number in range(storms)]
        line.floors.append(await _storms(bench.floor, keys, 1))
        line.results.append(await _storms(bench.ours, keys, len(keys)))
    return line


async def _storms(server: Server, keys: Sequence[str], sessions: int) -> Sample:
    ids: set[str] = set()
    async with connected(server) as connections:
        await _warm(connections)
        with measured(server) as sample:
            for key in keys:
                requests = [request(key)] * STORM_CALLS
                await make_calls(
                    connections,
                    RESOLVE,
                    requests,
                    in_flight=STORM_CALLS,
                    take=lambda data: ids.add(_session_id(data)),
                )
            sample.operations = len(keys) * STORM_CALLS
    assert len(ids) == sessions, "one key is one session, whoever asks"
    return sample


def _session_id(data: bytes) -> str:
    return pb.ResolveSessionResponse.FromString(data).session.session_id
