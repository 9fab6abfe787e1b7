"""What becomes of a value in every store: small ones stay as they are, large ones go by reference, and come back."""

import json
import os

import pytest

from flowq import CorruptValueError, ResultsManager, Settings, ValueTooLargeError
from flowq.results.codec import COMPRESSED, REFERENCE, decode, encode

SETTINGS = Settings(inline_bytes=200, compress_bytes=100, max_value_bytes=100_000)


@pytest.fixture
def manager(store) -> ResultsManager:
    return ResultsManager(store, SETTINGS)


def noise(size: int) -> bytes:
    """Give bytes that do not get smaller."""
    return encode(os.urandom(size))


def test_a_small_value_travels_as_it_is(manager):
    packed = manager.pack("run1", encode([1, 2]))
    assert packed == b"j[1,2]"
    assert manager.unpack("run1", packed) == packed


def test_a_middling_value_is_compressed_and_stays_in_the_run(manager, store):
    value = encode("x" * 5000)
    packed = manager.pack("run1", value)
    assert packed[:1] == COMPRESSED
    assert len(packed) < 200
    assert manager.unpack("run1", packed) == value


def test_a_large_value_goes_by_reference(manager, store):
    value = noise(1000)
    packed = manager.pack("run1", value)
    assert packed[:1] == REFERENCE
    reference = json.loads(packed[1:])
    assert reference == {"digest": reference["digest"], "size": len(value)}
    assert store.get("run1", reference["digest"]) == value
    assert manager.unpack("run1", packed) == value


def test_equal_values_are_kept_once(manager):
    value = noise(1000)
    assert manager.pack("run1", value) == manager.pack("run1", value)


def test_a_value_that_is_kept_apart_is_taken_back_alone(manager, store):
    value = noise(1000)
    shared, one, other = manager.pack("run1", value), *(manager.pack("run1", value, apart=True) for _ in range(2))
    assert len({shared, one, other}) == 3
    assert {manager.unpack("run1", packed) for packed in (shared, one, other)} == {value}
    manager.remove("run1", one)
    with pytest.raises(CorruptValueError, match="not in the results store"):
        manager.unpack("run1", one)
    assert manager.unpack("run1", shared) == manager.unpack("run1", other) == value


def test_a_small_value_is_none_to_be_taken_back(manager):
    packed = manager.pack("run1", encode([1, 2]), apart=True)
    assert packed == b"j[1,2]"
    manager.remove("run1", packed)


def test_a_value_that_is_gone(manager, store):
    packed = manager.pack("run1", noise(1000))
    store.delete("run1")
    with pytest.raises(CorruptValueError, match="not in the results store"):
        manager.unpack("run1", packed)


def test_a_value_that_was_changed(manager, store):
    packed = manager.pack("run1", noise(1000))
    digest = json.loads(packed[1:])["digest"]
    store.delete("run1")
    store.put("run1", digest, noise(1000))
    with pytest.raises(CorruptValueError, match="was changed"):
        manager.unpack("run1", packed)


def test_a_value_over_the_limit_is_refused_before_it_is_stored(manager, store, monkeypatch):
    puts: list[object] = []
    monkeypatch.setattr(store, "put", lambda *args: puts.append(args))
    with pytest.raises(ValueTooLargeError, match="over the limit of 100000"):
        manager.pack("run1", noise(100_001))
    assert puts == []


def test_what_unpacks_to_more_than_the_limit_is_refused(manager, store):
    other = ResultsManager(store, Settings(inline_bytes=200, compress_bytes=100, max_value_bytes=10_000_000))
    bomb = other.pack("run1", encode("x" * 1_000_000))  # a kilobyte
    with pytest.raises(ValueTooLargeError, match="over the limit of 100000"):
        manager.unpack("run1", bomb)


def test_bytes_come_back_as_bytes(manager):
    data = os.urandom(5000)
    assert decode(manager.unpack("run1", manager.pack("run1", encode(data)))) == data
