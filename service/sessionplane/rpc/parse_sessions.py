"""From the wire: requests that change a session as a whole, each field judged once.

Raises FieldInvalid, LimitExceeded, KeyInvalid, AgentMismatch: never anything else.
"""

from __future__ import annotations

from sessionplane.domain.errors import FieldInvalid
from sessionplane.plane.editing import UpdateRequest
from sessionplane.plane.sessions import SessionRef
from sessionplane.plane.succession import DeleteRequest, ResetRequest
from sessionplane.rpc.fields import Fields
from sessionplane.v1 import admin_service_pb2, session_service_pb2

_AGE_MS_MAX = 100 * 365 * 24 * 60 * 60 * 1000
_UPDATABLE = frozenset({"labels", "display_name"})


class SessionRequests(Fields):
    """Reads requests about one session that are about neither its runs nor its events."""

    def update(self, request: session_service_pb2.UpdateSessionRequest) -> UpdateRequest:
        """Read an UpdateSession. Without a mask it is about what is not empty (AIP-134)."""
        ref = self.ref(request.session)
        labels = self.labels(request.labels, "labels")
        name = self.name(request.display_name, "display_name")
        paths = set(request.update_mask.paths)
        if unknown := sorted(paths - _UPDATABLE):
            problem = f"{unknown[0]!a} cannot be changed; there are labels and display_name"
            raise FieldInvalid(field="update_mask", problem=problem)
        if not paths:
            paths = {path for path, given in (("labels", labels), ("display_name", name)) if given}
        return UpdateRequest(
            call=self.call("UpdateSession", request, ref.key),
            session=ref,
            labels=labels if "labels" in paths else None,
            display_name=name if "display_name" in paths else None,
            etag=self.name(request.etag, "etag"),
        )

    def reset(self, request: session_service_pb2.ResetSessionRequest) -> ResetRequest:
        """Read a ResetSession."""
        ref = self.ref(request.session)
        return ResetRequest(
            call=self.call("ResetSession", request, ref.key),
            session=ref,
            expected_session_id=self.name(request.expected_session_id, "expected_session_id"),
        )

    def delete(self, request: session_service_pb2.DeleteSessionRequest) -> DeleteRequest:
        """Read a DeleteSession."""
        ref = self.ref(request.session)
        return DeleteRequest(call=self.call("DeleteSession", request, ref.key), session=ref)

    def compact(self, request: admin_service_pb2.CompactEventsRequest) -> tuple[SessionRef, int | None]:
        """Read whose log loses its beginning, and how long ago runs must have ended for that: None for the server's own
        window.
        """
        ref = self.ref(request.session)
        if not request.HasField("older_than"):
            return ref, None
        return ref, self.span_ms(request, "older_than", default=0, least=0, most=_AGE_MS_MAX)
