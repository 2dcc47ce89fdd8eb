"""Opaque texts that callers keep for us: resume tokens of logs and of watches, and page tokens.

A log's resume token says "everything after this": which database, which session, which sequence, and eight bytes of
the chain hash there, so that a log which lost or changed its past is noticed. A watch's says which database, which
namespace and which change number. Neither is ever taken for the other, and neither carries authority.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from typing import Any
from zlib import crc32

from sessionplane.domain.errors import Damaged, PageTokenInvalid, TokenCompacted, TokenInvalid
from sessionplane.domain.events import Place

SESSION_PREFIX = "ses_"
TOKEN_VERSION = 1
HASH_BYTES = 8

WATCH_VERSION = 0x81
"""The first byte of a watch's token. High, so that versions of the two kinds never meet."""

_LAYOUT = Struct(f">B16s16sQ{HASH_BYTES}s")
_WATCH_LAYOUT = Struct(">B16s8sQ")
_PAGE_LAYOUT = Struct(">8sq")
_CHECK = Struct(">I")
_TEXT_MAX = 256


def stamp(chain: bytes) -> bytes:
    """Return the part of a chain hash that tokens carry; zeros before the first event."""
    return chain[:HASH_BYTES].ljust(HASH_BYTES, b"\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeToken:
    """A place in a session's log: everything up to `sequence` was accounted for."""

    store_id: str
    session_id: str
    sequence: int
    chain: bytes

    def encode(self) -> str:
        """Return the text that callers get."""
        return TokenWriter(store_id=self.store_id, session_id=self.session_id).at(self.sequence, self.chain)


def compacted(store_id: str, session_id: str, floor: Place) -> TokenCompacted:
    """Return the refusal of a place below a log's floor, with the token of the floor itself."""
    token = TokenWriter(store_id=store_id, session_id=session_id).at(*floor)
    return TokenCompacted(floor_token=token)


class TokenWriter:
    """Writes the tokens of one session; made once for a stream, asked for every frame."""

    __slots__ = ("_session", "_store")

    def __init__(self, *, store_id: str, session_id: str) -> None:
        self._store = bytes.fromhex(store_id)
        try:
            self._session = bytes.fromhex(session_id.removeprefix(SESSION_PREFIX))
        except ValueError as error:
            raise Damaged(what="session", name=session_id) from error

    def at(self, sequence: int, chain: bytes) -> str:
        """Return the token of the place behind `sequence`, where the chain hash begins with `chain`."""
        return _sealed(_LAYOUT.pack(TOKEN_VERSION, self._store, self._session, sequence, stamp(chain)))


def parse_resume_token(text: str) -> ResumeToken:
    """Read a resume token.

    Raises TokenInvalid for anything that this server never wrote.
    """
    _, store, session, sequence, chain = _unsealed(text, _LAYOUT, TOKEN_VERSION, "a session's log")
    return ResumeToken(
        store_id=store.hex(), session_id=SESSION_PREFIX + session.hex(), sequence=sequence, chain=chain
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchToken:
    """How much of a namespace was told: every session up to this change number."""

    store_id: str
    number: int


class WatchTokenWriter:
    """Writes the tokens of one namespace; made once for a watch, asked for every frame."""

    __slots__ = ("_namespace", "_store")

    def __init__(self, *, store_id: str, namespace: str) -> None:
        self._store = bytes.fromhex(store_id)
        self._namespace = _namespace_mark(namespace)

    def at(self, number: int) -> str:
        """Return the token that says: everything above this change number."""
        return _sealed(_WATCH_LAYOUT.pack(WATCH_VERSION, self._store, self._namespace, number))


def parse_watch_token(text: str, *, namespace: str) -> WatchToken:
    """Read the token of a watch of this namespace.

    Raises TokenInvalid for anything that this server never wrote, and for a token of another namespace or of a log.
    """
    _, store, mark, number = _unsealed(text, _WATCH_LAYOUT, WATCH_VERSION, "watching sessions")
    if mark != _namespace_mark(namespace):
        raise TokenInvalid(problem="it is of another namespace")
    return WatchToken(store_id=store.hex(), number=number)


def _namespace_mark(namespace: str) -> bytes:
    return blake2b(namespace.encode(), digest_size=8).digest()


def _unsealed(text: str, layout: Struct, version: int, what: str) -> tuple[Any, ...]:
    """Take a resume token apart. Raises TokenInvalid."""
    raw = _decode(text)
    if raw is None or len(raw) != layout.size + _CHECK.size:
        raise TokenInvalid(problem=f"it is not a token of {what}")
    packed, check = raw[: layout.size], raw[layout.size :]
    if _CHECK.unpack(check)[0] != crc32(packed):
        raise TokenInvalid(problem="it was cut or changed on its way")
    values = layout.unpack(packed)
    if values[0] != version:
        raise TokenInvalid(problem="it is of a version that this server does not know")
    return values


@dataclass(frozen=True, slots=True, kw_only=True)
class PageToken:
    """Where a list goes on: behind the row with this number and id, under arguments with this fingerprint."""

    arguments: bytes
    number: int
    row_id: str

    def encode(self) -> str:
        """Return the text that callers get."""
        return _sealed(_PAGE_LAYOUT.pack(self.arguments[:8], self.number) + self.row_id.encode())


def parse_page_token(text: str, *, arguments: bytes) -> PageToken:
    """Read a page token that belongs to these arguments.

    Raises PageTokenInvalid for garbage and for a token of other arguments.
    """
    raw = _decode(text)
    head = _PAGE_LAYOUT.size
    if raw is None or len(raw) < head + _CHECK.size:
        raise PageTokenInvalid
    packed, check = raw[: -_CHECK.size], raw[-_CHECK.size :]
    if _CHECK.unpack(check)[0] != crc32(packed):
        raise PageTokenInvalid
    belongs, number = _PAGE_LAYOUT.unpack(packed[:head])
    row_id = packed[head:]
    # The check is no secret, so whoever makes a token may put anything there.
    if belongs != arguments[:8] or number < 0 or not row_id.isascii():
        raise PageTokenInvalid
    return PageToken(arguments=belongs, number=number, row_id=row_id.decode())


def _sealed(packed: bytes) -> str:
    return _encode(packed + _CHECK.pack(crc32(packed)))


def _encode(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes | None:
    """Undo base64; None if it is none, or not written as we write it: the library skips what it does not know.

    The bound keeps garbage from costing anything.
    """
    if not text or len(text) > _TEXT_MAX or not text.isascii():
        return None
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except Base64Error:
        return None
    return raw if _encode(raw) == text else None
