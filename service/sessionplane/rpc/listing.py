"""A page of sessions: what is asked for, where the page ends, and the token with which the next one begins."""

from __future__ import annotations

from sessionplane.domain.tokens import PageToken, parse_page_token
from sessionplane.plane.plane import ControlPlane
from sessionplane.rpc import render
from sessionplane.rpc.fields import NAMESPACE, digest, page_size
from sessionplane.rpc.parse import Parser
from sessionplane.v1 import session_service_pb2 as pb

SESSIONS_PAGE = 100


async def list_sessions(
    plane: ControlPlane, parser: Parser, request: pb.ListSessionsRequest
) -> pb.ListSessionsResponse:
    """Read a page of sessions, last changed first."""
    limits = plane.limits
    wanted = parser.session_filter(request.filter)
    limit = page_size(request.page_size, SESSIONS_PAGE, limits.page_sessions_max)
    arguments = digest(
        b"ListSessions", NAMESPACE.encode(), request.filter.encode(), bytes([request.show_internal])
    )
    token = parse_page_token(request.page_token, arguments=arguments) if request.page_token else None
    page = await plane.store.scan(
        lambda tx: tx.sessions(
            NAMESPACE,
            wanted=wanted,
            show_internal=request.show_internal,
            before=(token.number, token.row_id) if token else None,
            limit=limit,
            examine_max=limits.page_examined_max,
        )
    )
    response, size, next_before = pb.ListSessionsResponse(), 0, page.next_before
    for row in page.sessions:
        shown = render.session(plane, row)
        size += shown.ByteSize()
        if response.sessions and size > limits.page_bytes_max:
            last = page.sessions[len(response.sessions) - 1]
            next_before = (last.updated_at_ms, last.session_id)
            break
        response.sessions.append(shown)
    if next_before is not None:
        number, row_id = next_before
        response.next_page_token = PageToken(arguments=arguments, number=number, row_id=row_id).encode()
    return response
