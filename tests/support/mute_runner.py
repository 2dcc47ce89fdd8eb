"""A runner that writes some text and then only stays alive: somebody else ends it.

Run as `python -m tests.support.mute_runner <address> <run id> <lease in seconds> <way>`, where the way is `unary` or
`drive`. It says `working` once its text is on the server's disk.
"""

from __future__ import annotations

import asyncio
import sys

from sessionplane_client import Client
from tests.support.wire import wired

TEXT = "the answer is"


async def main(address: str, run_id: str, lease_s: float, way: str) -> None:
    """Claim, publish, say so, and stay alive for ever."""
    await {"unary": _unary, "drive": _drive}[way](address, run_id, lease_s)


async def _unary(address: str, run_id: str, lease_s: float) -> None:
    async with wired(address) as wire:
        held = await wire.hold(run_id, lease_s=lease_s)
        await wire.publish(held, TEXT)
        print("working", flush=True)  # noqa: T201
        while True:
            await asyncio.sleep(lease_s / 3)
            await wire.heartbeat(held)


async def _drive(address: str, run_id: str, lease_s: float) -> None:
    async with Client(address) as client:
        claim = await client.claim_run(run_id, lease_s=lease_s)
        assert claim is not None
        async with client.run(claim) as run:
            await run.write(TEXT)
            await run.flush()
            print("working", flush=True)  # noqa: T201
            await run.interrupted.wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4]))
