"""A grpcurl for machines without one: the few of its arguments that the docs use, and its way to print.

The program itself is a few lines that start quickly; it hands its arguments to this process, which makes the call
with the generated messages and without reflection.
"""

from __future__ import annotations

import asyncio
import json
import stat
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.json_format import MessageToJson, ParseDict
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from sessionplane.v1 import admin_service_pb2, runner_service_pb2, session_service_pb2

KNOWN = (admin_service_pb2, runner_service_pb2, session_service_pb2)
"""Importing them is what puts the methods into the pool."""

_PROGRAM = """#!{python} -IS
import json, socket, sys
with socket.create_connection(("127.0.0.1", {port})) as there:
    there.sendall(json.dumps(sys.argv[1:]).encode() + b"\\n")
    for line in there.makefile(encoding="utf-8"):
        print(line, end="", flush=True)
"""


@asynccontextmanager
async def stand_in(folder: Path) -> AsyncIterator[Path]:
    """Puts a program `grpcurl` into a folder, and answers it meanwhile."""
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    program = folder / "grpcurl"
    program.write_text(_PROGRAM.format(python=sys.executable, port=server.sockets[0].getsockname()[1]))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    async with server:
        yield program


async def _answer(reader: StreamReader, writer: StreamWriter) -> None:
    plain, data, request, target, name = json.loads(await reader.readline())
    assert (plain, data) == ("-plaintext", "-d")
    try:
        async for printed in _call(json.loads(request), target, name):
            writer.write(f"{printed}\n".encode())
            await writer.drain()
    finally:
        writer.close()


async def _call(request: object, target: str, name: str) -> AsyncIterator[str]:
    method = descriptor_pool.Default().FindMethodByName(name.replace("/", "."))
    response = GetMessageClass(method.output_type)
    message = ParseDict(request, GetMessageClass(method.input_type)())
    async with grpc.aio.insecure_channel(target) as channel:
        make = channel.unary_stream if method.server_streaming else channel.unary_unary
        call = make(
            f"/{name}",
            request_serializer=lambda each: each.SerializeToString(),
            response_deserializer=response.FromString,
        )(message)
        try:
            answers = call if method.server_streaming else _one(call)
            async for answer in answers:
                yield MessageToJson(answer, preserving_proto_field_name=True)
        except grpc.aio.AioRpcError as error:
            yield _refusal(error)


async def _one(call: grpc.aio.UnaryUnaryCall) -> AsyncIterator[object]:
    yield await call


def _refusal(error: grpc.aio.AioRpcError) -> str:
    code = "".join(word.capitalize() for word in error.code().name.split("_"))
    lines = ["ERROR:", f"  Code: {code}", f"  Message: {error.details()}", "  Details:"]
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            lines.append(MessageToJson(info))
    return "\n".join(lines)
