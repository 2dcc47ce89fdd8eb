"""Frames of a watch: encoded once for all who read the same, each with the token that goes on behind it."""

from __future__ import annotations

import pytest

from sessionplane.domain.errors import Disconnected
from sessionplane.domain.streams import ClosingReason
from sessionplane.domain.tokens import WatchTokenWriter, parse_watch_token
from sessionplane.plane import watching
from sessionplane.plane.watching import WatchRequest
from sessionplane.rpc import render
from sessionplane.rpc.status import status_of
from sessionplane.rpc.watching import WatchWriter
from sessionplane.v1 import session_service_pb2 as pb
from tests.support.calls import Aborted, FakeContext
from tests.support.planes import KEY, NAMESPACE, Bench


class Listener(FakeContext):
    """A caller who leaves after so many frames, in the way that an operator ends a stream."""

    def __init__(self, bench: Bench, frames: int) -> None:
        super().__init__()
        self._bench = bench
        self._frames = frames

    def peer(self) -> str:
        """Where it comes from."""
        return "ipv4:127.0.0.1:1"

    async def write(self, message: bytes) -> None:
        """Take a frame, or have the watch ended with it."""
        await super().write(message)
        if len(self.written) == self._frames:
            (seat, *_) = self._bench.plane.following.seats.page(NAMESPACE, session_id="", after="", limit=1)
            seat.end(ClosingReason.DISCONNECTED)

    @property
    def parsed(self) -> list[pb.WatchSessionsResponse]:
        """The frames."""
        return [pb.WatchSessionsResponse.FromString(frame) for frame in self.written]


async def served(bench: Bench, frames: int) -> Listener:
    """Let somebody watch from the beginning and take so many frames."""
    context = Listener(bench, frames)
    with pytest.raises(Aborted):
        await WatchWriter(bench.plane).serve(WatchRequest(namespace=NAMESPACE), context)  # type: ignore[arg-type]
    return context


async def test_a_frame_shows_a_session_as_a_list_does(bench: Bench) -> None:
    """With its own change number in its token; `caught_up` has the number up to which all was told."""
    await bench.resolve()
    await bench.resolve("other")
    shown, _, all_told = (await served(bench, 3)).parsed
    assert shown.session == render.session(bench.plane, bench.session(KEY))
    assert all_told.HasField("caught_up")
    numbers = [
        parse_watch_token(frame.resume_token, namespace=NAMESPACE).number for frame in (shown, all_told)
    ]
    assert numbers == [1, 2]


async def test_an_ended_watch_says_why(bench: Bench) -> None:
    """The status is that of the reason, never OK."""
    assert (await served(bench, 1)).status == status_of(Disconnected())


async def test_frames_are_encoded_once_for_all_who_read_the_same(bench: Bench) -> None:
    """Those who stand at one number write the very same bytes."""
    await bench.resolve()
    writer = WatchWriter(bench.plane)
    tokens = WatchTokenWriter(store_id=bench.store.store_id, namespace=NAMESPACE)
    page = bench.plane.read(lambda tx: watching.changes(tx, NAMESPACE, 0, 10))
    assert writer._frames(page, tokens)[0] is writer._frames(page, tokens)[0]
