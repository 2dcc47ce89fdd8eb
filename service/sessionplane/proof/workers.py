"""Processes for what needs all cores: as many as there are, and none left behind."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any


@contextmanager
def workers(begin: Callable[..., object], *arguments: Any) -> Iterator[ProcessPoolExecutor]:
    """Give as many processes as this one may use cores; each calls `begin` with the arguments first.

    Whoever leaves early, by an error or an interruption, does not wait: they are killed. So nobody else may have
    children of `multiprocessing` meanwhile.
    """
    pool = ProcessPoolExecutor(
        len(os.sched_getaffinity(0)),
        # A fork of a process that has threads may hang.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=begin,
        initargs=arguments,
    )
    try:
        yield pool
    except BaseException:
        for process in multiprocessing.active_children():
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
