"""Open streams as operators see and end them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sessionplane.domain.errors import KeyNotBound
from sessionplane.domain.streams import ClosingReason
from sessionplane.domain.tokens import PageToken, parse_page_token
from sessionplane.live.seats import Seat
from sessionplane.plane import sessions
from sessionplane.plane.plane import ControlPlane
from sessionplane.plane.sessions import SessionRef
from sessionplane.rpc import render
from sessionplane.rpc.fields import NAMESPACE, digest, page_size
from sessionplane.rpc.parse import Parser
from sessionplane.v1 import admin_service_pb2 as pb

SUBSCRIBERS_PAGE = 100


async def list_subscribers(
    plane: ControlPlane, parser: Parser, request: pb.ListSubscribersRequest
) -> pb.ListSubscribersResponse:
    """Read a page of open streams, oldest first. Whoever comes or goes between two pages is in them, or is not."""
    limit = page_size(request.page_size, SUBSCRIBERS_PAGE, plane.limits.page_subscribers_max)
    ref = parser.ref(request.session) if request.HasField("session") else None
    named = str(ref.key or ref.session_id) if ref else ""
    arguments = digest(b"ListSubscribers", NAMESPACE.encode(), named.encode())
    token = parse_page_token(request.page_token, arguments=arguments) if request.page_token else None
    found = plane.following.seats.page(
        NAMESPACE,
        session_id=_session_id(plane, ref) if ref else "",
        after=token.row_id if token else "",
        limit=limit + 1,
    )
    page = found[:limit]
    keys = await _keys(plane, {seat.session_id for seat in page if seat.session_id})
    response = pb.ListSubscribersResponse(subscribers=[_shown(seat, keys) for seat in page])
    if len(found) > limit:
        last = PageToken(arguments=arguments, number=0, row_id=page[-1].subscriber_id)
        response.next_page_token = last.encode()
    return response


def disconnect(plane: ControlPlane, subscriber_id: str) -> None:
    """Tell an open stream to end. Raises SubscriberNotFound."""
    plane.following.seats.find(NAMESPACE, subscriber_id).end(ClosingReason.DISCONNECTED)


def _session_id(plane: ControlPlane, ref: SessionRef) -> str:
    session = plane.read(lambda tx: sessions.find(tx, NAMESPACE, ref))
    if session is None:
        raise KeyNotBound(canonical_key=ref.key)
    return session.session_id


async def _keys(plane: ControlPlane, session_ids: Collection[str]) -> Mapping[str, str]:
    """Return the keys of the sessions that have one, as they are now: one may have been bound since."""
    rows = await plane.store.scan(lambda tx: [tx.session(NAMESPACE, each) for each in session_ids])
    return {row.session_id: row.key.text for row in rows if row is not None and row.key is not None}


def _shown(seat: Seat, keys: Mapping[str, str]) -> pb.Subscriber:
    return pb.Subscriber(
        subscriber_id=seat.subscriber_id,
        subscriber_name=seat.name,
        session_id=seat.session_id,
        session_key=keys.get(seat.session_id, ""),
        run_id=seat.run_id,
        presence=render.PRESENCES[seat.presence],
        connect_time=render.timestamp(seat.connected_at_ms),
        through_sequence=seat.occupant.through if seat.occupant else 0,
        lag=seat.occupant.lag if seat.occupant else 0,
        peer=seat.peer,
    )
