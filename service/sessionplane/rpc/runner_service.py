"""RunnerService: what runners do."""

from __future__ import annotations

from sessionplane.plane import claims, runners, runs
from sessionplane.plane.plane import ControlPlane
from sessionplane.rpc import render
from sessionplane.rpc.drive import Driver
from sessionplane.rpc.fields import NAMESPACE
from sessionplane.rpc.guard import Context
from sessionplane.rpc.parse import Parser
from sessionplane.rpc.waits import wait_s
from sessionplane.v1 import runner_service_pb2 as pb


class RunnerService:
    """Each method: read the request, run the use case, show its answer."""

    def __init__(self, plane: ControlPlane, parser: Parser) -> None:
        self._plane = plane
        self._parser = parser
        self._driver = Driver(plane, parser)

    async def claim_run(self, request: pb.ClaimRunRequest, context: Context) -> pb.ClaimRunResponse:
        """Take a run, waiting for one."""
        asked = self._parser.claim(request)
        claimed = await self._plane.claim(asked, wait_s=wait_s(context, self._plane.limits))
        if claimed is None:
            # Nothing came in time; by id, say how the run stands.
            if not asked.run_id:
                return pb.ClaimRunResponse()
            view = self._plane.read(lambda tx: runs.get_run(tx, NAMESPACE, asked.run_id))
            return pb.ClaimRunResponse(run=render.run(self._plane, view, whole=True))
        return pb.ClaimRunResponse(
            claimed=claimed.lease is not None,
            run=render.run(self._plane, claimed.run, whole=True),
            lease=render.lease(claimed.lease) if claimed.lease else None,
        )

    async def drive_run(self, context: Context) -> None:
        """Drive a run over one stream."""
        await self._driver.serve(context)

    async def publish_events(
        self, request: pb.PublishEventsRequest, _context: Context
    ) -> pb.PublishEventsResponse:
        """Publish events."""
        asked = self._parser.publish(self._parser.holder(request.run_id, request.lease_token), request)
        heard = await self._plane.execute(
            lambda tx, use: runners.publish(tx, asked, use), size=request.ByteSize()
        )
        return pb.PublishEventsResponse(
            last_run_sequence=heard.last_run_sequence,
            last_sequence=heard.last_sequence,
            duplicate_count=heard.duplicate_count,
            lease=render.lease(heard.lease),
            commands=render.commands(heard),
        )

    async def heartbeat_run(
        self, request: pb.HeartbeatRunRequest, _context: Context
    ) -> pb.HeartbeatRunResponse:
        """Stay alive."""
        holder = self._parser.holder(request.run_id, request.lease_token)
        acknowledged = self._parser.name(request.acknowledged_interrupt_id, "acknowledged_interrupt_id")
        taken = self._parser.input_ids(request.acknowledged_input_ids, "acknowledged_input_ids")
        heard = await self._plane.execute(
            lambda tx, context: runners.heartbeat(
                tx,
                holder,
                context,
                acknowledged_interrupt_id=acknowledged,
                acknowledged_input_ids=taken,
            )
        )
        return pb.HeartbeatRunResponse(lease=render.lease(heard.lease), commands=render.commands(heard))

    async def finish_run(self, request: pb.FinishRunRequest, _context: Context) -> pb.FinishRunResponse:
        """Report how a run ended."""
        asked = self._parser.finish(self._parser.holder(request.run_id, request.lease_token), request)
        finished = await self._plane.execute(
            lambda tx, use: runners.finish(tx, asked, use), size=request.ByteSize()
        )
        return pb.FinishRunResponse(
            finish_result=render.FINISH_RESULTS[finished.result],
            terminal=render.terminal(finished.run.terminal, whole=True),
            terminal_sequence=finished.run.terminal_sequence,
        )

    async def release_run(self, request: pb.ReleaseRunRequest, _context: Context) -> pb.ReleaseRunResponse:
        """Give a run back."""
        holder = self._parser.holder(request.run_id, request.lease_token)
        call = self._parser.call("ReleaseRun", request, None)
        view = await self._plane.execute(lambda tx, context: claims.release(tx, call, holder, context))
        return pb.ReleaseRunResponse(run=render.run(self._plane, view))
