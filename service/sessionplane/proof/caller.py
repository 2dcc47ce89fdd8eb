"""One of the processes of a storm: generated stubs, a channel without options, as many calls at once as asked.

Run as `python -m sessionplane.proof.caller ADDRESS CALLS SPELLING...`. It says `ready` when it is connected, goes when
it reads a line, and then prints JSON: how many answers it has now and then, and in the end the different answers,
each with its spelling and its count. It must not use the Python client: a storm comes from stock stubs.
"""

from __future__ import annotations

import sys
from collections import Counter
from itertools import cycle, islice
from json import dumps
from typing import NamedTuple

import grpc

from sessionplane.v1.session_pb2 import SessionRef
from sessionplane.v1.session_service_pb2 import ResolveSessionRequest, ResolveSessionResponse
from sessionplane.v1.session_service_pb2_grpc import SessionServiceStub

CONNECT_S = 60
CALL_S = 120
_TOLD_EVERY = 250


class Answer(NamedTuple):
    """What a call came to; a refusal has its message and nothing of a session."""

    spelling: str
    code: str
    message: str = ""
    session_id: str = ""
    key: str = ""
    generation: int = 0
    resolution: int = 0


def main(address: str, calls: int, spellings: list[str]) -> None:
    """Connect, wait for the word, resolve, tell."""
    with grpc.insecure_channel(address) as channel:
        grpc.channel_ready_future(channel).result(timeout=CONNECT_S)
        stub = SessionServiceStub(channel)
        _tell("ready")
        sys.stdin.readline()
        asked = list(islice(cycle(spellings), calls))
        requests = {
            spelling: ResolveSessionRequest(session=SessionRef(key=spelling)) for spelling in spellings
        }
        futures = [stub.ResolveSession.future(requests[spelling], timeout=CALL_S) for spelling in asked]
        answers: Counter[Answer] = Counter()
        for done, (spelling, future) in enumerate(zip(asked, futures, strict=True), start=1):
            answers[_answer(spelling, future)] += 1
            if done % _TOLD_EVERY == 0:
                _tell(dumps({"done": done}))
    _tell(dumps({"done": calls, "answers": list(answers.items())}))


def _answer(spelling: str, future: grpc.Future[ResolveSessionResponse]) -> Answer:
    try:
        answer = future.result()
    except grpc.RpcError as error:
        return Answer(spelling, error.code().name, error.details() or "")
    session = answer.session
    return Answer(spelling, "OK", "", session.session_id, session.key, session.generation, answer.resolution)


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
