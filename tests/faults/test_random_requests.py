"""Random requests to every method of a real server: each is answered or refused by name, and none hurts it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from google.protobuf.descriptor import MethodDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st

from sessionplane.v1.runner_service_pb2 import DriveRunOpen, DriveRunRequest
from tests.faults.support.messages import requests
from tests.faults.support.target import METHODS, Target, target

pytestmark = pytest.mark.asyncio(loop_scope="module")

EACH = settings(max_examples=settings().max_examples // 10)
"""There are thirty methods."""

DRIVE = next(method for method in METHODS if method.name == "DriveRun")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Target]:
    """One server for all of it: what has gone before is part of what makes it hard."""
    async with target(tmp_path_factory.mktemp("fuzz")) as built:
        yield built


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@EACH
@given(data=st.data())
async def test_any_values_in_any_fields_are_answered_or_refused_by_name(
    server: Target, method: MethodDescriptor, data: st.DataObject
) -> None:
    """Also such as exist in the server: never UNKNOWN, INTERNAL or CANCELLED, and always a reason."""
    await server.send(method, data.draw(requests(method, server.known)).SerializeToString())


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@EACH
@given(data=st.data())
async def test_any_bytes_are_answered_or_refused_by_name(
    server: Target, method: MethodDescriptor, data: st.DataObject
) -> None:
    """Bytes of no meaning, and requests that were cut or had some of their bytes changed."""
    whole = bytearray(data.draw(requests(method, server.known)).SerializeToString()) or bytearray(b"\x0a\x00")
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=4)):
        whole[place] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    await server.send(method, data.draw(st.sampled_from([bytes(whole), cut, data.draw(st.binary())])))


@EACH
@given(data=st.data())
async def test_any_messages_on_an_open_drive_are_answered_or_refused_by_name(
    server: Target, data: st.DataObject
) -> None:
    """Behind a first message that shows the lease, in any order and number."""
    opening = DriveRunOpen(run_id=server.known["run_id"][0], lease_token=server.known["lease_token"][0])
    rest = data.draw(st.lists(requests(DRIVE, server.known), max_size=4))
    messages = [DriveRunRequest(open=opening), *rest]
    await server.send(DRIVE, *(each.SerializeToString() for each in messages))
