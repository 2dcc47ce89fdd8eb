"""The storm: processes full of callers resolve one new key at the same moment, each in its own spelling.

Shows "One key, one session", "One spelling" and "Loud" at their worst hour. Who calls is in `caller`; here is the
server, the starting gun, and the judgement of all answers together, before and after a kill -9. It must never look
into the database: what callers can ask for is enough.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from sessionplane.proof.caller import Answer
from sessionplane.proof.parts import Outcome, Progress
from sessionplane.proof.servers import ServerProcess, server_process
from sessionplane.v1.event_pb2 import EVENT_KIND_SESSION_CHANGED
from sessionplane.v1.session_pb2 import RESOLUTION_CREATED, RESOLUTION_EXISTING, RESOLUTION_JOINED
from sessionplane_client import Client

NAME = "storm"
CLAIM = "One new key, asked for by thousands of callers at the same moment, becomes one session; nobody is turned away."
PROCESSES = 8
KEY = "agent:main:storm"
SPELLINGS = (KEY, "storm", "STORM", " storm ", "Agent:MAIN:Storm")

Answers = Counter[Answer]


def run(count: int, *, folder: Path, progress: Progress, processes: int = PROCESSES) -> Outcome:
    """Call `count` times from so many processes. A database of its own is made in `folder`."""
    return asyncio.run(storm(count, folder=folder, progress=progress, processes=processes))


async def storm(count: int, *, folder: Path, progress: Progress, processes: int = PROCESSES) -> Outcome:
    """As `run`, in a loop that is there already."""
    began_s = time.monotonic()
    async with server_process(folder / "storm.db") as server:
        answers, took_s = await _answers(server, count, min(processes, count), progress)
        failures = judged(answers, count)
        await server.kill()
        await server.start()
        failures += await _afterwards(server, answers)
    return Outcome(
        name=NAME,
        claim=CLAIM,
        checked=answers.total(),
        unit="resolves",
        failures=failures,
        measured={"processes": min(processes, count), "storm_s": round(took_s, 2)},
        seconds=time.monotonic() - began_s,
    )


def judged(answers: Mapping[Answer, int], count: int) -> list[str]:
    """Return what is wrong with the answers of a storm of `count` calls."""
    failures = [
        f"{many} calls were refused: {answer.code} {answer.message} (spelling {answer.spelling!r})"
        for answer, many in answers.items()
        if answer.code != "OK"
    ]
    if (total := sum(answers.values())) != count:
        failures.append(f"{count} calls were made and {total} were answered")
    good = [(answer, many) for answer, many in answers.items() if answer.code == "OK"]
    if len(ids := {answer.session_id for answer, _ in good}) != 1:
        failures.append(f"one key got {len(ids)} sessions: {', '.join(sorted(ids)[:5])}")
    if raw := {answer.key for answer, _ in good} - {KEY}:
        failures.append(f"the key is {KEY}, and was called {', '.join(map(repr, sorted(raw)))}")
    if later := {answer.generation for answer, _ in good} - {1}:
        failures.append(f"a new session is in its generation 1, not {', '.join(map(str, sorted(later)))}")
    created = sum(many for answer, many in good if answer.resolution == RESOLUTION_CREATED)
    if created != 1:
        failures.append(f"{created} callers were told that they had created the session")
    expected = {RESOLUTION_CREATED, RESOLUTION_EXISTING, RESOLUTION_JOINED}
    if odd := {answer.resolution for answer, _ in good} - expected:
        failures.append(f"a resolve was answered with resolution {', '.join(map(str, sorted(odd)))}")
    return failures


async def _answers(
    server: ServerProcess, count: int, processes: int, progress: Progress
) -> tuple[Answers, float]:
    """Let all callers go at once; returns every answer, and how long it took until the last one."""
    shares = [count // processes + (each < count % processes) for each in range(processes)]
    done = [0] * processes

    async def read(each: int, process: Process) -> Answers:
        answers: Answers = Counter()
        assert process.stdout is not None  # noqa: S101  it was started with a pipe
        async for line in process.stdout:
            said = json.loads(line)
            done[each] = said["done"]
            progress(sum(done), count)
            answers.update({Answer(*answer): many for answer, many in said.get("answers", ())})
        await process.wait()
        return answers

    async with _callers(server.address, shares) as callers:
        began_s = time.monotonic()
        for process in callers:
            assert process.stdin is not None  # noqa: S101  it was started with a pipe
            process.stdin.write(b"go\n")
        found = await asyncio.gather(*(read(each, process) for each, process in enumerate(callers)))
        return sum(found, Counter()), time.monotonic() - began_s


@asynccontextmanager
async def _callers(address: str, shares: list[int]) -> AsyncIterator[list[Process]]:
    """Start the callers and wait until all are connected; whoever still runs in the end is killed."""
    async with AsyncExitStack() as ends:
        callers = []
        for share in shares:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "sessionplane.proof.caller", address, str(share), *SPELLINGS),
                stdin=PIPE,
                stdout=PIPE,
                limit=1 << 24,
            )
            ends.push_async_callback(_ended, process)
            callers.append(process)
        for process in callers:
            assert process.stdout is not None  # noqa: S101  it was started with a pipe
            if await process.stdout.readline() != b"ready\n":
                raise RuntimeError("a caller ended before it was connected")
        yield callers


async def _ended(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


async def _afterwards(server: ServerProcess, answers: Answers) -> list[str]:
    """Return what is wrong after the server was killed and came back: the session, its log, every spelling."""
    ids = {answer.session_id for answer in answers if answer.code == "OK"}
    failures = []
    async with Client(server.address) as client:
        found = {session.session_id async for session in client.sessions(show_internal=True)}
        if found != ids:
            failures.append(
                f"callers were given {sorted(ids)}, and {sorted(found)} are there after a kill -9"
            )
        for spelling in SPELLINGS:
            session = (await client.resolve(key=spelling)).session
            if session.session_id not in ids or session.generation != 1:
                failures.append(f"after a kill -9 {spelling!r} means another session, {session.session_id}")
        changes = [event async for event in client.list_events(key=KEY, kinds=[EVENT_KIND_SESSION_CHANGED])]
        if len(changes) != 1:
            failures.append(f"the session's log says {len(changes)} times that its state changed")
        broken = [result for result in await client.check_invariants() if result.violation_count]
        failures += [f"invariant {result.name} does not hold: {result.description}" for result in broken]
    return failures
