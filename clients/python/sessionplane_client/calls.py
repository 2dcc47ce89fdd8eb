"""One unary call, with its errors as the client's own. A call that its caller gave up is cancelled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from grpc.aio import AioRpcError

from .errors import client_closed, from_rpc_error

if TYPE_CHECKING:
    from grpc.aio import UnaryUnaryMultiCallable

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


async def unary(
    method: UnaryUnaryMultiCallable[_Request, _Response], request: _Request, *, timeout_s: float
) -> _Response:
    """Makes one call with a deadline. Raises SessionPlaneError for every status but OK."""
    call = method(request, timeout=timeout_s)
    try:
        return await call
    except AioRpcError as error:
        raise from_rpc_error(error) from error
    except asyncio.CancelledError:
        if was_cancelled():
            raise
        raise client_closed() from None
    finally:
        call.cancel()


def was_cancelled() -> bool:
    """Whether a CancelledError means this task; else the call was cancelled by the closing of its channel."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
