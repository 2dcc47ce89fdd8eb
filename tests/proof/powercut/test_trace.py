"""Traces: every call that could change the folder is understood or refused, and counts from the right line on."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessionplane.proof.powercut.trace import (
    Create,
    Event,
    FlushBegun,
    Flushed,
    NotUnderstood,
    Rename,
    Sent,
    Share,
    Truncate,
    Unlink,
    Write,
    parse,
)

FOLDER = Path("/d")


def text(content: str) -> str:
    """Write text as strace does."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in content.encode()) + '"'


def on(path: str, number: int = 7) -> str:
    """Write a descriptor as strace does."""
    return f"{number}<{text(path)[1:-1]}>"


def read(*lines: str) -> list[Event]:
    """Read a trace of one process."""
    return list(parse((f"1 {line}\n" for line in lines), FOLDER))


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (f"pwrite64({on('/d/a')}, {text('xyz')}, 3, 512) = 3", Write("a", 512, b"xyz")),
        (f"pwrite64({on('/d/a')}, {text('xyz')}, 3, 512) = 2", Write("a", 512, b"xy")),
        (f"ftruncate({on('/d/a')}, 0)    = 0", Truncate("a", 0)),
        (f"openat({on('/e')[2:]}, {text('/d/a')}, O_RDWR|O_CREAT, 0600) = {on('/d/a')}", Create("a")),
        (
            f"openat(AT_FDCWD{on('/e')[1:]}, {text('/d/a')}, O_WRONLY|O_CREAT|O_TRUNC, 0600) = {on('/d/a')}",
            Create("a", emptied=True),
        ),
        (f"unlink({text('/d/a')}) = 0", Unlink("a")),
        (f"rename({text('/d/a')}, {text('/d/b')}) = 0", Rename("a", "b")),
        (f"mmap(NULL, 32, PROT_READ|PROT_WRITE, MAP_SHARED, {on('/d/a')}, 0) = 0x7f", Share("a")),
        (
            f"sendmsg({on('socket:[5]')}, {{msg_iov=[{{iov_base={text('hi')}, iov_len=2}}]}}, 0) = 2",
            Sent(b"hi"),
        ),
        (f"write({on('socket:[5]')}, {text('hi')}, 2) = 2", Sent(b"hi")),
    ],
)
def test_a_call_is_understood(line: str, event: Event) -> None:
    """Each in the form in which strace writes it."""
    assert read(line) == [event]


@pytest.mark.parametrize(
    "line",
    [
        f"pwrite64({on('/e/a')}, {text('xyz')}, 3, 512) = 3",
        f"pwrite64({on('/d/a')}, {text('xyz')}, 3, 512) = -1 ENOSPC (No space left on device)",
        f"pwrite64({on('/da')}, {text('xyz')}, 3, 512) = 3",
        f"openat(AT_FDCWD{on('/e')[1:]}, {text('/d/a')}, O_RDONLY) = {on('/d/a')}",
        f"fcntl({on('/d/a')}, F_SETLK, {{l_type=F_RDLCK}}) = 0",
        f"mmap(NULL, 32, PROT_READ, MAP_SHARED, {on('/d/a')}, 0) = 0x7f",
        f"write({on('/e/log')}, {text('/d/a')}, 4) = 4",
        f"fallocate({on('/e/a')}, 0, 0, 100) = 0",
        f"execve({text('/bin/x')}, [{text('x')}, {text('/d/a')}], 0x7f /* 3 vars */) = 0",
        "io_uring_setup(8, {flags=0}) = -1 ENOSYS (Function not implemented) (INJECTED)",
    ],
)
def test_a_call_that_changes_nothing_here_is_no_event(line: str) -> None:
    """It failed, only looks, or is about something else."""
    assert read(line) == []


@pytest.mark.parametrize(
    "line",
    [
        f"write({on('/d/a')}, {text('xyz')}, 3) = 3",
        f"pwritev2({on('/d/a')}, [{{iov_base={text('x')}, iov_len=1}}], 1, 0, 0) = 1",
        f"fallocate({on('/d/a')}, 0, 0, 100) = 0",
        f"sync_file_range({on('/d/a')}, 0, 0, SYNC_FILE_RANGE_WRITE) = 0",
        f"copy_file_range({on('/e/a', 6)}, NULL, {on('/d/a')}, NULL, 100, 0) = 100",
        f"link({text('/d/a')}, {text('/d/b')}) = 0",
        f"mkdir({text('/d/more')}, 0700) = 0",
        f"rename({text('/e/a')}, {text('/d/a')}) = 0",
        f"rename({text('/d/a')}, {text('/e/a')}) = 0",
        f"openat(AT_FDCWD{on('/e')[1:]}, {text('/d/more/a')}, O_RDWR|O_CREAT, 0600) = {on('/d/more/a')}",
        f"openat(AT_FDCWD{on('/e')[1:]}, {text('/d/a')}, O_WRONLY|O_TRUNC) = {on('/d/a')}",
        f"pwrite64({on('/d/a')}(deleted), {text('xyz')}, 3, 512) = 3",
        f"pwrite64({on('/d/a')}, {text('xyz')}..., 300, 512) = 300",
        f"fdatasync({on('/d/a')}) = -1 EIO (Input/output error)",
        f"io_uring_setup(8, {{flags=0}}) = {on('anon_inode:[io_uring]')}",
        "sync() = 0",
        "something that strace never wrote",
    ],
)
def test_nothing_about_the_folder_is_skipped_in_silence(line: str) -> None:
    """What the model of the disk cannot follow is an error, and so is what could write unseen."""
    with pytest.raises(NotUnderstood):
        read(line)


def test_a_write_counts_from_its_end_and_a_flush_from_both() -> None:
    """A write that another thread makes while a flush is under way is told between its begin and its end."""
    lines = [
        f"1 pwrite64({on('/d/a')}, {text('one')}, 3, 0 <unfinished ...>",
        f"2 fdatasync({on('/d/a')} <unfinished ...>",
        "1 <... pwrite64 resumed>)      = 3",
        "2 <... fdatasync resumed>)     = 0",
    ]
    assert list(parse(lines, FOLDER)) == [FlushBegun(2, "a"), Write("a", 0, b"one"), Flushed(2)]


def test_what_is_sent_counts_from_the_first_line_of_its_call() -> None:
    """Whoever reads it may have it before the call returns."""
    lines = [
        f"1 write({on('socket:[5]')}, {text('hi')}, 2 <unfinished ...>",
        f"2 ftruncate({on('/d/a')}, 3) = 0",
        "1 <... write resumed>) = 2",
    ]
    assert list(parse(lines, FOLDER)) == [Sent(b"hi"), Truncate("a", 3)]


def test_a_process_that_died_inside_a_write_leaves_no_trace_that_can_be_followed() -> None:
    """Whether it was written is not known; a flush that never returned covers nothing."""
    with pytest.raises(NotUnderstood, match="died inside pwrite64"):
        read(f"pwrite64({on('/d/a')}, {text('one')}, 3, 0 <unfinished ...>")
    with pytest.raises(NotUnderstood, match="died inside pwrite64"):
        read(f"pwrite64({on('/d/a')}, {text('one')}, 3, 0) = ?")
    assert read(f"fsync({on('/d')} <unfinished ...>") == [FlushBegun(1, "")]
    assert read(f"fdatasync({on('/d/a')}) = ?") == [FlushBegun(1, "a")]
