"""What a runner wrote and the server has not acknowledged yet: numbered, bounded, cut into publications.

Pure. The number of an event is its place in what this run's runner published. A new stream begins with
`rewind`: the server says how far it got, and exactly the rest goes out again under its old numbers, which the
server skips if it has them after all.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from grpc import StatusCode

from sessionplane.v1.runner_service_pb2 import DriveRunPublish, NewEvent

from .errors import SessionPlaneError

# One publication: the server takes 256 events and 1 MiB. Half of that still lets one event of 256 KiB
# through.
_PUBLICATION_EVENTS_MAX = 256
_PUBLICATION_BYTES_MAX = 512 * 1024


class Outbox:
    """Events between `add` and `acknowledge`. `events_max` and `bytes_max` say when it is full."""

    def __init__(
        self, *, events_max: int = 1_024, bytes_max: int = 1024 * 1024, publications_max: int = 32
    ) -> None:
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._publications_max = publications_max
        self._events: deque[NewEvent] = deque()
        self._bytes = 0
        self._acknowledged: int | None = None  # None until the first stream says where the run is
        self._sent = 0  # how many of _events went out on the present stream
        self._in_flight: deque[int] = deque()  # the last number of each publication under way

    @property
    def full(self) -> bool:
        """Whether a writer should wait. One more event than fits is taken, so that a large one can pass."""
        return len(self._events) >= self._events_max or self._bytes >= self._bytes_max

    @property
    def empty(self) -> bool:
        """Whether everything that was added is acknowledged."""
        return not self._events

    @property
    def all_sent(self) -> bool:
        """Whether the present stream has carried everything."""
        return self._sent == len(self._events)

    def add(self, event: NewEvent) -> None:
        """Takes an event. It gets its number from its place."""
        self._events.append(event)
        self._bytes += event.ByteSize()

    def next_publication(self) -> DriveRunPublish | None:
        """Returns what waits, as much of it as one publication holds; None if nothing waits or may go out."""
        if self._acknowledged is None or self.all_sent or len(self._in_flight) >= self._publications_max:
            return None
        first = self._acknowledged + self._sent + 1
        events = self._take()
        self._sent += len(events)
        self._in_flight.append(first + len(events) - 1)
        return DriveRunPublish(events=events, first_run_sequence=first)

    def acknowledge(self, last_run_sequence: int) -> None:
        """Forgets everything up to this number. An older acknowledgement changes nothing."""
        before = self._acknowledged or 0
        for _ in range(min(last_run_sequence - before, self._sent)):
            self._bytes -= self._events.popleft().ByteSize()
            self._sent -= 1
            before += 1
        self._acknowledged = before
        while self._in_flight and self._in_flight[0] <= before:
            self._in_flight.popleft()

    def rewind(self, last_run_sequence: int) -> None:
        """Begins a stream: the server has everything up to this number, the rest goes out again.

        Raises SessionPlaneError `RUN_SEQUENCE_GAP` if the server has more than was written here, or less than
        it acknowledged before.
        """
        first = self._acknowledged is None
        known = last_run_sequence if self._acknowledged is None else self._acknowledged
        if not known <= last_run_sequence <= known + (0 if first else len(self._events)):
            raise SessionPlaneError(
                StatusCode.FAILED_PRECONDITION,
                "RUN_SEQUENCE_GAP",
                f"The server has {last_run_sequence} events of this run; this runner wrote {known} that were "
                f"committed and {len(self._events)} that were not. Somebody else published under its lease.",
            )
        self._in_flight.clear()
        self._acknowledged = known
        self._sent = last_run_sequence - known
        self.acknowledge(last_run_sequence)

    def _take(self) -> list[NewEvent]:
        taken: list[NewEvent] = []
        size = 0
        for event in islice(self._events, self._sent, self._sent + _PUBLICATION_EVENTS_MAX):
            size += event.ByteSize()
            if taken and size > _PUBLICATION_BYTES_MAX:
                break
            taken.append(event)
        return taken
