"""The search for garbage rests meanwhile, and goes on as before."""

import gc
import os

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


def test_whoever_leaves_last_turns_it_on_again():
    gc.enable()
    first, second = garbage.left_alone(), garbage.left_alone()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not gc.isenabled()
    second.__exit__(None, None, None)
    assert gc.isenabled()


def test_a_child_that_is_forked_meanwhile_has_it_on():
    gc.enable()
    with garbage.left_alone():
        pid = os.fork()
        if not pid:
            os._exit(0 if gc.isenabled() else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert not gc.isenabled()
    assert gc.isenabled()
