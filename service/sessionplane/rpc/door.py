"""The door: one address, and the gRPC server behind it, which is built again if its own loop dies.

grpc.aio (seen in 1.85.1) ends the loop that takes calls when the path of one is no UTF-8: a few bytes by anybody. The
process would live on, say nothing, and let nobody in. So the door looks at the library's server all the time. What is
open on the old one goes on to its own end; whoever comes finds a new one on the same address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc
import structlog

from sessionplane.rpc.hanging_up import hang_up

log = structlog.get_logger(__name__)

LOOK_S = 0.1
"""So long may nobody get in until it is noticed."""

AGAIN_S = 0.01
"""Between two tries to bind: the old server lets go of the address a moment after it has died."""


class Door:
    """Listens on one address. `build` makes a server with everything on it; `patience_s` is how long the calls of one
    that has died may go on.
    """

    def __init__(self, build: Callable[[], grpc.aio.Server], *, patience_s: float) -> None:
        self._build = build
        self._patience_s = patience_s
        self._server = build()
        self._address = ""
        self._keeper: asyncio.Task[None] | None = None
        # Each waits for the end of the calls of a server that has died; there is one more for each death.
        self._leaving: set[asyncio.Task[None]] = set()

    def bind(self, address: str) -> int:
        """Listen on an address; returns the port. Raises RuntimeError if it is taken."""
        port = self._server.add_insecure_port(address)
        host = address.rpartition(":")[0]
        self._address = address if address.startswith("unix:") else f"{host}:{port}"
        return port

    async def start(self) -> None:
        """Let calls in, and keep at it."""
        await self._server.start()
        self._keeper = asyncio.create_task(self._keep(), name="door")

    async def stop(self, grace_s: float) -> None:
        """End all connections, and cut what is still open at the latest after so long."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        hang_up(self._address)
        await self._server.stop(grace_s)
        # They have had their grace beside this one.
        for leaving in self._leaving:
            leaving.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)

    async def _keep(self) -> None:
        """Put a new server in the place of one that died."""
        while True:
            try:
                while await self._server.wait_for_termination(LOOK_S):
                    continue
            except Exception as cause:  # noqa: BLE001 - whatever the library died of, the door must be open
                log.error("door.broken", cause=repr(cause), address=self._address)  # noqa: TRY400 - not ours to debug
                await self._open_again()
            else:
                return

    async def _open_again(self) -> None:
        leaving = asyncio.create_task(self._server.stop(self._patience_s))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        self._server = self._build()
        while True:
            try:
                self._server.add_insecure_port(self._address)
            except RuntimeError:
                await asyncio.sleep(AGAIN_S)
            else:
                break
        await self._server.start()
        log.warning("door.open_again", address=self._address)
