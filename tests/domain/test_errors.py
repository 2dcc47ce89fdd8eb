"""Errors: stable reasons, whole sentences, and details at every place that raises them."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

import sessionplane
from sessionplane.domain import errors
from sessionplane.domain.errors import SessionPlaneError, leaves, variants
from sessionplane.rpc.status import CODES

SOURCE = Path(sessionplane.__file__).parent
LEAVES = {leaf.__name__: leaf for leaf in (*leaves(), *variants())}
ONE_NAME = re.compile(r"[A-Z]+(_[A-Z]+)*")


def placeholders(leaf: type[SessionPlaneError]) -> set[str]:
    """The details that a message needs."""
    return {name for _, name, _, _ in string.Formatter().parse(leaf.__doc__ or "") if name}


def sites() -> Iterator[tuple[str, type[SessionPlaneError], set[str]]]:
    """Every place in the service that makes an error with details that can be read off: where, which, with what."""
    for path in sorted(SOURCE.rglob("*.py")):
        if "v1" in path.parts:
            continue
        place = path.relative_to(SOURCE)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name) and node.exc.id in LEAVES:
                yield f"{place}:{node.lineno}", LEAVES[node.exc.id], set()
            if isinstance(node, ast.Call) and (leaf := LEAVES.get(_called(node))):
                yield f"{place}:{node.lineno}", leaf, _details(node)


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _details(node: ast.Call) -> set[str]:
    names = {keyword.arg for keyword in node.keywords if keyword.arg}
    for keyword in node.keywords:
        if keyword.arg is None and isinstance(keyword.value, ast.Dict):
            names |= {key.value for key in keyword.value.keys if isinstance(key, ast.Constant)}
    return names


def test_every_leaf_has_a_reason_of_its_own() -> None:
    """Reasons are unique and in upper case: programs compare them."""
    reasons = [leaf.reason for leaf in leaves()]
    assert len(set(reasons)) == len(reasons)
    assert all(ONE_NAME.fullmatch(reason) for reason in reasons)


def test_a_reason_is_the_name_of_its_class() -> None:
    """RunFinished is RUN_FINISHED: whoever reads one finds the other."""
    for leaf in leaves():
        assert re.sub(r"(?<!^)(?=[A-Z])", "_", leaf.__name__).upper() == leaf.reason


@pytest.mark.parametrize("variant", variants())
def test_a_variant_has_the_reason_of_its_leaf_and_another_message(variant: type[SessionPlaneError]) -> None:
    """It would be the leaf itself if it had the leaf's message, and a leaf if it had a reason of its own."""
    (leaf,) = [leaf for leaf in leaves() if issubclass(variant, leaf)]
    assert variant.reason == leaf.reason
    assert variant.__doc__ != leaf.__doc__


@pytest.mark.parametrize("leaf", LEAVES.values())
def test_a_message_is_one_line_of_whole_sentences(leaf: type[SessionPlaneError]) -> None:
    """A message begins with a capital or a detail, ends with a full stop, and has no line break."""
    message = leaf.__doc__
    assert message
    assert message.endswith(".")
    assert "\n" not in message
    assert message[0].isupper() or message[0] == "{"


def test_every_place_fills_its_message() -> None:
    """Whoever raises an error passes the details that its message names; most errors are found to be raised."""
    found = list(sites())
    assert {where: missing for where, leaf, given in found if (missing := placeholders(leaf) - given)} == {}
    assert len({leaf for _, leaf, _ in found}) > len(LEAVES) * 2 // 3


def test_every_leaf_has_a_code() -> None:
    """The table to gRPC codes is total, and has nothing else in it."""
    assert set(CODES) == {*leaves(), *variants()}


def test_details_are_text() -> None:
    """Details go into a message and into metadata, so they are text whatever came."""
    error = errors.RunQueueFull(limit=20, what="runs")
    assert error.details == {"limit": "20", "what": "runs"}
    assert str(error) == "20 runs wait in this session already. Wait until one of its runs has finished."


def test_a_missing_detail_does_not_hide_the_refusal() -> None:
    """A message whose detail was forgotten shows its name, and the refusal stays what it is."""
    assert str(errors.RunNotFound()).startswith("There is no run (run_id). ")


@pytest.mark.parametrize("text", ["{0}", "{x.y}", "{x[0]}", "{x!r:>10}", "%s {} {{", "{"])
def test_details_are_never_read_as_a_template(text: str) -> None:
    """What a caller sent shows up in a message as it is."""
    error = errors.RunNotFound(run_id=text)
    assert str(error).startswith(f"There is no run {text}. ")


def test_the_base_is_no_leaf() -> None:
    """Only errors with a reason can reach a caller."""
    assert SessionPlaneError not in leaves()
    assert all(issubclass(leaf, SessionPlaneError) for leaf in leaves())
