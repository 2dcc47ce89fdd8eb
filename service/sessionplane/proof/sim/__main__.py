"""Play seeds again: `python -m sessionplane.proof.sim SEED [--without PART]... [--shrink]`."""

from __future__ import annotations

import argparse
import sys

from sessionplane.proof.sim.disk import Cabinet, cabinet
from sessionplane.proof.sim.plan import PARTS, Plan, plan
from sessionplane.proof.sim.shrinking import shrink
from sessionplane.proof.sim.simulation import simulate
from sessionplane.proof.sim.story import tell, verdict


def main() -> int:
    """Play the seeds that were asked for; returns 1 if one of them broke a promise."""
    asked = _arguments()
    broken = False
    with cabinet() as disks:
        for seed in asked.seeds:
            planned = plan(seed)
            for part in asked.without:
                planned = planned.without(part)
            recorded = simulate(planned, disks)
            broken = broken or bool(recorded.broken)
            lines = verdict(recorded) if len(asked.seeds) > 1 or asked.quiet else tell(recorded)
            sys.stdout.writelines(f"{line}\n" for line in lines)
            if asked.shrink and recorded.broken:
                sys.stdout.write(f"{_smaller(planned, disks, recorded.broken[0].promise)}\n")
    return int(broken)


def _smaller(planned: Plan, disks: Cabinet, promise: str) -> str:
    """Return the command that shows the same promise broken by as little as possible."""

    def fails(less: Plan) -> bool:
        return any(broken.promise == promise for broken in simulate(less, disks).broken)

    parts = "".join(f" --without {part}" for part in shrink(planned, fails))
    return f"python -m sessionplane.proof.sim {planned.seed}{parts}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sessionplane.proof.sim", description=__doc__)
    parser.add_argument("seeds", type=int, nargs="+", metavar="SEED")
    parser.add_argument("--without", action="append", default=[], choices=sorted(PARTS), metavar="PART")
    parser.add_argument("--shrink", action="store_true", help="take away what is not needed to break it")
    parser.add_argument("--quiet", action="store_true", help="say the verdict only")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
