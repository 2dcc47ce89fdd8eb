"""Tokens come back as they went out, or not at all."""

from __future__ import annotations

import base64
import string
import struct
from zlib import crc32

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sessionplane.domain.errors import PageTokenInvalid, TokenInvalid
from sessionplane.domain.tokens import (
    PageToken,
    ResumeToken,
    TokenWriter,
    WatchToken,
    WatchTokenWriter,
    parse_page_token,
    parse_resume_token,
    parse_watch_token,
    stamp,
)

HEX_32 = st.binary(min_size=16, max_size=16).map(bytes.hex)
TOKENS = st.builds(
    ResumeToken,
    store_id=HEX_32,
    session_id=HEX_32.map("ses_{}".format),
    sequence=st.integers(0, 2**63 - 1),
    chain=st.binary(min_size=8, max_size=8),
)
PAGES = st.builds(
    PageToken,
    arguments=st.binary(min_size=8, max_size=8),
    number=st.integers(0, 2**63 - 1),
    row_id=st.text(string.ascii_lowercase + string.digits + "_", max_size=64),
)
TOKEN = ResumeToken(store_id="ab" * 16, session_id="ses_" + "01" * 16, sequence=7, chain=b"12345678")
PAGE = PageToken(arguments=b"arguments"[:8], number=5, row_id="ses_1")


def sealed(packed: bytes) -> str:
    """What somebody could write who knows how tokens are made."""
    return base64.urlsafe_b64encode(packed + struct.pack(">I", crc32(packed))).rstrip(b"=").decode()


@given(TOKENS)
def test_a_resume_token_comes_back_as_it_went_out(token: ResumeToken) -> None:
    """Reading what was written gives the same place in the same log of the same database."""
    assert parse_resume_token(token.encode()) == token


@given(TOKENS)
def test_a_resume_token_is_plain_text(token: ResumeToken) -> None:
    """A token can stand in a URL, a header or a shell line as it is."""
    assert set(token.encode()) <= set(string.ascii_letters + string.digits + "-_")


@given(TOKENS, st.data())
@example(TOKEN, None)
def test_a_changed_character_is_noticed(token: ResumeToken, data: st.DataObject | None) -> None:
    """A resume token with any one character changed is refused, even where base64 would not look."""
    text = token.encode()
    places = [len(text) - 1] if data is None else [data.draw(st.integers(0, len(text) - 1))]
    alphabet = string.ascii_letters + string.digits + "-_+/=!\n é"
    others = alphabet if data is None else data.draw(st.sampled_from(alphabet))
    for place in places:
        for other in set(others) - {text[place]}:
            with pytest.raises(TokenInvalid):
                parse_resume_token(text[:place] + other + text[place + 1 :])


@given(TOKENS, st.data())
def test_a_cut_is_noticed(token: ResumeToken, data: st.DataObject) -> None:
    """A resume token without a piece of it, wherever it was, is refused."""
    text = token.encode()
    begin = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(begin + 1, len(text)))
    with pytest.raises(TokenInvalid):
        parse_resume_token(text[:begin] + text[end:])


@given(TOKENS, st.integers(0, 71), st.text("!\n= .~", min_size=1, max_size=8))
@example(TOKEN, 3, "!!!!")
def test_an_addition_is_noticed(token: ResumeToken, place: int, added: str) -> None:
    """A resume token with characters put in, even ones that base64 skips, is refused."""
    text = token.encode()
    with pytest.raises(TokenInvalid):
        parse_resume_token(text[:place] + added + text[place:])


@given(st.text(max_size=300))
@example("")
@example("A" * 10_000)
def test_garbage_is_refused(text: str) -> None:
    """Text that no server wrote is refused by the same error, whatever it is."""
    with pytest.raises(TokenInvalid):
        parse_resume_token(text)
    with pytest.raises(PageTokenInvalid):
        parse_page_token(text, arguments=b"arguments")


def test_an_unknown_version_is_refused() -> None:
    """A token of a later version of the format is not read as one of this version."""
    packed = struct.pack(">B16s16sQ8s", 2, b"s" * 16, b"t" * 16, 1, b"chain678")
    with pytest.raises(TokenInvalid, match="version"):
        parse_resume_token(sealed(packed))


def test_a_token_carries_eight_bytes_of_the_chain() -> None:
    """What is compared with the log is a prefix of its hash, and zeros before the first event."""
    assert stamp(b"0123456789abcdef") == b"01234567"
    assert stamp(b"") == bytes(8)
    writer = TokenWriter(store_id=TOKEN.store_id, session_id=TOKEN.session_id)
    assert parse_resume_token(writer.at(7, b"12345678 and more")) == TOKEN


def watch_token(number: int = 7, *, store_id: str = TOKEN.store_id, namespace: str = "default") -> str:
    return WatchTokenWriter(store_id=store_id, namespace=namespace).at(number)


@given(HEX_32, st.text(min_size=1), st.integers(0, 2**63 - 1))
def test_a_watch_token_comes_back_as_it_went_out(store_id: str, namespace: str, number: int) -> None:
    """Reading what was written gives the same number of the same namespace in the same database."""
    text = watch_token(number, store_id=store_id, namespace=namespace)
    assert set(text) <= set(string.ascii_letters + string.digits + "-_")
    assert parse_watch_token(text, namespace=namespace) == WatchToken(store_id=store_id, number=number)


@given(st.data())
def test_a_changed_watch_token_is_refused(data: st.DataObject) -> None:
    """A watch's token with any one character changed is refused."""
    text = watch_token()
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from(sorted(set(string.ascii_letters + "-_!=") - {text[place]})))
    with pytest.raises(TokenInvalid):
        parse_watch_token(text[:place] + other + text[place + 1 :], namespace="default")


def test_a_watch_token_belongs_to_its_namespace() -> None:
    """Another namespace's numbers mean something else."""
    with pytest.raises(TokenInvalid, match="another namespace"):
        parse_watch_token(watch_token(namespace="other"), namespace="default")


def test_logs_and_watches_have_tokens_of_their_own() -> None:
    """Neither kind is taken for the other, nor is a later version, however somebody makes them."""
    with pytest.raises(TokenInvalid, match="watching"):
        parse_watch_token(TOKEN.encode(), namespace="default")
    with pytest.raises(TokenInvalid, match="log"):
        parse_resume_token(watch_token())
    for version in (1, 0x80, 0x82):
        forged = sealed(struct.pack(">B16s8sQ", version, b"s" * 16, b"n" * 8, 1))
        with pytest.raises(TokenInvalid, match="version"):
            parse_watch_token(forged, namespace="default")
    with pytest.raises(TokenInvalid, match="version"):
        parse_resume_token(sealed(struct.pack(">B16s16sQ8s", 0x81, b"s" * 16, b"t" * 16, 1, b"chain678")))


@given(PAGES)
def test_a_page_token_comes_back_as_it_went_out(page: PageToken) -> None:
    """Reading a page token under the arguments that it was made for gives the same place in the list."""
    assert parse_page_token(page.encode(), arguments=page.arguments) == page


@given(PAGES, st.binary(min_size=8, max_size=16))
def test_a_page_token_is_bound_to_its_arguments(page: PageToken, arguments: bytes) -> None:
    """A page token under other arguments is refused."""
    if arguments[:8] == page.arguments:
        return
    with pytest.raises(PageTokenInvalid):
        parse_page_token(page.encode(), arguments=arguments)


@given(PAGES, st.data())
def test_a_changed_page_token_is_refused(page: PageToken, data: st.DataObject) -> None:
    """A page token with any one character changed is refused."""
    text = page.encode()
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(
        st.sampled_from(sorted(set(string.ascii_letters + string.digits + "-_!=") - {text[place]}))
    )
    with pytest.raises(PageTokenInvalid):
        parse_page_token(text[:place] + other + text[place + 1 :], arguments=page.arguments)


@pytest.mark.parametrize(
    "packed",
    [
        struct.pack(">8sQ", PAGE.arguments, 5) + b"\xff\xfe",
        struct.pack(">8sQ", PAGE.arguments, 2**63),
        struct.pack(">8sQ", PAGE.arguments, 2**64 - 1) + b"ses_1",
        PAGE.arguments,
    ],
    ids=["bad UTF-8", "above SQLite's integers", "far above them", "too short"],
)
def test_a_forged_page_token_is_refused(packed: bytes) -> None:
    """A page token whose check fits but whose content no server writes is refused like any other garbage."""
    with pytest.raises(PageTokenInvalid):
        parse_page_token(sealed(packed), arguments=PAGE.arguments)


def test_a_resume_token_is_no_page_token() -> None:
    """The two kinds of tokens cannot stand in for each other."""
    with pytest.raises(PageTokenInvalid):
        parse_page_token(TOKEN.encode(), arguments=b"arguments")
    with pytest.raises(TokenInvalid):
        parse_resume_token(PAGE.encode())
