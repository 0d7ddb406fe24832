"""The token: what is encoded comes back, and a typing error is told."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hacore.control.pairing_token import BadToken, Token, decode, encode

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
TOKENS = st.builds(
    Token, st.binary(min_size=6, max_size=6), st.binary(min_size=16, max_size=16), st.integers(0, 2**32 - 1),
    st.binary(min_size=32, max_size=32).map(bytes.hex), NAMES,
)  # fmt: skip
ONE = Token(bytes(range(6)), bytes(range(16)), 1_800_000_000, "ab" * 32, "fw1")


@given(TOKENS)
def test_what_is_encoded_comes_back(token: Token) -> None:
    text = encode(token)
    assert set(text) <= set(string.ascii_letters + string.digits + "-")
    assert decode(text) == token
    assert decode(f" {text.lower()}\n") == token
    assert decode(text.replace("-", " ")) == token
    assert decode(text.replace("0", "O").replace("1", "l")) == token


@given(TOKENS, st.data())
def test_every_mistyped_letter_is_told(token: Token, data: st.DataObject) -> None:
    text = encode(token)
    at = data.draw(st.integers(len("hacore-"), len(text) - 1).filter(lambda at: text[at] != "-"))
    letter = data.draw(st.sampled_from("0123456789ABCDEFGHJKMNPQRSTVWXYZU").filter(lambda one: one != text[at]))
    with pytest.raises(BadToken):
        decode(text[:at] + letter + text[at + 1 :])


@given(st.text() | st.text().map("hacore-".__add__) | st.text("0123456789ABCDEF").map("hacore-04".__add__))
def test_any_text_is_a_token_or_a_bad_one(text: str) -> None:
    with pytest.raises(BadToken):
        decode(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no token of hacore"),
        ("ssh-ed25519 AAAA", "no token of hacore"),
        ("hacore-", "cut off"),
        (encode(ONE)[:60], r"cut off: 46 of 108 letters"),
        (encode(ONE)[:40] + "U" + encode(ONE)[41:], 'group 5 holds "U"'),
        (encode(ONE)[:-1] + "0Z", "checksum"),
        ("hacore-080000", "version 2"),
    ],
)
def test_the_reason_is_told(text: str, why: str) -> None:
    with pytest.raises(BadToken, match=why):
        decode(text)


def test_the_secret_stays_out_of_a_trace() -> None:
    assert ONE.secret.hex() not in repr(ONE)
    assert str(ONE.secret) not in repr(ONE)
