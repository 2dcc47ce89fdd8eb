"""What a client does as a runner."""

from __future__ import annotations

from sessionplane.v1 import runner_service_pb2 as runner

from .connection import Connection, only
from .drive import AWAY_S
from .runner import Claim, Runner
from .wire import duration, new_request_id


class RunnerCalls(Connection):
    """The calls of a client that runners make."""

    async def claim_run(
        self,
        run_id: str | None = None,
        *,
        pool: str | None = None,
        runner_id: str = "",
        lease_s: float | None = None,
        wait_s: float = 60.0,
        request_id: str | None = None,
    ) -> Claim | None:
        """Takes a run by its id, or the next one of a pool; returns None if there is none to take.

        Waits for one for `wait_s` (the server keeps it between about a second and a minute). Raises TypeError
        unless exactly one of `run_id` and `pool` is given, and RunNotFound.
        """
        only(run_id=run_id, pool=pool)
        request = runner.ClaimRunRequest(
            runner_id=runner_id,
            lease_duration=duration(lease_s),
            request_id=request_id or new_request_id(),
            **({"run_id": run_id} if run_id is not None else {"pool": pool or ""}),
        )
        # The server answers 5 % and at least 100 ms before the deadline, which is all that says how long to
        # wait.
        timeout_s = max(1.0, wait_s + 0.1, wait_s / 0.95)
        answer = await self._unary(self.runner_service.ClaimRun, request, timeout_s=timeout_s)
        return Claim(run=answer.run, lease=answer.lease) if answer.claimed else None

    def run(self, claim: Claim, *, away_s: float = AWAY_S) -> Runner:
        """Drives a claimed run: `async with client.run(claim) as run`; see Runner.

        A server that cannot be reached is tried again for the lease and `away_s` more.
        """
        return Runner(self.runner_service, claim, away_s=away_s)
