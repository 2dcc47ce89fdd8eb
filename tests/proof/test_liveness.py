"""The bounds of time: how they are judged and shown, that each is measured, and that nothing missing is passed over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from sessionplane.proof.liveness import bounds, delays, report, short
from sessionplane.proof.liveness.bounds import BOUNDS, DELIVERY, STALLED, Measured, at_percentile, at_slowest
from sessionplane.proof.liveness.load import EventsLost, Load
from sessionplane.proof.servers import server_process
from sessionplane.rpc.server import OPTIONS
from sessionplane_client import Client
from sessionplane_client.options import channel_options
from tests.support.serving import Served, serving

LOOKS = 200


def test_a_bound_holds_up_to_its_figure() -> None:
    """What is just as long as promised is in time, and what is longer is not."""
    assert at_slowest(DELIVERY, [1.0, 50.0]).holds
    assert not at_slowest(DELIVERY, [50.1, 1.0]).holds


def test_a_percentile_is_the_value_that_so_many_stay_below() -> None:
    """Of a hundred values 99 lie below the p99; of few it is the slowest."""
    found = at_percentile(DELIVERY, [float(number) for number in range(100)])
    assert (found.value, found.typical, found.samples) == (99.0, 49.5, 100)
    assert at_percentile(DELIVERY, [3.0, 7.0]).value == 7.0


def test_nothing_measured_is_no_result() -> None:
    """A bound is never met by having seen nothing."""
    for judge in (at_percentile, at_slowest):
        with pytest.raises(ValueError, match=r"measured|empty"):
            judge(DELIVERY, [])


def test_a_missed_bound_is_shown_as_such() -> None:
    """On a terminal, in the numbers and on the page alike."""
    met = Measured(bound=DELIVERY, value=12.34, typical=1.0, samples=10)
    missed = Measured(bound=STALLED, value=25.0, typical=25.0, samples=4, note="pairs differ")
    found = report.to_json([met, missed], (0.5, 1.0))
    assert [each["holds"] for each in found["bounds"]] == [True, False]
    assert report.line(met).startswith("OK ")
    assert report.line(missed).startswith("FALLS SHORT")
    rows = [row for row in report.markdown(found).splitlines() if row.startswith("| ")][2:]
    assert [" OK " in row for row in rows] == [True, False]
    assert "| FALLS SHORT |" in rows[1]
    assert "12.3 ms" in rows[0]


def test_every_bound_of_the_page_was_measured() -> None:
    """The committed numbers have a figure for each bound, and none that is none."""
    page = Path(__file__).parents[2] / "docs" / "liveness.json"
    text = report.section(page)
    for bound in BOUNDS:
        assert text.count(f"| {bound.claim} |") == 1


@pytest.mark.parametrize("options", [OPTIONS, channel_options()], ids=["server", "client"])
def test_a_dead_peer_is_missed_with_time_to_spare(options: Sequence[tuple[str, str | int]]) -> None:
    """Both sides ask after their peer early enough that a late timer breaks no promise."""
    given = {name: value for name, value in options if isinstance(value, int)}
    waits = ("grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms")
    assert all(
        given["grpc.keepalive_time_ms"] + given[wait] <= (bounds.DEAD_PEER.most - 2) * 1000 for wait in waits
    )


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path / "plane.db") as served:
        yield served


async def test_an_acknowledged_event_that_is_missing_is_found(server: Served) -> None:
    """A load whose log lacks what was acknowledged says so."""
    await server.client.resolve(key="load-0")
    load = Load(server.client, server.client)
    load._acknowledged["load-0"].append("1.0 ")
    with pytest.raises(EventsLost, match="1 of 1 acknowledged"):
        await load.check()


async def test_an_interrupt_is_timed_until_the_runner_hears_it(server: Served) -> None:
    """Every interrupt that was asked for is one of the measured."""
    notes: list[None] = []
    found = await delays.interrupts(server.address, 6, lambda: notes.append(None))
    assert (found.bound, found.samples, len(notes)) == (bounds.INTERRUPT, 6, 6)
    assert 0 < found.typical <= found.value


async def test_a_stalled_subscriber_is_really_stalled(tmp_path: Path) -> None:
    """The logs are longer than any buffer on the way: each stuck stream stays behind, and takes part in nothing."""
    async with server_process(tmp_path / "plane.db") as server, Client(server.address) as client:
        await delays.lengthen(server.address)
        key = "load-0"
        head = (await client.get_session(key=key)).session.head_sequence
        async with delays._stuck(server.address, [key]):
            through = [await _through(client, key) for _ in range(LOOKS)]
        assert 0 < through[-1] < head
        assert len(set(through[LOOKS // 2 :])) == 1


async def _through(client: Client, key: str) -> int:
    """How far the one subscriber of a session was sent its log."""
    (subscriber,) = [each async for each in client.subscribers(key=key)]
    return subscriber.through_sequence


@pytest.mark.slow
def test_the_short_form_measures_what_it_says(tmp_path: Path) -> None:
    """Deliveries, interrupts and starts, with each step told; nothing is missing."""
    steps: list[tuple[int, int]] = []
    found = short.run(1, folder=tmp_path, progress=lambda done, of: steps.append((done, of)))
    assert found.ok
    assert found.checked >= short.DELIVERIES_MIN
    assert steps[-1] == (53, 53)
    assert {"delivery_ms", "interrupt_ms", "ready_s"} <= found.measured.keys()
