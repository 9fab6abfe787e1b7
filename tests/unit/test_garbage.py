"""The search for garbage rests meanwhile, and goes on as before."""

import gc

import pytest

from flowq.core import garbage


@pytest.fixture(autouse=True)
def as_before():
    was_on = gc.isenabled()
    yield
    (gc.enable if was_on else gc.disable)()


@pytest.mark.parametrize("was_on", [True, False])
def test_it_rests_and_is_as_before_then(was_on):
    (gc.enable if was_on else gc.disable)()
    with garbage.left_alone(), garbage.left_alone():
        assert not gc.isenabled()
    assert gc.isenabled() is was_on


def test_it_goes_on_after_an_error():
    gc.enable()
    with pytest.raises(ValueError, match="bad"), garbage.left_alone():
        raise ValueError("bad")
    assert gc.isenabled()
