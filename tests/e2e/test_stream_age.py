"""No stream grows too old: it ends by name before the transport would cut it, and its token goes on."""

from __future__ import annotations

from pathlib import Path

import grpc

from sessionplane.domain.limits import Limits
from sessionplane.rpc.server import options
from sessionplane.v1.session_service_pb2 import STREAM_UNTIL_RUN_END
from tests.support.serving import serving
from tests.support.story import check_log

YOUNG = {"stream_age_ms": 50}


async def test_a_stream_ends_at_its_age_with_a_token(tmp_path: Path) -> None:
    """It closes with MAX_AGE, resumable; the status is UNAVAILABLE and asks for no wait."""
    async with serving(tmp_path / "plane.db", limits=YOUNG) as server:
        await server.wire.resolve("chat")
        stream = await server.wire.stream("chat").rest()
    assert stream.ended_by == "MAX_AGE"
    assert stream.closing is not None
    assert stream.closing.resumable
    assert stream.refusal is not None
    assert (stream.refusal.code, stream.refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "MAX_AGE")
    assert stream.refusal.retry_after_s == 0


async def test_the_python_client_outlives_the_age_of_its_streams(tmp_path: Path) -> None:
    """Its reader sees one stream, each event once, however often the call below it was renewed."""
    async with serving(tmp_path / "plane.db", limits=YOUNG) as server:
        wire = server.wire
        held = await wire.hold((await wire.start("chat")).run.run_id)
        renewed: list[str] = []
        async with server.client.stream(
            run_id=held.run_id,
            until=STREAM_UNTIL_RUN_END,
            on_reconnect=lambda error, _: renewed.append(error.reason),
        ) as events:
            seen = []
            async for event in events:
                seen.append(event)
                if len(renewed) < 3:
                    await wire.publish(held, "more")
                elif not event.HasField("run_terminal"):
                    await wire.finish(held)
        log = await wire.log("chat")
    check_log(log)
    assert seen == [event for event in log if event.run_id == held.run_id]
    assert set(renewed) == {"MAX_AGE"}


def test_the_transport_outwaits_the_oldest_stream() -> None:
    """A stream that begins on a connection at its age ends by itself before the core cuts it."""
    for age_ms in (50, Limits().stream_age_ms, 86_400_000):
        made = dict(options(Limits(stream_age_ms=age_ms)))
        assert made["grpc.max_connection_age_grace_ms"] > age_ms
    assert dict(options(Limits(stream_age_ms=2**53)))["grpc.max_connection_age_grace_ms"] < 2**31
