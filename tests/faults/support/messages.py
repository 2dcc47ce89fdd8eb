"""Random messages for any RPC, made from its descriptor: every field of every type, and what is no message at all.

Ids, keys and tokens that exist are among the values, so that a random request also gets past the first check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

DEPTH_MAX, FIELDS_MAX = 4, 3
NAMING = ("session", "run_id", "lease_token")
"""Without these most requests go no further than to say so."""

_OFTEN = st.sampled_from([True, True, True, False])
INT32, INT64 = 2**31, 2**63

_TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            "",
            " ",
            "\0",
            "a\0b",
            "é",
            "\u202e",
            "x" * 129,
            "x" * 5_000,
            "agent:main:main",
            "agent::",
            "global",
            "%s",
        ]
    ),
)
_INTEGERS = st.one_of(
    st.integers(-3, 300), st.sampled_from([INT32 - 1, -INT32, 10**9, -(10**9), 999_999_999, 1_000_000_000])
)
_LONGS = st.one_of(
    _INTEGERS, st.sampled_from([INT64 - 1, -INT64, 253_402_300_799, 253_402_300_800, 315_576_000_001])
)
_FLOATS = st.floats(allow_nan=True, allow_infinity=True)

_SCALARS: Mapping[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_STRING: _TEXTS,
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=40),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_INT32: _INTEGERS,
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: _LONGS,
    FieldDescriptor.TYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_DOUBLE: _FLOATS,
    FieldDescriptor.TYPE_FLOAT: st.floats(width=32),
}


def requests(method: MethodDescriptor, known: Mapping[str, Sequence[str]]) -> st.SearchStrategy[Message]:
    """Return random requests of a method. `known` has values that exist, by the name of the field they fit into."""
    return _messages(method.input_type, known, DEPTH_MAX)


@st.composite
def _messages(draw: st.DrawFn, kind: Descriptor, known: Mapping[str, Sequence[str]], depth: int) -> Message:
    """A few fields at a time: with all of them at once the first bad one would be all that is ever looked at."""
    fields = [field for field in kind.fields if depth or field.message_type is None]
    names = st.sampled_from([field.name for field in fields]) if fields else st.nothing()
    chosen = draw(st.lists(names, max_size=FIELDS_MAX, unique=True)) if fields else []
    chosen += [name for name in NAMING if name in kind.fields_by_name and draw(_OFTEN)]
    return _filled(kind, {name: draw(_values(kind.fields_by_name[name], known, depth)) for name in chosen})


def _filled(kind: Descriptor, values: Mapping[str, Any]) -> Message:
    message = GetMessageClass(kind)()
    for name, value in values.items():
        field = kind.fields_by_name[name]
        target = getattr(message, name)
        if _is_map(field):
            for key, each in value.items():
                if isinstance(each, Message):
                    target[key].CopyFrom(each)
                else:
                    target[key] = each
        elif field.is_repeated:
            target.extend(value)
        elif isinstance(value, Message):
            target.CopyFrom(value)
            target.SetInParent()
        else:
            setattr(message, name, value)
    return message


def _values(field: FieldDescriptor, known: Mapping[str, Sequence[str]], depth: int) -> st.SearchStrategy[Any]:
    if _is_map(field):
        parts = field.message_type.fields_by_name
        return st.dictionaries(
            _one(parts["key"], known, depth), _one(parts["value"], known, depth - 1), max_size=3
        )
    one = _one(field, known, depth)
    return st.lists(one, max_size=3) if field.is_repeated else one


def _one(field: FieldDescriptor, known: Mapping[str, Sequence[str]], depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return _messages(field.message_type, known, max(0, depth - 1))
    if field.enum_type is not None:
        return st.one_of(st.sampled_from([each.number for each in field.enum_type.values]), _INTEGERS)
    if field.name in known:
        exists = st.sampled_from(known[field.name])
        return st.one_of(exists, exists, exists, _SCALARS[field.type])
    return _SCALARS[field.type]


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry
