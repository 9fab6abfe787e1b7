"""A test that cannot fail is a defect: bugs are planted one at a time, and the property tests must find each."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from flowq.client import retrying
from flowq.core.types import FlowStatus
from flowq.runtime import machine, reopening
from tests.property.calls import Calls, load
from tests.property.choices import seeded
from tests.property.control import ControlTwin, random_control
from tests.property.drive import Drive
from tests.property.graphs import random_plan
from tests.property.moments import check_fences, check_silence
from tests.property.planted import (
    CONTROL,
    HINTS,
    MACHINE,
    MOMENTS,
    REOPENING,
    RETRYING,
    SCRIPTS,
    Bug,
    first_failure,
    planted,
)
from tests.property.twin import random_twin

CUTS = (None, FlowStatus.CANCELLED, FlowStatus.FAILED)


@pytest.mark.parametrize("name", SCRIPTS)
def test_in_a_script(client: Any, name: str) -> None:
    bug = SCRIPTS[name]
    changes = {bug.script: [(bug.right, bug.wrong)]}
    load(client, changes)  # the piece is there
    seed = first_failure(lambda seed: random_twin(client, seed, changes).run(), HINTS.get(name, 0))
    random_twin(client, seed).run()  # it is the bug's doing


@pytest.mark.parametrize("name", CONTROL)
def test_in_a_script_that_controls(client: Any, name: str) -> None:
    bug = CONTROL[name]
    changes = {bug.script: [(bug.right, bug.wrong)]}
    load(client, changes)
    seed = first_failure(lambda seed: random_control(client, seed, changes).run(), HINTS.get(name, 0))
    random_control(client, seed).run()


@pytest.mark.parametrize("name", RETRYING)
def test_in_what_a_retry_stages(client: Any, name: str) -> None:
    def drive(seed: int, module: ModuleType) -> None:
        twin: ControlTwin = random_control(client, seed)
        twin.retrying = module
        twin.run()

    broken = planted(retrying, *RETRYING[name])
    seed = first_failure(lambda seed: drive(seed, broken), HINTS.get(name, 0))
    drive(seed, retrying)


@pytest.mark.parametrize(("right", "wrong"), MACHINE.values(), ids=MACHINE)
def test_in_the_machine(right: str, wrong: str) -> None:
    def drive(seed: int, module: ModuleType) -> None:
        choose = seeded(seed)
        Drive(random_plan(choose), choose, cut=CUTS[seed % 3], machine=module).run()

    broken = planted(machine, right, wrong)
    seed = first_failure(lambda seed: drive(seed, broken))
    drive(seed, machine)


@pytest.mark.parametrize(("right", "wrong"), REOPENING.values(), ids=REOPENING)
def test_in_reopening(right: str, wrong: str) -> None:
    def drive(seed: int, module: ModuleType) -> None:
        choose = seeded(seed)
        Drive(random_plan(choose), choose, cut=CUTS[seed % 3], lives=3, reopening=module).run()

    broken = planted(reopening, right, wrong)
    seed = first_failure(lambda seed: drive(seed, broken))
    drive(seed, reopening)


@pytest.mark.parametrize("bug", MOMENTS.values(), ids=MOMENTS)
def test_at_a_moment(client: Any, bug: Bug) -> None:
    changes = {bug.script: [(bug.right, bug.wrong)]}
    check = check_fences if bug.script == "lib" else check_silence
    with pytest.raises(AssertionError):
        check(Calls(client, changes))
    check(Calls(client))
