"""The command line as people use it: real processes against a real server."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.support import commands
from tests.support.commands import Ended, begun, end, line_with
from tests.support.forked import Forked
from tests.support.serving import Served

Start = Callable[..., Awaitable[Forked]]
Command = Callable[..., Awaitable[Ended]]


@pytest.fixture
async def start(server: Served) -> AsyncIterator[Start]:
    """Starts a command against the server; what still runs at the end of the test is killed."""
    async with AsyncExitStack() as stack:

        async def begin(*arguments: str) -> Forked:
            return await stack.enter_async_context(begun(*arguments, SESSIONPLANE_TARGET=server.address))

        yield begin


@pytest.fixture
def command(server: Served) -> Command:
    """Runs a command against the server to its end."""
    return partial(commands.command, SESSIONPLANE_TARGET=server.address)


async def python(*arguments: str) -> Process:
    """Starts Python itself, for what is about the way from there to a command."""
    return await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )


async def test_resolve_prints_the_one_session(command: Command) -> None:
    """Every spelling of a key prints the same session; only the first one created it."""
    first = await command("resolve", "Settings2")
    again = json.loads((await command("resolve", "agent:main:settings2", "--json")).out)
    assert first.code == 0
    assert "agent:main:settings2" in first.out
    assert "CREATED" in first.out
    assert again["session"]["session_id"] in first.out
    assert again["resolution"] == "RESOLUTION_EXISTING"


async def test_run_publishes_standard_input(command: Command) -> None:
    """What is piped in becomes the run's output; the log holds it once, in order, with the terminal last."""
    ran = await command("run", "k", "--input", "say hello", given="hello\nworld\n")
    assert ran.code == 0
    assert r'SUCCEEDED by RUNNER  "hello\nworld\n"' in ran.out
    log = await command("stream", "k", "--from", "oldest", "--until", "caught-up", "--observer", "--json")
    events = [json.loads(line) for line in log.out.splitlines()]
    assert [int(event["sequence"]) for event in events] == list(range(1, len(events) + 1))
    assert "".join(e["output_delta"]["text"] for e in events if "output_delta" in e) == "hello\nworld\n"
    assert events[-1]["run_terminal"]["outcome"] == "RUN_OUTCOME_SUCCEEDED"


async def test_stream_ends_with_the_run(start: Start, command: Command) -> None:
    """A stream that waits for a run shows it to its end, readably, and exits with 0."""
    following = await start("stream", "k", "--create", "--until", "run-end")
    await line_with(following.stderr, "Following agent:main:k")
    await command("run", "k", given="hello")
    ended = await end(following)
    assert ended.code == 0
    assert ended.err == ""
    assert ended.out.splitlines()[-1].endswith('end       SUCCEEDED by RUNNER  "hello"')


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_a_run_that_is_stopped_here_ends_interrupted(how: signal.Signals, start: Start) -> None:
    """Ctrl-C and SIGTERM report INTERRUPTED with the text so far, and exit with 130."""
    running = await start("run", "k")
    await line_with(running.stderr, "is running")
    running.send_signal(how)
    ended = await end(running)
    assert ended.code == 130
    assert "INTERRUPTED by RUNNER" in ended.out
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(("how", "cause"), [((), "RUNNER"), (("--force",), "FORCED")])
async def test_an_interrupt_from_outside_stops_a_run(
    how: tuple[str, ...], cause: str, start: Start, command: Command
) -> None:
    """The run's command stops although its input goes on, says so, and exits with 130."""
    running = await start("run", "k")
    await line_with(running.stderr, "is running")
    asked = await command("interrupt", "k", "--reason", "wrong question", "--wait", *how)
    assert asked.code == 0
    assert f"INTERRUPTED by {cause}" in asked.out
    assert running.stdout is not None
    assert running.stderr is not None
    assert f"INTERRUPTED by {cause}" in (await running.stdout.read()).decode()
    assert await running.wait() == 130
    assert "Traceback" not in (await running.stderr.read()).decode()


async def test_a_run_that_is_over_is_not_run_again(command: Command) -> None:
    """The same --run-id again publishes nothing, says so, shows how the run ended, and is no success."""
    await command("run", "k", "--run-id", "mine", given="first")
    again = await command("run", "k", "--run-id", "mine", given="second")
    assert again.code == 1
    assert "was not published" in again.err
    assert 'SUCCEEDED by RUNNER  "first"' in again.out


async def test_a_run_that_another_runner_has_is_left_to_it(start: Start, command: Command) -> None:
    """Who comes second with the same --run-id says so and goes, instead of asking again and again."""
    running = await start("run", "k", "--run-id", "mine")
    await line_with(running.stderr, "is running")
    again = await command("run", "k", "--run-id", "mine", given="second")
    assert again.code == 1
    assert again.err.count("\n") == 1
    assert "has another runner" in again.err


async def test_an_input_goes_to_the_run_that_is_active(start: Start, command: Command) -> None:
    """--policy inject is somebody else's run: it is named, and standard input is not published."""
    running = await start("run", "k", "--run-id", "active")
    await line_with(running.stderr, "is running")
    sent = await command(
        "run", "k", "--policy", "inject", "--input", "more", "--run-id", "mine", given="text"
    )
    assert (sent.code, sent.err) == (0, "")
    assert sent.out == "Input mine is with run active. Standard input was not published.\n"
    refused = await command("run", "k", "--policy", "reject")
    assert (refused.code, "RUN_IN_PROGRESS" in refused.err) == (1, True)


async def test_a_run_that_interrupts_is_the_next(start: Start, command: Command) -> None:
    """--policy interrupt stops the one that is active, and runs as soon as that has ended."""
    running = await start("run", "k")
    await line_with(running.stderr, "is running")
    instead = await command("run", "k", "--policy", "interrupt", given="instead")
    assert (instead.code, 'SUCCEEDED by RUNNER  "instead"' in instead.out) == (0, True)
    assert await running.wait() == 130


async def test_an_interrupt_may_say_what_comes_instead(start: Start, command: Command) -> None:
    """--drop-queued and --then are counted and named; the new run is the next one of the session."""
    running = await start("run", "k")
    await line_with(running.stderr, "is running")
    await command("run", "k", "--policy", "inject", "--input", "more")
    asked = await command("interrupt", "k", "--drop-queued", "--then", "Start over.", "--pool", "agents")
    assert asked.code == 0, asked.err
    assert "dropped      1\n" in asked.out
    assert "place 1 in line" in asked.out
    assert await running.wait() == 130
    listed = await command("runs", "k", "--state", "pending", "--json")
    assert json.loads(listed.out)["pool"] == "agents"
    wrong = await command("interrupt", "k", "--pool", "agents")
    assert (wrong.code, "--then" in wrong.err) == (2, True)


async def test_runs_lists_them(command: Command) -> None:
    """One row or one JSON object for each run, newest first; a limit that cuts the list says so."""
    for name in ("one", "two"):
        await command("run", "k", "--run-id", name, given=name)
    table, lines = await asyncio.gather(command("runs", "k"), command("runs", "k", "--json"))
    assert (table.code, lines.code) == (0, 0), table.err + lines.err
    assert [json.loads(line)["run_id"] for line in lines.out.splitlines()] == ["two", "one"]
    assert [line.split()[0] for line in table.out.splitlines()] == ["RUN", "two", "one"]
    assert "SUCCEEDED by RUNNER" in table.out
    cut = await command("runs", "k", "--limit", "1", "--state", "finished")
    assert (len(cut.out.splitlines()), "more than 1" in cut.err) == (2, True)
    nothing = await command("runs", "k", "--state", "queued")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "There are no such runs.\n")


async def test_nothing_to_stop_is_no_error(command: Command) -> None:
    """An interrupt without a run is NO_OP and exit code 0."""
    await command("resolve", "k")
    asked = await command("interrupt", "k")
    assert (asked.code, "NO_OP" in asked.out) == (0, True)


async def test_a_session_is_suspended_and_closed(start: Start, command: Command) -> None:
    """The commands print the session as it is then; closing waits for the run under way if told to."""
    await command("resolve", "k")
    refused = await command("suspend", "k")
    assert (refused.code, "INVALID_TRANSITION" in refused.err) == (1, True)
    await command("run", "k", given="hello")
    running = await start("run", "k")
    await line_with(running.stderr, "is running")
    suspended = await command("suspend", "k", "--grace", "600")
    assert (suspended.code, "SUSPENDED" in suspended.out) == (0, True)
    closed = await command("close", "k", "--reason", "The user left.", "--wait")
    assert (closed.code, "INTERRUPTED by RUNNER" in closed.out) == (0, True)
    ended = await end(running)
    assert (ended.code, "The user left." in ended.err) == (130, True)
    again = json.loads((await command("close", "k", "--json")).out)
    assert again["session"]["state"] == "SESSION_STATE_ENDED"


async def test_sessions_lists_them(command: Command) -> None:
    """One row or one JSON object for each session."""
    await command("resolve", "a")
    await command("resolve", "b")
    table, lines = await asyncio.gather(command("sessions"), command("sessions", "--json"))
    assert (table.code, lines.code) == (0, 0), table.err + lines.err
    assert [json.loads(line)["key"] for line in lines.out.splitlines()] == ["agent:main:b", "agent:main:a"]
    assert "agent:main:a" in table.out
    assert len(table.out.splitlines()) == 3


async def test_sessions_lists_those_that_are_asked_for(command: Command) -> None:
    """Flags narrow the list; a refused filter shows the server's sentence; a limit that cuts the list says so."""
    for key in ("a", "cron:b", "cron:c"):
        await command("resolve", key)
    by_kind, by_prefix, none, cut, refused = await asyncio.gather(
        command("sessions", "--json", "--kind", "cron", "--idle", "--since", "1h"),
        command("sessions", "--json", "--prefix", "agent:main:a", "--state", "created", "--show-internal"),
        command("sessions", "--running"),
        command("sessions", "--json", "--limit", "2"),
        command("sessions", "--filter", "colour = red"),
    )
    assert [json.loads(line)["key"] for line in by_kind.out.splitlines()] == [
        "agent:main:cron:c",
        "agent:main:cron:b",
    ], by_kind.err
    assert [json.loads(line)["key"] for line in by_prefix.out.splitlines()] == ["agent:main:a"]
    assert (none.code, none.out, none.err) == (0, "", "There are no such sessions.\n")
    assert (len(cut.out.splitlines()), cut.err) == (2, "There are more than 2: --limit shows them.\n")
    assert (refused.code, "FILTER_INVALID" in refused.err) == (1, True)
    assert "at character 1, 'colour' is no field" in refused.err


async def test_explain_key_and_version_ask_the_server(command: Command) -> None:
    """The server explains its keys and says what it is."""
    explained, version = await asyncio.gather(
        command("explain-key", "Settings2"), command("version", "--server")
    )
    assert '"agent:main:Settings2" -> "agent:main:settings2"' in explained.out
    assert "sqlite" in version.out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("resolve", "two words"), "KEY_INVALID"),
        (("stream", "nobody"), "KEY_NOT_BOUND"),
        (("interrupt", "--run-id", "run_none"), "RUN_NOT_FOUND"),
        (("stream", "nobody", "--create", "--from", "rubbish"), "TOKEN_INVALID"),
    ],
)
async def test_a_refusal_is_a_sentence_and_exit_code_1(
    arguments: tuple[str, ...], reason: str, command: Command
) -> None:
    """The server's reason and message are on stderr, stdout is empty, nothing is a traceback."""
    ended = await command(*arguments)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.startswith(f"{reason}: ")
    assert "Traceback" not in ended.err


async def test_no_server_is_exit_code_3() -> None:
    """Who is not there is named, with what to do."""
    ended = await commands.command("resolve", "k", "--target", "127.0.0.1:1")
    assert ended.code == 3
    assert "No server answers at 127.0.0.1:1" in ended.err
    assert "--target" in ended.err


@pytest.mark.parametrize(
    "arguments", [("interrupt",), ("stream", "k", "--run-id", "r"), ("run",), ("nonsense",), ("resolve",)]
)
async def test_what_is_not_understood_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    """A usage error is found before a server is asked."""
    ended = await commands.command(*arguments)
    assert ended.code == 2
    assert "Usage" in ended.err


async def test_serve_stops_at_sigterm(tmp_path: Path) -> None:
    """A server tells its address, and SIGTERM ends it with 0."""
    serve = ("serve", "--listen", "127.0.0.1:0", "--db", str(tmp_path / "s.db"), "--log-format", "json")
    serving = await python("-m", "sessionplane", *serve)
    ready = json.loads(await line_with(serving.stderr, "server.ready"))
    asked = await python("-m", "sessionplane", "--target", ready["address"], "version", "--server")
    assert (await end(asked)).code == 0
    serving.send_signal(signal.SIGTERM)
    assert (await end(serving)).code == 0


async def test_serve_refuses_to_be_reachable_without_being_told(tmp_path: Path) -> None:
    """A bind that other machines reach needs --insecure-bind: exit code 2 and a sentence."""
    ended = await commands.command("serve", "--listen", "0.0.0.0:0", "--db", str(tmp_path / "s.db"))
    assert ended.code == 2
    assert "insecure_bind" in ended.err
    assert not (tmp_path / "s.db").exists()


async def test_a_plain_install_says_what_is_missing() -> None:
    """Without click there is one sentence and exit code 2."""
    code = "import sys; sys.modules['click'] = None; from sessionplane.__main__ import main; sys.exit(main())"
    ended = await end(await python("-c", code))
    assert ended.code == 2
    assert "sessionplane[server]" in ended.err
    assert len(ended.err.splitlines()) == 1


async def test_help_loads_neither_grpc_nor_the_server() -> None:
    """Importing the command line stays cheap."""
    heavy = "{'grpc', 'rich', 'pydantic', 'structlog', 'sessionplane.app', 'sessionplane.settings'}"
    code = f"import sys, sessionplane.cli.root; print(sorted({heavy} & set(sys.modules)))"
    assert (await end(await python("-c", code))).out.strip() == "[]"
