"""Measures bare SQLite in a process of its own: `bare_sqlite.py resolve|publish COUNT GROUP DATABASE`.

`resolve` writes the rows of COUNT new keys, GROUP of them in a commit. `publish` writes COUNT events, GROUP of them in
a publication and a commit. Prints one JSON object: operations, wall_s, server_s.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bare_rows import BareRun, Step, commit_each, open_database, resolve_steps
from texts import texts


def resolve(database: Path, count: int, group: int) -> tuple[int, Callable[[], None]]:
    """Prepare new sessions under new keys."""
    connection = open_database(database)
    steps = [resolve_steps(number, f"direct:bare-{number:08}") for number in range(1, count + 1)]
    groups = [
        [step for resolved in steps[at : at + group] for step in resolved] for at in range(0, count, group)
    ]
    return count, lambda: commit_each(connection, groups)


def publish(database: Path, count: int, group: int) -> tuple[int, Callable[[], None]]:
    """Prepare publications of one run."""
    connection = open_database(database)
    run = BareRun(connection)
    groups: list[list[Step]] = [run.publish_steps(texts(group)) for _ in range(count // group)]
    return len(groups) * group, lambda: commit_each(connection, groups)


def main(kind: str, count: str, group: str, database: str) -> None:
    """Prepare, then measure nothing but the writing."""
    prepare = {"resolve": resolve, "publish": publish}[kind]
    operations, write = prepare(Path(database), int(count), int(group))
    begin_s, begin_cpu_s = time.perf_counter(), time.process_time()
    write()
    measured = {
        "operations": operations,
        "wall_s": time.perf_counter() - begin_s,
        "server_s": time.process_time() - begin_cpu_s,
    }
    print(json.dumps(measured))


if __name__ == "__main__":
    main(*sys.argv[1:])
