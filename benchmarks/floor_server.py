"""The floors that are servers: `floor_server.py DATABASE`, on a free port of the loopback.

Each method does what no gRPC server in Python can do without, with the product's own channel options and event loop:

* ResolveSession, the bare handler: parses the request, builds the response that the product builds, out of constants;
* Frames, the bare stream: writes the frame that it was given, as often as it was told;
* Relay and Follow, the bare relay: commits each message as one event in SQLite, then writes it to all followers.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import grpc
import uvloop

from bare_rows import CHAIN, NOW_MS, BareRun, commit_each, new_id, open_database
from sessionplane.domain.tokens import ResumeToken
from sessionplane.rpc.render import timestamp
from sessionplane.rpc.server import OPTIONS
from sessionplane.v1 import session_pb2
from sessionplane.v1 import session_service_pb2 as pb
from texts import texts

Context = grpc.aio.ServicerContext[Any, Any]

SESSION_ID = new_id("ses_")
TOKEN = ResumeToken(store_id=CHAIN.hex(), session_id=SESSION_ID, sequence=2, chain=CHAIN).encode()


async def resolve_session(request: pb.ResolveSessionRequest, _context: Context) -> pb.ResolveSessionResponse:
    """Answer as the product answers for a session that is there."""
    return pb.ResolveSessionResponse(
        session=session_pb2.Session(
            session_id=SESSION_ID,
            key=request.session.key,
            kind="direct",
            state=session_pb2.SESSION_STATE_CREATED,
            generation=1,
            head_sequence=2,
            create_time=timestamp(NOW_MS),
            start_time=timestamp(NOW_MS),
            last_interaction_time=timestamp(NOW_MS),
            update_time=timestamp(NOW_MS),
            etag="1a2b",
        ),
        resolution=session_pb2.RESOLUTION_EXISTING,
        route=session_pb2.ROUTE_ADMIT,
        resume_token=TOKEN,
    )


async def frames(request: bytes, context: Context) -> None:
    """Write a frame so many times: the count is the first four bytes, the frame is the rest."""
    frame = request[4:]
    for _ in range(int.from_bytes(request[:4], "big")):
        await context.write(frame)


class Relay:
    """Passes messages on to followers, each after a commit of its own."""

    def __init__(self, database: Path) -> None:
        self._connection = open_database(database)
        self._run = BareRun(self._connection)
        self._followers: set[asyncio.Queue[bytes]] = set()

    async def follow(self, _request: bytes, context: Context) -> None:
        """Write what is relayed, until an empty message."""
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._followers.add(queue)
        try:
            await context.write(b"")
            while message := await queue.get():
                await context.write(message)
        finally:
            self._followers.discard(queue)

    async def relay(self, _requests: object, context: Context) -> None:
        """Commit a message, tell the followers, acknowledge; the end of the requests ends the followers."""
        while (message := await context.read()) is not grpc.aio.EOF:
            commit_each(self._connection, [self._run.publish_steps(texts(1))])
            self._tell(message)
            await context.write(message)
        self._tell(b"")

    def _tell(self, message: bytes) -> None:
        for queue in self._followers:
            queue.put_nowait(message)


def handlers(relay: Relay) -> list[grpc.GenericRpcHandler]:
    """Return what is served."""
    bare = grpc.unary_unary_rpc_method_handler(
        resolve_session,
        request_deserializer=pb.ResolveSessionRequest.FromString,
        response_serializer=pb.ResolveSessionResponse.SerializeToString,
    )
    streams: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "Frames": grpc.unary_stream_rpc_method_handler(frames),
        "Follow": grpc.unary_stream_rpc_method_handler(relay.follow),
        "Relay": grpc.stream_stream_rpc_method_handler(relay.relay),
    }
    return [
        grpc.method_handlers_generic_handler("sessionplane.v1.SessionService", {"ResolveSession": bare}),
        grpc.method_handlers_generic_handler("floor", streams),
    ]


async def main(database: str) -> None:
    """Serve until the process is ended."""
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers(tuple(handlers(Relay(Path(database)))))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    ready = {"event": "server.ready", "address": f"127.0.0.1:{port}"}
    sys.stderr.write(json.dumps(ready) + "\n")
    sys.stderr.flush()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
