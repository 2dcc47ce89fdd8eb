"""A page of sessions or runs: what is asked for, where the page ends, and the token with which the next one begins."""

from __future__ import annotations

from sessionplane.domain.errors import FieldInvalid
from sessionplane.domain.runs import RunState
from sessionplane.domain.tokens import PageToken, parse_page_token
from sessionplane.plane import runs
from sessionplane.plane.plane import ControlPlane
from sessionplane.rpc import render
from sessionplane.rpc.fields import NAMESPACE, digest, enum, page_size
from sessionplane.rpc.parse import Parser
from sessionplane.v1 import session_service_pb2 as pb

SESSIONS_PAGE = 100
RUNS_PAGE = 100


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


async def list_runs(plane: ControlPlane, parser: Parser, request: pb.ListRunsRequest) -> pb.ListRunsResponse:
    """Read a page of a session's runs, newest first."""
    limits = plane.limits
    ref = parser.ref(request.session)
    states = _states(request)
    limit = page_size(request.page_size, RUNS_PAGE, limits.page_runs_max)
    named = str(ref.key or ref.session_id)
    arguments = digest(b"ListRuns", NAMESPACE.encode(), named.encode(), ",".join(sorted(states)).encode())
    token = parse_page_token(request.page_token, arguments=arguments) if request.page_token else None
    before = (token.number, token.row_id) if token else None
    page = await plane.store.scan(
        lambda tx: runs.list_runs(tx, NAMESPACE, ref, states=states, before=before, limit=limit)
    )
    response = pb.ListRunsResponse(resume_token=render.head_token(plane, page.session))
    size, last, more = 0, 0, page.more
    for view in page.runs:
        shown = render.run(plane, view)
        size += shown.ByteSize()
        if response.runs and size > limits.page_bytes_max:
            more = True
            break
        response.runs.append(shown)
        last = view.run.first_sequence
    if more:
        following = PageToken(arguments=arguments, number=last, row_id=page.session.session_id)
        response.next_page_token = following.encode()
    return response


def _states(request: pb.ListRunsRequest) -> frozenset[RunState]:
    """Read the states that are wanted; none named means all."""
    states = [enum(RunState, number, "states") for number in request.states]
    if None in states:
        raise FieldInvalid(field="states", problem="a state is not one of RunState")
    return frozenset(state for state in states if state is not None) or frozenset(RunState)
