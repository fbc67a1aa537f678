"""Boxes open where they were made and nowhere else."""

import hashlib
import hmac

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from primum.trail.vault.sealing import derived, keyed_digest, new_key, padded, seal, unpadded, unseal

PLACES = st.lists(st.text(max_size=8) | st.integers(0, 2**40), max_size=4)
KEYS = st.binary(min_size=32, max_size=32)


@settings(max_examples=60, deadline=None)
@given(KEYS, st.binary(max_size=200), PLACES)
def test_what_is_sealed_opens_and_never_looks_the_same(
    key: bytes, content: bytes, place: list[str | int]
) -> None:
    one, two = seal(key, content, *place), seal(key, content, *place)
    assert unseal(key, one, *place) == unseal(key, two, *place) == content
    assert one[:12] != two[:12]
    assert len(one) == len(content) + 28


@settings(max_examples=150, deadline=None)
@given(KEYS, st.binary(max_size=60), PLACES, st.data())
def test_any_flipped_bit_is_refused(
    key: bytes, content: bytes, place: list[str | int], data: st.DataObject
) -> None:
    box = bytearray(seal(key, content, *place))
    bit = data.draw(st.integers(0, 8 * len(box) - 1))
    box[bit // 8] ^= 1 << bit % 8
    with pytest.raises(InvalidTag):
        unseal(key, bytes(box), *place)
    other = bytearray(key)
    other[bit % 32] ^= 1 << bit % 8
    box[bit // 8] ^= 1 << bit % 8
    with pytest.raises(InvalidTag):
        unseal(bytes(other), bytes(box), *place)
    cut = data.draw(st.integers(0, len(box) - 1))
    with pytest.raises(InvalidTag):
        unseal(key, bytes(box[:cut]), *place)


@settings(max_examples=100, deadline=None)
@given(KEYS, PLACES, PLACES)
def test_another_place_is_refused(key: bytes, place: list[str | int], other: list[str | int]) -> None:
    box = seal(key, b"x", *place)
    if place == other:
        assert unseal(key, box, *other) == b"x"
        return
    with pytest.raises(InvalidTag):
        unseal(key, box, *other)


def test_places_that_look_alike_are_not_the_same() -> None:
    key = new_key()
    for place, other in ((("ab", "c"), ("a", "bc")), (("1",), (1,)), ((), ("",)), (('a","b',), ("a", "b"))):
        with pytest.raises(InvalidTag):
            unseal(key, seal(key, b"x", *place), *other)


@given(st.text(max_size=256))
def test_padding_hides_the_length_and_comes_off(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert len(padded(text)) % 64 == 0
    assert unpadded(padded(text)) == text


def test_digests_and_boxes_are_the_published_ones() -> None:
    # RFC 4231, test case 2, and a box opened by the library itself.
    digest = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert keyed_digest(b"Jefe", b"what do ya want for nothing?") == digest
    key, box = bytes(range(32)), seal(bytes(range(32)), b"content", "payload", 3)
    assert AESGCM(key).decrypt(box[:12], box[12:], b'["payload",3]') == b"content"
    # RFC 5869: extract with a salt of zeros, then one round of expansion.
    extracted = hmac.new(bytes(32), key, hashlib.sha256).digest()
    expanded = hmac.new(extracted, b"primum vault 1 payload\x01", hashlib.sha256).digest()
    assert derived(key, "payload") == expanded
