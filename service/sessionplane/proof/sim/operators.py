"""Operators: they close, suspend, reset, delete and compact, at the worst of times."""

from __future__ import annotations

import asyncio

from sessionplane.proof.sim.clients import Actor
from sessionplane.v1 import admin_service_pb2 as admin
from sessionplane.v1 import session_pb2
from sessionplane.v1 import session_service_pb2 as pb

LOOKS, LOOK_S = 2, 0.3
"""How often an operator looks for something that is under way, and how far apart."""


class Operator(Actor):
    """One operator. What the server does not serve is left out."""

    async def live(self) -> None:
        """Do a number of things, one after the other, each when something is under way."""
        for _ in range(self.world.plan.steps // 2):
            await asyncio.sleep(self.chance.random() * self.chance.choice((0.02, 0.3, 1.0)))
            method, make = self.chance.choice(_ACTS_ON_LIVE if await self._lives() else _ACTS)
            server = self.world.net.server
            if server is not None and method in server.served:
                await self.ask(method, make(self))

    async def _lives(self) -> bool:
        """Say whether some session has a run whose runner was heard, after waiting a little for one."""
        for _ in range(LOOKS):
            found = await self.ask("GetSession", pb.GetSessionRequest(session=self.ref()), times=1)
            if found is not None and found.session.running and found.session.state in _LIVE:
                return True
            await asyncio.sleep(self.chance.random() * LOOK_S)
        return False


_LIVE = frozenset({session_pb2.SESSION_STATE_ACTIVE, session_pb2.SESSION_STATE_DETACHED})


def _suspend(actor: Actor) -> pb.SuspendSessionRequest:
    return pb.SuspendSessionRequest(session=actor.ref(), request_id=actor.fresh())


def _close(actor: Actor) -> pb.CloseSessionRequest:
    return pb.CloseSessionRequest(session=actor.ref(), request_id=actor.fresh(), reason=actor.fresh(".why"))


def _reset(actor: Actor) -> pb.ResetSessionRequest:
    return pb.ResetSessionRequest(session=actor.ref(), request_id=actor.fresh())


def _delete(actor: Actor) -> pb.DeleteSessionRequest:
    return pb.DeleteSessionRequest(session=actor.ref(), request_id=actor.fresh())


def _update(actor: Actor) -> pb.UpdateSessionRequest:
    request = pb.UpdateSessionRequest(
        session=actor.ref(), display_name=actor.fresh(), request_id=actor.fresh()
    )
    request.update_mask.paths.append("display_name")
    return request


def _compact(actor: Actor) -> admin.CompactEventsRequest:
    request = admin.CompactEventsRequest(session=actor.ref())
    request.older_than.seconds = 0
    return request


_ACTS = (
    ("CloseSession", _close),
    ("ResetSession", _reset),
    ("DeleteSession", _delete),
    ("UpdateSession", _update),
    ("CompactEvents", _compact),
)
_ACTS_ON_LIVE = (*_ACTS, *(("SuspendSession", _suspend),) * 3, *(("CloseSession", _close),) * 5)
