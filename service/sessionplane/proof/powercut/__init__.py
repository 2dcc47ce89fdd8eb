"""Power cuts: what would be on the disk, had the power failed at any of the server's system calls.

A real server works under strace. Its calls are replayed into a model of a disk that keeps what was flushed and forgets
what pleases it of the rest; what it holds at a cut is written out, opened by the real store, and held against every
answer and every event that had left the server by then.

The modules, in the order in which a recording passes through them: `traffic` keeps a server busy, `recording` runs it
under strace, `trace` reads what strace wrote, `disk` forgets, `evidence` says what had to be kept, `judge` opens what
is left, and `campaign` does it many times.

The ideas are those of SQLite's own crash tests and of ALICE, which also replays system calls. What a disk may do is
what https://sqlite.org/psow.html allows it to do, and the order of directory entries is nobody's promise.
"""
