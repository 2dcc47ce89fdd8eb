"""A server as people run it, with the bounds that tests have; the rest is in `sessionplane.proof.servers`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from sessionplane.proof import servers
from sessionplane.proof.servers import READY_S, Exited, free_port
from tests.support.forked import Forked, forked
from tests.support.serving import BOUNDS

__all__ = ["READY_S", "Exited", "ServerProcess", "free_port", "server_process"]


class ServerProcess(servers.ServerProcess):
    """`sessionplane serve` on one file and one port."""

    def __init__(
        self, database: Path, *, limits: Mapping[str, int] | None = None, port: int | None = None
    ) -> None:
        super().__init__(database, limits=BOUNDS | dict(limits or {}), port=port)

    @staticmethod
    async def _begin(*arguments: str, errors: int, environment: Mapping[str, str]) -> Forked:
        return await forked("sessionplane", *arguments, stderr=errors, env=environment)


def server_process(
    database: Path, *, limits: Mapping[str, int] | None = None
) -> AbstractAsyncContextManager[servers.ServerProcess]:
    """Run a server process until the context is left; it is killed if it still runs then."""
    return servers.started(ServerProcess(database, limits=limits))
