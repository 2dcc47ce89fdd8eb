"""What a process asked of the kernel, as far as a folder's files and the network are concerned.

Owns how strace is called and how its lines are read. Nothing about the folder may be overlooked: a call that is not
known here, and a known one in a form that is not, is an error, and so is whatever could write behind strace's back.
What strace is told to leave out can only look.

A call of one thread may be told in two lines, with calls of others in between. What it sends counts from its first
line on, since the other side may have it then; what it writes counts from its last. A flush covers what was written
before its first line, and counts from its last.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_LOOKS = (
    "read,pread64,readv,preadv,preadv2,recvmsg,recvfrom,recvmmsg,epoll_wait,epoll_ctl,epoll_pwait,epoll_pwait2,poll,"
    "ppoll,select,pselect6,fstat,newfstatat,stat,lstat,statx,access,faccessat,faccessat2,readlink,readlinkat,"
    "getdents64,fstatfs,statfs,futex,brk,mprotect,munmap,madvise,rt_sigaction,rt_sigprocmask,rt_sigreturn,"
    "sigaltstack,clock_gettime,clock_nanosleep,sched_yield,getrandom,close"
)
"""Calls that change no file, and of which there are many. All others are in the trace."""

_HARMLESS = frozenset(
    {"fcntl", "flock", "fchown", "fchmod", "chmod", "lseek", "dup", "fadvise64", "execve", "getcwd", "chdir"}
)
"""Calls that may name a file of the folder, and change nothing of what a power cut may take."""

_UNSEEN = frozenset({"io_uring_setup", "io_setup", "sync", "syncfs", "open_by_handle_at"})
"""Calls behind which files change without a line in the trace, or flushes happen that the model does not know."""

_OPTIONS = (
    *("-f", "-y", "-xx", "-qq", "-s", "16777216", "-e", "signal=none"),
    # Event loops hand calls to the kernel through shared memory if they may; without it they make them as ever.
    *("-e", "inject=io_uring_setup:error=ENOSYS"),
    *("-e", f"trace=!{_LOOKS}"),
)

_QUICK = "--seccomp-bpf"
_TRIED_S = 20


class NotUnderstood(Exception):
    """A line of a trace that the model of the disk cannot follow."""


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes were written into a file of the folder."""

    name: str
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Truncate:
    """A file got another size."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Create:
    """A file was made, if there was none of this name. `emptied` says that an old one was truncated."""

    name: str
    emptied: bool = False


@dataclass(frozen=True, slots=True)
class Unlink:
    """A name was taken away."""

    name: str


@dataclass(frozen=True, slots=True)
class Rename:
    """A file got another name, which may have been another file's."""

    name: str
    to: str


@dataclass(frozen=True, slots=True)
class Share:
    """A file was mapped for writing: what stands in it is not told by any call."""

    name: str


@dataclass(frozen=True, slots=True)
class FlushBegun:
    """The flush `number` of a file began; an empty name is the folder itself."""

    number: int
    name: str


@dataclass(frozen=True, slots=True)
class Flushed:
    """The flush `number` ended: all that was written before it began is on the disk."""

    number: int


@dataclass(frozen=True, slots=True)
class Sent:
    """Bytes left the process by a socket."""

    data: bytes


Event = Write | Truncate | Create | Unlink | Rename | Share | FlushBegun | Flushed | Sent


def unavailable() -> str:
    """Say in a sentence why nothing can be traced here; empty if it can."""
    strace = shutil.which("strace")
    if strace is None:
        return "strace is not installed (on Debian and Ubuntu: apt install strace)"
    done = subprocess.run(  # noqa: S603 - strace itself, on `true`
        [strace, *_OPTIONS, _QUICK, "-o", "/dev/null", "true"],
        capture_output=True,
        text=True,
        timeout=_TRIED_S,
        check=False,
    )
    if done.returncode == 0:
        return ""
    said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[0]
    return f"strace cannot trace here ({said}); a container may need --cap-add SYS_PTRACE"


def traced(command: Sequence[str], into: Path, *, killed_at_flush: int = 0) -> list[str]:
    """Return a command that runs another one under strace, until one of its threads is about to flush something for
    the time of that number, if it is not 0. Then it is killed: all is written, and nothing of it flushed.
    """
    kill = ["-e", f"inject=fdatasync:signal=SIGKILL:when={killed_at_flush}"]
    # Quicker, but then strace sends no signals.
    return ["strace", *_OPTIONS, *(kill if killed_at_flush else [_QUICK]), "-o", str(into), *command]


_LINE = re.compile(r"(\d+) +(?:(\w+)\((.*)|<\.\.\. (\w+) resumed>(.*))", re.DOTALL)
_RESULT = re.compile(r"0x[0-9a-f]+|-?\d+|\?")
_UNFINISHED = " <unfinished ...>"
_DESCRIPTOR = re.compile(r"\d+<((?:\\x[0-9a-f]{2})+)>(\(deleted\))?")


class _Call(NamedTuple):
    """One call: its arguments as text, what it returned (negative if it failed, None if it never did), its number."""

    number: int
    name: str
    text: str
    result: int | None


def parse(lines: Iterable[str], folder: Path) -> Iterator[Event]:
    """Read a trace. Raises NotUnderstood."""
    reader = _Reader(folder)
    for line in lines:
        try:
            yield from reader.read(line.rstrip("\n"))
        except NotUnderstood as error:
            raise NotUnderstood(f"{error}: {_shortened(line)}") from None
    reader.finish()


def _shortened(line: str) -> str:
    shown = re.sub(r"(?:\\x[0-9a-f]{2})+", lambda text: repr(_bytes(text[0]))[2:-1], line[:4_000])
    return shown if len(shown) < 300 else f"{shown[:200]} ... {shown[-100:]}"  # noqa: PLR2004 - one line


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


class _Reader:
    """Puts lines together to calls, and calls to events."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder).encode()
        self._mark = "".join(f"\\x{byte:02x}" for byte in self._folder)
        self._open: dict[str, tuple[str, str, int]] = {}
        self._count = 0

    def read(self, line: str) -> Iterator[Event]:
        """Read one line."""
        found = _LINE.fullmatch(line)
        if found is None:
            raise NotUnderstood("This is no line of a call")
        pid, name, text, resumed, rest = found.groups()
        if name is not None and text.endswith(_UNFINISHED):
            self._count += 1
            text = text.removesuffix(_UNFINISHED)
            self._open[pid] = (name, text, self._count)
            yield from self._begin(_Call(self._count, name, text, None))
            return
        if resumed is not None:
            name, text, number = self._open.pop(pid)
            text += rest
        else:
            self._count += 1
            number = self._count
        if not self._concerns(name, text):
            return
        text, result = _split(text)
        call = _Call(number, name, text, result)
        if resumed is None:
            yield from self._begin(call)
        yield from self._end(call)

    def finish(self) -> None:
        """Look at what never ended. Raises NotUnderstood if that could have changed a file."""
        for name, text, _ in self._open.values():
            if self._concerns(name, text) and name in _ENDS:
                raise NotUnderstood(f"The process died inside {name}: {_shortened(text)}")

    def _concerns(self, name: str, text: str) -> bool:
        """Say whether a call may be about the folder or the network."""
        return self._mark in text or name in _SENDS or name in _UNSEEN

    def _begin(self, call: _Call) -> Iterator[Event]:
        """Tell what counts from a call's first line on."""
        if call.name in _SENDS:
            yield from self._sent(call)
        elif call.name in _FLUSHES and (name := self._name_of(call)) is not None:
            yield FlushBegun(call.number, name)

    def _end(self, call: _Call) -> Iterator[Event]:
        """Tell what counts from a call's last line on."""
        if call.name in _FLUSHES:
            if self._name_of(call) is not None and call.result is not None:
                if call.result < 0:
                    raise NotUnderstood("A flush failed")
                yield Flushed(call.number)
        elif call.name in _ENDS:
            if call.result is None:
                raise NotUnderstood(f"The process died inside {call.name}")
            if call.result >= 0:
                yield from _ENDS[call.name](self, call)
        elif call.name in _UNSEEN:
            if call.result is None or call.result >= 0:
                raise NotUnderstood("What follows from this call is in no trace")
        elif call.name not in _SENDS and call.name not in _HARMLESS:
            raise NotUnderstood("Nobody knows what this call does to the folder")

    def _name_of(self, call: _Call) -> str | None:
        """Return the file of the call's descriptor, its first argument; None if it is none of the folder's."""
        found = _DESCRIPTOR.match(call.text)
        if found is None:
            return None
        name = self._name(_bytes(found[1]))
        if found[2] and name is not None:
            raise NotUnderstood("A file without a name is used")
        return name

    def _name(self, path: bytes) -> str | None:
        if path == self._folder:
            return ""
        inside = path.removeprefix(self._folder + b"/")
        if inside == path:
            return None
        if b"/" in inside:
            raise NotUnderstood("There is a folder in the folder")
        return inside.decode()

    def _names(self, call: _Call) -> list[str | None]:
        """Return what the call's texts name, if they are of the folder."""
        return [self._name(text) for text in _texts(call.text)]

    def _sent(self, call: _Call) -> Iterator[Event]:
        found = _DESCRIPTOR.match(call.text)
        if found is None:
            return
        where = _bytes(found[1])
        if self._name(where) is not None:
            raise NotUnderstood("Where in the file this writes is not told")
        if where.startswith(b"socket:"):
            yield Sent(b"".join(_texts(call.text)))

    def _written(self, call: _Call) -> Iterator[Event]:
        name = self._name_of(call)
        if name is None:
            return
        (data,) = _texts(call.text)
        offset = int(call.text.rpartition(",")[2])
        yield Write(name, offset, data[: call.result])

    def _truncated(self, call: _Call) -> Iterator[Event]:
        name = self._name_of(call)
        if name is not None:
            yield Truncate(name, int(call.text.rpartition(",")[2]))

    def _opened(self, call: _Call) -> Iterator[Event]:
        (name,) = self._names(call)
        if name and "O_CREAT" in call.text:
            yield Create(name, emptied="O_TRUNC" in call.text)
        elif name and "O_TRUNC" in call.text:
            raise NotUnderstood("A file is emptied without being made")

    def _unlinked(self, call: _Call) -> Iterator[Event]:
        (name,) = self._names(call)
        if name:
            yield Unlink(name)

    def _renamed(self, call: _Call) -> Iterator[Event]:
        name, to = self._names(call)
        if not name or not to:
            raise NotUnderstood("A file comes from elsewhere, or goes there")
        yield Rename(name, to)

    def _mapped(self, call: _Call) -> Iterator[Event]:
        _, _, protection, sharing, where, _ = call.text.split(", ")
        name = self._name_of(call._replace(text=where))
        if name and "PROT_WRITE" in protection and "MAP_SHARED" in sharing:
            yield Share(name)


def _split(text: str) -> tuple[str, int | None]:
    """Take arguments and result apart; None if the call never came back."""
    arguments, _, result = text.rpartition(" = ")
    arguments = arguments.rstrip()
    returned = _RESULT.match(result)
    if returned is None or not arguments.endswith(")"):
        raise NotUnderstood("This call has no result")
    return arguments[:-1], None if returned[0] == "?" else int(returned[0], 0)


def _texts(text: str) -> list[bytes]:
    """Return the strings among a call's arguments: told to write them in hexadecimal, strace puts no quotes elsewhere.

    Raises NotUnderstood if it cut one.
    """
    parts = text.split('"')
    if any(after.startswith("...") for after in parts[2::2]):
        raise NotUnderstood("strace left something out")
    return [_bytes(part) for part in parts[1::2]]


_FLUSHES = frozenset({"fsync", "fdatasync"})
_SENDS = frozenset({"sendmsg", "sendto", "sendmmsg", "write", "writev"})

_ENDS: dict[str, Callable[[_Reader, _Call], Iterator[Event]]] = {
    "pwrite64": _Reader._written,  # noqa: SLF001 - its own table
    "ftruncate": _Reader._truncated,  # noqa: SLF001
    "openat": _Reader._opened,  # noqa: SLF001
    "open": _Reader._opened,  # noqa: SLF001
    "unlink": _Reader._unlinked,  # noqa: SLF001
    "unlinkat": _Reader._unlinked,  # noqa: SLF001
    "rename": _Reader._renamed,  # noqa: SLF001
    "renameat": _Reader._renamed,  # noqa: SLF001
    "renameat2": _Reader._renamed,  # noqa: SLF001
    "mmap": _Reader._mapped,  # noqa: SLF001
}
"""What a call that succeeded did, by its name."""
