"""Print, for a range of seeds, the hash of all that was recorded of each."""

from __future__ import annotations

import hashlib
import sys

from sessionplane.proof.sim.disk import cabinet
from sessionplane.proof.sim.plan import plan
from sessionplane.proof.sim.simulation import simulate

if __name__ == "__main__":
    with cabinet() as disks:
        for seed in range(*map(int, sys.argv[1:])):
            recorded = simulate(plan(seed), disks)
            sys.stdout.write(f"{hashlib.sha256(recorded.history.dump()).hexdigest()}\n")
