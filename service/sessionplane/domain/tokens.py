"""Opaque texts that callers keep for us: resume tokens and page tokens.

A resume token says "everything after this": which database, which session, which sequence, and eight bytes of
the chain hash there, so that a log which lost or changed its past is noticed. It carries no authority.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass
from struct import Struct
from zlib import crc32

from sessionplane.domain.errors import PageTokenInvalid, TokenCompacted, TokenInvalid
from sessionplane.domain.events import Place

SESSION_PREFIX = "ses_"
TOKEN_VERSION = 1
HASH_BYTES = 8

_LAYOUT = Struct(f">B16s16sQ{HASH_BYTES}s")
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
        self._session = bytes.fromhex(session_id.removeprefix(SESSION_PREFIX))

    def at(self, sequence: int, chain: bytes) -> str:
        """Return the token of the place behind `sequence`, where the chain hash begins with `chain`."""
        return _sealed(_LAYOUT.pack(TOKEN_VERSION, self._store, self._session, sequence, stamp(chain)))


def parse_resume_token(text: str) -> ResumeToken:
    """Read a resume token.

    Raises TokenInvalid for anything that this server never wrote.
    """
    raw = _decode(text)
    if raw is None or len(raw) != _LAYOUT.size + _CHECK.size:
        raise TokenInvalid(problem="it is not a resume token")
    packed, check = raw[: _LAYOUT.size], raw[_LAYOUT.size :]
    if _CHECK.unpack(check)[0] != crc32(packed):
        raise TokenInvalid(problem="it was cut or changed on its way")
    version, store, session, sequence, chain = _LAYOUT.unpack(packed)
    if version != TOKEN_VERSION:
        raise TokenInvalid(problem="it is of a version that this server does not know")
    return ResumeToken(
        store_id=store.hex(), session_id=SESSION_PREFIX + session.hex(), sequence=sequence, chain=chain
    )


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
