"""What clients did and saw, in the order in which they did and saw it: the material that the validators judge.

Everything is in the words of the wire, so that the same recorder serves a simulation in one thread and clients of a
real server. Times are seconds of one clock, whichever. `History.logs` is what the database held in the end, with what
retention had removed if somebody kept it, and `floors` says up to where that was; the limits are those that the server
ran under.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from google.protobuf.message import Message

from sessionplane.v1.event_pb2 import Event


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a call was refused: a status code, the reason of its ErrorInfo, and what that says besides."""

    code: str
    reason: str
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Call:
    """One unary call. Without `returned_at` nobody heard what became of it: it may have been done or not. One that is
    `repeated` may have arrived twice, so that its answer is that of either.
    """

    number: int
    client: str
    method: str
    request: Any
    called_at: float
    returned_at: float | None = None
    answer: Any = None
    refusal: Refusal | None = None
    repeated: bool = False

    @property
    def request_id(self) -> str:
        """What makes it safe to repeat; empty if it has none."""
        return getattr(self.request, "request_id", "")

    @property
    def ended_at(self) -> float:
        """When it was over; a lost one may still be done at any time."""
        return float("inf") if self.returned_at is None else self.returned_at


@dataclass(frozen=True, slots=True)
class Frame:
    """One message of a stream. It came `prompt` if the client was waiting for it."""

    at: float
    message: Any
    prompt: bool = False


@dataclass(slots=True, eq=False)
class Stream:
    """One StreamEvents call. `closed_at` is set once the server ended it, with a refusal or with OK; a stream that
    the client left has none, nor has one that was `cut` under way.
    """

    number: int
    client: str
    request: Any
    opened_at: float
    frames: list[Frame] = field(default_factory=list)
    closed_at: float | None = None
    refusal: Refusal | None = None
    left_at: float | None = None
    cut: bool = False


class Happening(StrEnum):
    """What happened to the server, or to the world around it."""

    READY = "ready"
    CRASHED = "crashed"
    STOPPING = "stopping"
    STOPPED = "stopped"
    ASLEEP = "asleep"
    AWAKE = "awake"
    TROUBLE = "trouble"
    CALM = "calm"
    OVER = "over"
    COMPLAINT = "complaint"


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that clients did not do."""

    at: float
    what: Happening
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the server was told of time, and how closely a recording can be held to it, in seconds.

    `slack_s` is what the promise adds to lease and sweep. A call of unknown outcome may still be done `call_s` after
    it was made; a server gives leases again no earlier than `start_s` before it is ready; who waits for a run's end is
    told no later than `wake_s` after anybody else; and a sign of life that somebody waits for was put together no
    longer than `lag_s` before it came.
    """

    lease_s: float = 15.0
    sweep_s: float = 1.0
    slack_s: float = 1.0
    call_s: float = 1.0
    start_s: float = 1.5
    wake_s: float = 0.6
    lag_s: float = 0.5


@dataclass(slots=True)
class History:
    """A whole recording. `alive` says whether it was taken to the end that a calm world leads to."""

    calls: list[Call] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    logs: Mapping[str, Sequence[Event]] = field(default_factory=dict)
    floors: Mapping[str, int] = field(default_factory=dict)
    lines: list[tuple[float, str, int, Any]] = field(default_factory=list)
    alive: bool = False
    limits: Bounds = Bounds()

    def dump(self) -> bytes:
        """Return every byte that was recorded, to be compared."""
        told = [f"{at:.9f} {what} {number} {_told(thing)}" for at, what, number, thing in self.lines]
        for session_id in sorted(self.logs):
            told += [f"{session_id} {_told(event)}" for event in self.logs[session_id]]
        return "\n".join(told).encode()


def _told(thing: Any) -> str:
    if isinstance(thing, Message):
        return thing.SerializeToString(deterministic=True).hex()
    return repr(thing)


def _copied(request: Message) -> Any:
    """Return the request as it is now: its owner may go on changing it."""
    copied = type(request)()
    copied.CopyFrom(request)
    return copied


class Recorder:
    """Writes a history. `now` is the clock of whoever records."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.history = History()
        self._now = now

    def _note(self, what: str, number: int, thing: Any) -> float:
        at = self._now()
        self.history.lines.append((at, what, number, thing))
        return at

    def called(self, client: str, method: str, request: Any) -> Call:
        """A client calls."""
        number, request = len(self.history.calls), _copied(request)
        at = self._note(f"{client} calls {method}", number, request)
        call = Call(number, client, method, request, at)
        self.history.calls.append(call)
        return call

    def answered(self, call: Call, answer: Any) -> None:
        """The answer came."""
        call.answer = answer
        call.returned_at = self._note("answer", call.number, answer)

    def refused(self, call: Call, refusal: Refusal) -> None:
        """The call was refused."""
        call.refusal = refusal
        call.returned_at = self._note("refusal", call.number, refusal)

    def lost(self, call: Call, why: str) -> None:
        """The client gave up on the call."""
        self._note("lost", call.number, why)

    def opened(self, client: str, request: Any) -> Stream:
        """A client opens a stream."""
        number, request = len(self.history.streams), _copied(request)
        at = self._note(f"{client} opens", number, request)
        stream = Stream(number, client, request, at)
        self.history.streams.append(stream)
        return stream

    def framed(self, stream: Stream, message: Any, *, prompt: bool) -> None:
        """A frame came."""
        stream.frames.append(Frame(self._note("frame", stream.number, message), message, prompt))

    def closed(self, stream: Stream, refusal: Refusal | None) -> None:
        """The server ended the stream."""
        stream.closed_at = self._note("closed", stream.number, refusal)
        stream.refusal = refusal

    def left(self, stream: Stream) -> None:
        """The client left the stream."""
        stream.left_at = self._note("left", stream.number, "")

    def cut(self, stream: Stream, why: str) -> None:
        """The stream was cut under way."""
        stream.left_at = self._note("cut", stream.number, why)
        stream.cut = True

    def happened(self, what: Happening, detail: str = "") -> None:
        """Something happened that no client did."""
        at = self._note(what.value, len(self.history.incidents), detail)
        self.history.incidents.append(Incident(at, what, detail))
