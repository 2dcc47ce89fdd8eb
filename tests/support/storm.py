"""One of the processes of a storm: plain generated stubs, a channel without options, as many calls at once as asked.

Run as `python -m tests.support.storm <address> <key> <calls>`. It says `ready` when it is connected, goes when it reads
a line, and prints how many calls ended how: a JSON object of outcomes ("<code> <session id>") with their counts.
"""

from __future__ import annotations

import json
import sys
from collections import Counter

import grpc

from sessionplane.v1.session_pb2 import SessionRef
from sessionplane.v1.session_service_pb2 import ResolveSessionRequest
from sessionplane.v1.session_service_pb2_grpc import SessionServiceStub


def main(address: str, key: str, calls: int) -> None:
    """Connect, wait for the word, resolve."""
    with grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(timeout=30)
        stub = SessionServiceStub(channel)
        print("ready", flush=True)  # noqa: T201
        sys.stdin.readline()
        request = ResolveSessionRequest(session=SessionRef(key=key))
        futures = [stub.ResolveSession.future(request) for _ in range(calls)]
        outcomes = Counter(_outcome(future) for future in futures)
    print(json.dumps(outcomes), flush=True)  # noqa: T201


def _outcome(future: grpc.Future) -> str:
    try:
        return f"OK {future.result().session.session_id}"
    except grpc.RpcError as error:
        return f"{error.code().name} {error.details()}"


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
