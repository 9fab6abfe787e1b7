"""What a process knows, and what it does not do because a plan says so."""

import sys

import pytest
from pydantic import BaseModel

from flowq import DefinitionError, Flow, FlowConfig, UnknownProcessorError, flow, task
from flowq.core.processor import describe
from flowq.core.registry import REGISTRY, Registry


class Scale(BaseModel):
    factor: int = 1

    def process(self, input_data):
        return self.factor


@task
def double(x: int) -> int:
    return 2 * x


def plain(x: int) -> int:
    return x


class NoProcessor:
    pass


@pytest.fixture
def registry() -> Registry:
    return Registry()


def test_what_was_defined_is_known():
    assert REGISTRY.resolve(double.describe().key, "") is double.describe()


def test_a_worker_resolves_what_it_includes(registry):
    registry.include([__name__])
    assert registry.resolve(f"{__name__}:double", "").call is double.function
    assert registry.resolve(f"{__name__}:Scale", '{"factor":5}').call({}) == 5
    assert registry.resolve(f"{__name__}:Scale", '{"factor":6}').call({}) == 6


@pytest.mark.parametrize("name", ["plain", "NoProcessor", "missing", "pytest", "Scale.nothing", "sys.modules"])
def test_what_is_no_processor_cannot_be_named(registry, name):
    registry.include([__name__])
    with pytest.raises(UnknownProcessorError):
        registry.resolve(f"{__name__}:{name}", "")


@pytest.mark.parametrize("key", ["os:system", "subprocess:Popen", "builtins:eval", "json:JSONDecoder", "", ":", "a:b"])
def test_modules_that_are_not_included_are_out_of_reach(registry, key):
    registry.include([__name__])
    with pytest.raises(UnknownProcessorError, match=f"add its module to FLOWQ_INCLUDE.*included: {__name__}"):
        registry.resolve(key, "")


def test_nothing_is_imported_because_a_plan_says_so(registry):
    name = "antigravity"
    assert name not in sys.modules
    with pytest.raises(UnknownProcessorError):
        registry.resolve(f"{name}:fly", "")
    assert name not in sys.modules


def test_a_bad_configuration_is_refused(registry):
    registry.include([__name__])
    with pytest.raises(ValueError, match="factor"):
        registry.resolve(f"{__name__}:Scale", '{"factor":"many"}')


def test_a_module_that_cannot_be_imported(registry):
    with pytest.raises(DefinitionError, match=r"FLOWQ_INCLUDE names the module 'no_such_module'.*PYTHONPATH"):
        registry.include(["no_such_module"])


def test_the_generation_grows_with_what_is_new(registry):
    before = registry.generation
    processor = describe(Scale(factor=1))
    registry.add(processor)
    assert registry.generation == before + 1
    registry.add(processor)
    assert registry.generation == before + 1
    registry.add(describe(Scale(factor=2)))
    assert registry.generation == before + 2


def test_warming_up_forgives_what_no_graph_can_use(registry):
    class Opaque:
        pass

    @task
    def odd(x: Opaque) -> Opaque:
        return x

    registry.add(odd.describe())
    registry.add(double.describe())
    registry.warm_up()


def test_flows_are_known_by_name():
    made = Flow(Scale(), FlowConfig(name="registry-test"))

    @flow(name="registry-test-function")
    def written(x: int) -> int:
        return double(x)

    assert REGISTRY.flow("registry-test") is made
    assert REGISTRY.flow("registry-test-function") is written
    assert REGISTRY.flow("registry-test-none") is None


def test_modules_names_what_others_can_import(registry):
    registry.add(describe(Scale()))
    registry.add(double.describe())

    class Local(BaseModel):
        def process(self, input_data):
            return 1

    registry.add(describe(Local()))
    assert registry.modules() == [__name__]
