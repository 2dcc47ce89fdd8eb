"""AdminService: what operators do."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sessionplane.domain.errors import FieldInvalid
from sessionplane.domain.keys import KEY_RULES_VERSION
from sessionplane.plane.importing import Imported, ImportEntry, ImportRequest
from sessionplane.plane.plane import ControlPlane
from sessionplane.rpc import render, subscribers
from sessionplane.rpc.fields import NAMESPACE
from sessionplane.rpc.guard import Context
from sessionplane.rpc.parse import Parser
from sessionplane.rpc.parse_imports import RefusedEntry
from sessionplane.store.invariants import INVARIANTS
from sessionplane.v1 import admin_service_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What does not change while a server runs."""

    version: str
    schema_version: int
    sqlite_version: str
    sqlite_verdict: str
    ready_at_ms: int


EXAMPLES_MAX = 10


class AdminService:
    """Each method: read the request, look, show."""

    def __init__(self, plane: ControlPlane, parser: Parser, facts: ServerFacts) -> None:
        self._plane = plane
        self._parser = parser
        self._facts = facts

    async def get_server_info(
        self, _request: pb.GetServerInfoRequest, _context: Context
    ) -> pb.GetServerInfoResponse:
        """Say what this server is."""
        facts = self._facts
        return pb.GetServerInfoResponse(
            version=facts.version,
            store_id=self._plane.store.store_id,
            schema_version=facts.schema_version,
            sqlite_version=facts.sqlite_version,
            sqlite_verdict=facts.sqlite_verdict,
            key_rules_version=KEY_RULES_VERSION,
            ready_time=render.timestamp(facts.ready_at_ms),
            open_stream_count=len(self._plane.following.seats),
            limits=asdict(self._plane.limits),
        )

    async def list_subscribers(
        self, request: pb.ListSubscribersRequest, _context: Context
    ) -> pb.ListSubscribersResponse:
        """List the open streams."""
        return await subscribers.list_subscribers(self._plane, self._parser, request)

    async def disconnect_subscriber(
        self, request: pb.DisconnectSubscriberRequest, _context: Context
    ) -> pb.DisconnectSubscriberResponse:
        """End one open stream."""
        subscribers.disconnect(self._plane, self._parser.required(request.subscriber_id, "subscriber_id"))
        return pb.DisconnectSubscriberResponse()

    async def explain_key(self, request: pb.ExplainKeyRequest, _context: Context) -> pb.ExplainKeyResponse:
        """Show the way from a raw key to the canonical one."""
        explanation = self._parser.explain(request.key, request.agent)
        key = explanation.key
        return pb.ExplainKeyResponse(
            canonical_key=key.text,
            agent=key.agent,
            kind=key.kind.value,
            rules=[
                pb.KeyRule(
                    name=step.rule.name, before=step.before, after=step.after, description=step.rule.value
                )
                for step in explanation.steps
            ],
        )

    async def check_invariants(
        self, request: pb.CheckInvariantsRequest, _context: Context
    ) -> pb.CheckInvariantsResponse:
        """Ask the database for what must never be. One reader's thread is busy for as long as it takes."""
        unknown = [name for name in request.names if name not in INVARIANTS]
        if unknown:
            problem = f"there is no {unknown[0]!r}; known are {', '.join(INVARIANTS)}"
            raise FieldInvalid(field="names", problem=problem)
        wanted = [name for name in INVARIANTS if not request.names or name in request.names]
        return pb.CheckInvariantsResponse(results=[await self._check(name) for name in wanted])

    async def compact_events(
        self, request: pb.CompactEventsRequest, _context: Context
    ) -> pb.CompactEventsResponse:
        """Remove the beginning of a log, step by step. Steps that were done stay done if the caller goes away."""
        ref, older_than_ms = self._parser.compact(request)
        done = await self._plane.compactor.compact(NAMESPACE, ref, older_than_ms)
        return pb.CompactEventsResponse(
            previous_floor_sequence=done.previous_floor_sequence,
            floor_sequence=done.floor_sequence,
            removed_event_count=done.removed.events,
            removed_bytes=done.removed.bytes,
        )

    async def import_sessions(
        self, request: pb.ImportSessionsRequest, _context: Context
    ) -> pb.ImportSessionsResponse:
        """Import what can be, and say of the rest why not."""
        read = self._parser.imported(request)
        usable = [each for each in read if isinstance(each, ImportEntry)]
        asked = ImportRequest(namespace=NAMESPACE, entries=usable, dry_run=request.dry_run)
        done = iter(await self._plane.import_sessions(asked, size=request.ByteSize()) if usable else ())
        return pb.ImportSessionsResponse(
            results=[
                _imported(each, next(done)) if isinstance(each, ImportEntry) else _refused(each)
                for each in read
            ]
        )

    async def _check(self, name: str) -> pb.InvariantResult:
        invariant, began_ms = INVARIANTS[name], self._plane.clock.monotonic_ms()
        found = await self._plane.store.scan(lambda tx: tx.violations(name, limit=EXAMPLES_MAX))
        result = pb.InvariantResult(
            name=name,
            promise=invariant.promise,
            description=invariant.description,
            violation_count=found.total,
            examples=found.examples,
        )
        result.duration.FromMilliseconds(self._plane.clock.monotonic_ms() - began_ms)
        return result


def _imported(entry: ImportEntry, imported: Imported) -> pb.ImportResult:
    return pb.ImportResult(
        raw_key=entry.raw_key,
        canonical_key=entry.key.text,
        session_id=imported.session_id,
        outcome=render.IMPORT_OUTCOMES[imported.outcome],
        other_session_id=imported.other_session_id,
    )


def _refused(entry: RefusedEntry) -> pb.ImportResult:
    return pb.ImportResult(
        raw_key=entry.raw_key,
        canonical_key=entry.canonical_key,
        outcome=pb.IMPORT_OUTCOME_REFUSED,
        reason=entry.reason,
        problem=entry.problem,
    )
