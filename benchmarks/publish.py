"""Publishing over DriveRun in batches of 16, with a window of batches on their way.

The floor is bare SQLite: the same events, the log's head and the run's row, in one commit for each batch. It is fair
since it does what any server on SQLite must do, prepared in advance and without a network. It is also beatable: the
product may put several batches into one commit, and each of its writers waits for the disk alone.
"""

from __future__ import annotations

from driving import driving, hold_run, publication
from load import Bench, connected
from resolve import bare_sqlite
from samples import Line, Sample, at_least, measured

BATCH = 16
WINDOW = 32
BATCHES = 1_250


async def publish(bench: Bench) -> Line:
    """One runner, one run."""
    name = f"publish over DriveRun, batches of {BATCH}"
    line = Line(name, "event", f"bare SQLite, {BATCH} a commit", (at_least("ratio", 0.60),))
    count = bench.size(BATCHES)
    for _ in range(bench.rounds):
        line.floors.append(bare_sqlite(bench, "publish", count * BATCH, BATCH))
        line.results.append(await _drive(bench, count))
    return line


async def _drive(bench: Bench, count: int) -> Sample:
    data = publication(BATCH)
    async with (
        connected(bench.ours, 1) as (connection,),
        driving(connection, await hold_run(connection)) as drive,
    ):
        with measured(bench.ours) as sample:
            await drive.publish(data, events=BATCH, count=count, window=WINDOW)
            sample.operations = count * BATCH
    return sample
