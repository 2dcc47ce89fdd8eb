"""Use cases of leases: who gets a run, who holds it, and how it goes back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sessionplane.domain.errors import (
    InvalidTransition,
    LeaseLost,
    RequestIdReused,
    RunFinished,
    RunNotFound,
)
from sessionplane.domain.runs import RunState
from sessionplane.domain.sessions import SessionState
from sessionplane.plane.claims import Holder, held_run
from sessionplane.plane.leases import RunRef
from tests.support.planes import KEY, LEASE_MS, NAMESPACE, START_MS, Bench, custom
from tests.support.story import ending


async def test_a_pending_run_is_claimed_by_its_id(bench: Bench) -> None:
    """A claim gives a lease: a token, the next epoch, and times that say when it runs out."""
    run_id = (await bench.start()).run.run_id
    claimed = await bench.claim(run_id, lease_ms=9_000)
    assert claimed is not None
    lease = claimed.lease
    assert lease is not None
    now_ms = bench.clock.wall_ms()
    assert (lease.token, lease.epoch) == ("lse_secret_1", 1)
    assert (lease.expires_at_ms, lease.next_heartbeat_at_ms) == (now_ms + 9_000, now_ms + 3_000)
    run = bench.run(run_id)
    assert claimed.run.run == run
    assert (run.state, run.runner_id, run.claimed_at_ms) == (RunState.RUNNING, "runner", now_ms)
    assert (run.pending_since_ms, run.lease_confirmed) == (None, False)


async def test_a_first_claim_starts_the_session(bench: Bench) -> None:
    """CREATED goes to STARTING with the first claim, and the run says so before the session does."""
    run = await bench.running()
    assert bench.session().state is SessionState.STARTING
    assert bench.story(behind=4) == ["run PENDING>RUNNING", "session CREATED>STARTING"]
    changed = bench.log()[4].run_changed
    assert (changed.lease_epoch, changed.runner_id) == (1, "runner")
    assert run.lease_epoch == 1


@pytest.mark.parametrize("state", [SessionState.ACTIVE, SessionState.DETACHED, SessionState.SUSPENDED])
async def test_a_later_claim_moves_no_session(bench: Bench, state: SessionState) -> None:
    """In every live state but CREATED a claim changes the run only."""
    run_id = (await bench.start()).run.run_id
    session = bench.session()
    await bench.write(lambda tx, _: tx.save_session(replace(session, state=state)))
    assert await bench.claim(run_id)
    assert bench.session().state is state


async def test_a_pool_hands_out_its_oldest_run(bench: Bench) -> None:
    """Runs of a pool are claimed in the order in which they became PENDING, over all sessions."""
    for name in ("a", "b", "c"):
        await bench.start(name, run_id=f"run-{name}", pool="gpu")
        bench.clock.advance(1)
    order = []
    for _ in range(3):
        claimed = await bench.claim(pool="gpu")
        assert claimed is not None
        order.append(claimed.run.run.run_id)
    assert order == ["run-a", "run-b", "run-c"]
    assert await bench.claim(pool="gpu") is None


async def test_a_pool_is_no_other_pool(bench: Bench) -> None:
    """A run is found under its own pool only, and without one under none."""
    await bench.start("a", pool="gpu")
    await bench.start("b")
    assert await bench.claim(pool="cpu") is None
    assert await bench.claim(pool="gpu") is not None
    assert await bench.claim(pool="gpu") is None


async def test_a_queued_run_is_waited_for(bench: Bench) -> None:
    """A claim of a run in line has no answer yet, and changes nothing."""
    await bench.start()
    queued = await bench.start()
    before = bench.contents()
    assert await bench.claim(queued.run.run_id) is None
    assert bench.contents() == before


async def test_an_unconfirmed_lease_is_waited_for(bench: Bench) -> None:
    """A run whose holder was not heard yet may come back, so there is no answer yet."""
    run = await bench.running()
    before = bench.contents()
    assert await bench.claim(run.run_id) is None
    assert bench.contents() == before


async def test_a_confirmed_lease_is_an_answer(bench: Bench) -> None:
    """A run whose holder was heard is not to be had: the answer is the run, without a lease."""
    run = await bench.running()
    await bench.heartbeat(run.run_id)
    before = bench.contents()
    claimed = await bench.claim(run.run_id)
    assert claimed is not None
    assert (claimed.lease, claimed.run.run.state) == (None, RunState.RUNNING)
    assert bench.contents() == before


async def test_a_finished_run_is_an_answer(bench: Bench) -> None:
    """A run that has ended is not to be had: the answer is the run, with its terminal."""
    run = await bench.running()
    await bench.finish(run.run_id)
    claimed = await bench.claim(run.run_id)
    assert claimed is not None
    assert (claimed.lease, claimed.run.run.state) == (None, RunState.FINISHED)
    assert claimed.run.run.terminal


@pytest.mark.parametrize("state", [SessionState.CLOSING, SessionState.ENDED])
async def test_a_session_that_ends_grants_nothing(bench: Bench, state: SessionState) -> None:
    """In CLOSING and ENDED a claim is declined with the run, whatever the run's state."""
    run_id = (await bench.start()).run.run_id
    session = bench.session()
    await bench.write(lambda tx, _: tx.save_session(replace(session, state=state)))
    claimed = await bench.claim(run_id)
    assert claimed is not None
    assert (claimed.lease, claimed.run.run.state) == (None, RunState.PENDING)


async def test_an_unknown_run_is_refused(bench: Bench) -> None:
    """An id that nobody was given cannot be claimed."""
    await bench.refused(RunNotFound, bench.claim("run_unknown"))


async def test_a_lost_answer_is_not_a_lost_run(bench: Bench) -> None:
    """A repeated request id gives the same lease, while it is the run's current one."""
    run_id = (await bench.start()).run.run_id
    first = await bench.claim(run_id, request_id="r1")
    bench.clock.advance(4_000)
    before = bench.contents()
    again = await bench.claim(run_id, request_id="r1")
    assert first is not None
    assert again is not None
    assert again.lease == first.lease
    assert bench.contents() == before


async def test_a_repeated_claim_of_a_pool_gives_the_same_run(bench: Bench) -> None:
    """A repeat does not take a second run of the pool."""
    for name in ("a", "b"):
        await bench.start(name, pool="gpu")
    first, again = [await bench.claim(pool="gpu", request_id="r1") for _ in range(2)]
    assert first is not None
    assert again is not None
    assert (again.run.run.run_id, again.lease) == (first.run.run.run_id, first.lease)


async def test_a_lease_that_is_gone_is_not_given_again(bench: Bench) -> None:
    """A repeat after the run went back, to another, or to its end has no lease, and takes none."""
    run_id = (await bench.start()).run.run_id
    await bench.claim(run_id, request_id="r1")
    await bench.release(run_id)
    for state in (RunState.PENDING, RunState.RUNNING, RunState.FINISHED):
        again = await bench.claim(run_id, request_id="r1")
        assert again is not None
        assert (again.lease, again.run.run.state) == (None, state)
        if state is RunState.PENDING:
            await bench.claim(run_id)
        if state is RunState.RUNNING:
            await bench.finish(run_id)


async def test_a_request_id_claims_one_thing(bench: Bench) -> None:
    """The same request id for another run is REQUEST_ID_REUSED."""
    one, two = await bench.start("a"), await bench.start("b")
    await bench.claim(one.run.run_id, request_id="r1")
    await bench.refused(RequestIdReused, bench.claim(two.run.run_id, request_id="r1"))


async def test_a_claim_that_got_nothing_records_nothing(bench: Bench) -> None:
    """A claim that is still waiting leaves its request id free."""
    assert await bench.claim(pool="gpu", request_id="r1") is None
    await bench.start(pool="cpu")
    assert await bench.claim(pool="cpu", request_id="r1") is not None


async def test_a_released_run_may_be_claimed_again(bench: Bench) -> None:
    """A run of which nothing was published goes back to PENDING, and its next holder has the next epoch."""
    run = await bench.running()
    await bench.heartbeat(run.run_id)
    released = await bench.release(run.run_id)
    assert (released.run.state, released.run.lease_token, released.run.lease_confirmed) == (
        RunState.PENDING,
        "",
        False,
    )
    assert bench.plane._leases.term(RunRef(NAMESPACE, run.run_id)) is None
    claimed = await bench.claim(run.run_id)
    assert claimed is not None
    assert claimed.lease is not None
    assert claimed.lease.epoch == 2
    assert bench.session().state is SessionState.STARTING
    assert bench.story(behind=6) == ["run RUNNING>PENDING", "run PENDING>RUNNING"]


async def test_all_time_in_pending_counts(bench: Bench) -> None:
    """What a run waited before its first claim is taken off what it may wait after going back."""
    run_id = (await bench.start()).run.run_id
    bench.clock.advance(10_000)
    await bench.claim(run_id)
    bench.clock.advance(7_000)
    released = (await bench.release(run_id)).run
    assert released.pending_ms == 10_000
    assert released.due_at_ms == bench.clock.wall_ms() + START_MS - 10_000


async def test_a_clock_that_was_set_back_takes_no_time_away(bench: Bench) -> None:
    """A wait that seems negative counts as none."""
    run_id = (await bench.start()).run.run_id
    bench.clock.wall -= 5_000
    claimed = await bench.claim(run_id)
    assert claimed is not None
    assert claimed.run.run.pending_ms == 0


async def test_a_run_that_was_published_to_is_not_given_back(bench: Bench) -> None:
    """After the first event a release is INVALID_TRANSITION: somebody may have seen it."""
    run = await bench.running()
    await bench.publish(run.run_id, custom("step"))
    error = await bench.refused(InvalidTransition, bench.release(run.run_id))
    assert (error.details["from"], error.details["to"]) == ("RUNNING", "PENDING")


async def test_releasing_a_run_that_is_to_stop_ends_it(bench: Bench) -> None:
    """An INTERRUPTING run does not go back: it ends INTERRUPTED/INTERRUPT, also after it published."""
    run = await bench.running()
    await bench.publish(run.run_id, "so far")
    await bench.interrupt(KEY)
    released = await bench.release(run.run_id)
    assert released.run.state is RunState.FINISHED
    terminal = bench.check_end(run.run_id).run_terminal
    assert (ending(terminal), terminal.output_text) == ("INTERRUPTED/INTERRUPT", "so far")


async def test_releasing_in_a_closing_session_ends_the_run(bench: Bench) -> None:
    """A run that goes back while its session closes ends REJECTED/SESSION_ENDED, and with it the session."""
    run = await bench.running()
    session = bench.session()
    await bench.write(lambda tx, _: tx.save_session(replace(session, state=SessionState.CLOSING)))
    await bench.release(run.run_id)
    assert ending(bench.check_end(run.run_id).run_terminal) == "REJECTED/SESSION_ENDED"
    assert bench.session().state is SessionState.ENDED


async def test_a_repeated_release_gives_nothing_back_twice(bench: Bench) -> None:
    """A repeat shows the run as it is, though its lease is gone, and leaves the next holder alone."""
    run = await bench.running()
    token = bench.tokens[run.run_id]
    await bench.release(run.run_id, request_id="r1")
    await bench.claim(run.run_id)
    before = bench.contents()
    again = await bench.release(run.run_id, request_id="r1", token=token)
    assert again.run.state is RunState.RUNNING
    assert bench.contents() == before


@pytest.mark.parametrize("token", ["lse_wrong", "lse_secret_1x", "é"])
async def test_a_wrong_token_changes_nothing(bench: Bench, token: str) -> None:
    """Every write of a runner with a token that is not the run's is LEASE_LOST, with the current epoch."""
    run = await bench.running()
    for asked in (
        bench.publish(run.run_id, "x", token=token),
        bench.heartbeat(run.run_id, token=token),
        bench.finish(run.run_id, token=token),
        bench.release(run.run_id, token=token),
    ):
        error = await bench.refused(LeaseLost, asked)
        assert error.details == {"run_id": run.run_id, "current_epoch": "1"}


async def test_an_earlier_holder_is_fenced(bench: Bench) -> None:
    """After the run went back and on to another, the first token is worth nothing."""
    run = await bench.running()
    old = bench.tokens[run.run_id]
    await bench.release(run.run_id)
    await bench.refused(LeaseLost, bench.publish(run.run_id, "x", token=old))
    await bench.claim(run.run_id)
    error = await bench.refused(LeaseLost, bench.finish(run.run_id, token=old))
    assert error.details["current_epoch"] == "2"


async def test_an_unclaimed_run_has_no_holder(bench: Bench) -> None:
    """A PENDING run accepts no token, the empty one included."""
    run_id = (await bench.start()).run.run_id
    await bench.refused(LeaseLost, bench.heartbeat(run_id))
    nobody = Holder(namespace=NAMESPACE, run_id=run_id, lease_token="")
    with pytest.raises(LeaseLost):
        bench.plane.read(lambda tx: held_run(tx, nobody))


async def test_a_finished_run_is_said_to_be(bench: Bench) -> None:
    """After the end, publish, heartbeat and release are RUN_FINISHED with the outcome and where it stands."""
    run = await bench.running()
    finished = await bench.finish(run.run_id)
    for asked in (bench.publish(run.run_id, "x"), bench.heartbeat(run.run_id), bench.release(run.run_id)):
        error = await bench.refused(RunFinished, asked)
        assert error.details == {
            "run_id": run.run_id,
            "outcome": "SUCCEEDED",
            "terminal_sequence": str(finished.run.terminal_sequence),
        }


async def test_a_lease_is_shown_with_what_is_left_of_it(bench: Bench) -> None:
    """Later the expiry is the same moment, and a heartbeat moves it."""
    run = await bench.running()
    expires_at_ms = bench.plane.lease_expires_at_ms(run)
    bench.clock.advance(5_000)
    assert bench.plane.lease_expires_at_ms(run) == expires_at_ms
    heard = await bench.heartbeat(run.run_id)
    assert heard.lease.expires_at_ms == bench.clock.wall_ms() + LEASE_MS == (expires_at_ms or 0) + 5_000
    await bench.finish(run.run_id)
    assert bench.plane.lease_expires_at_ms(run) is None
