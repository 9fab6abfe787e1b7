"""How a processor is read: its identity, its configuration, its parameters and types."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, Field

from flowq import DefinitionError, DependencyData, DependencyType, Flow, FlowConfig, task
from flowq.core.processor import EMPTY, describe, function_signature, key_of, rebuild

if TYPE_CHECKING:
    from decimal import Decimal


class Model(BaseModel):
    """With nested models, and annotations that are strings."""

    path: str = "a"
    sizes: list[int] = Field(default_factory=list)

    class Input(BaseModel):
        rows: list[float]

    class Output(BaseModel):
        total: float

    def process(self, input_data: Input, dependencies: DependencyData) -> Output:
        return self.Output(total=sum(input_data.rows))


class OwnNames(BaseModel):
    class Given(BaseModel):
        x: int

    def process(self, input_data: Given) -> dict[str, int]:
        return {"x": input_data.x}


class Async(BaseModel):
    async def process(self, input_data: dict[str, Any]) -> int:
        return 1


class Static:
    @staticmethod
    def process(input_data, dependencies):
        return 1


class OfTheClass:
    @classmethod
    def process(cls, input_data):
        return cls.__name__


@dataclass
class Data:
    factor: int
    names: list[str]

    def process(self, input_data: dict[str, Any]) -> int:
        return self.factor


class Plain:
    def __init__(self, factor: int) -> None:
        self.factor = factor
        self.calls: list[int] = []

    def process(self, input_data):
        return self.factor


class Slotted:
    __slots__ = ("factor",)

    def process(self, input_data):
        return 1


class Inherits(Plain):
    pass


class UsesWhatIsOnlyThereForTypeCheckers(BaseModel):
    def process(self, input_data: dict[str, Any]) -> Decimal: ...  # type: ignore[empty-body]


class Aliased(BaseModel):
    size: int = Field(alias="Size")

    def process(self, input_data):
        return self.size


# ── classes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_model_with_nested_input_and_output():
    found = describe(Model(path="b", sizes=[1]))
    assert found.key == f"{__name__}:Model"
    assert found.config == '{"path":"b","sizes":[1]}'
    assert found.is_portable
    signature = found.signature
    assert (signature.takes_input, signature.is_async) == (True, False)
    assert [(parameter.name, parameter.annotation) for parameter in signature.parameters] == [
        ("input_data", Model.Input)
    ]
    assert signature.dependencies == "dependencies"
    assert (signature.input_model, signature.returns) == (Model.Input, Model.Output)


def test_the_input_model_may_have_any_name():
    signature = describe(OwnNames()).signature
    assert signature.input_model is OwnNames.Given
    assert signature.returns == dict[str, int]
    assert signature.dependencies is None


def test_an_async_one():
    assert describe(Async()).signature.is_async


@pytest.mark.parametrize(("processor", "dependencies"), [(Static(), "dependencies"), (OfTheClass(), None)])
def test_static_and_class_methods(processor, dependencies):
    signature = describe(processor).signature
    assert [parameter.name for parameter in signature.parameters] == ["input_data"]
    assert signature.dependencies == dependencies
    assert signature.returns is EMPTY


@pytest.mark.parametrize(
    ("processor", "config"),
    [
        (Data(2, ["a"]), '{"factor":2,"names":["a"]}'),
        (Plain(3), '{"calls":[],"factor":3}'),
        (Inherits(3), '{"calls":[],"factor":3}'),
        (Static(), ""),
        (Aliased(Size=3), '{"size":3}'),
    ],
    ids=lambda given: type(given).__name__,
)
def test_the_state_is_the_configuration_and_comes_back(processor, config):
    found = describe(processor)
    assert found.is_portable
    assert found.config == config
    again = rebuild(type(processor), config)
    assert type(again) is type(processor)
    assert getattr(again, "__dict__", None) == getattr(processor, "__dict__", None)


def test_equal_processors_have_one_identity_and_others_another():
    assert describe(Plain(1)).config == describe(Plain(1)).config
    assert describe(Plain(1)).config != describe(Plain(2)).config
    assert describe(Plain(1)).key != describe(Inherits(1)).key


UNPORTABLE = {
    "no plain data": object(),
    "a tuple, which would come back as a list": (1, 2),
    "a number as a key, which would come back as a string": {1: "a"},
    "bytes": b"a",
}


@pytest.mark.parametrize("state", UNPORTABLE)
def test_state_that_would_not_come_back_as_it_is(state):
    plain = Plain(1)
    plain.calls = UNPORTABLE[state]  # type: ignore[assignment]
    found = describe(plain)
    assert not found.is_portable
    assert describe(plain).config == found.config
    assert describe(Plain(1)).config != found.config


def test_what_no_other_process_can_rebuild():
    class Local(BaseModel):
        def process(self, input_data):
            return 1

    assert not describe(Local()).is_portable
    assert not describe(Slotted()).is_portable


def test_local_classes_see_each_other():
    class Given(BaseModel):
        x: int

    class Local:
        def process(self, input_data: Given) -> Given:
            return input_data

    # The names of a function's body are out of reach here; what cannot be read is left open, and passes.
    assert describe(Local()).signature.parameters[0].annotation is EMPTY


def test_an_annotation_that_cannot_be_read_is_left_open():
    signature = describe(UsesWhatIsOnlyThereForTypeCheckers()).signature
    assert signature.returns is EMPTY
    assert signature.parameters[0].annotation == dict[str, Any]


class NoProcess:
    pass


class TooFew:
    def process(self):
        return 1


class TooMany:
    def process(self, input_data, dependencies, more):
        return 1


class ProcessIsNoMethod:
    process = 5


@pytest.mark.parametrize(
    ("processor", "message"),
    [
        (NoProcess(), "is no processor: pass an object with a process"),
        (ProcessIsNoMethod(), "is no processor"),
        (Model, "is no processor"),
        (TooFew(), "TooFew.process takes 0 parameters; write process"),
        (TooMany(), "TooMany.process takes 3 parameters"),
        (5, "is no processor"),
    ],
)
def test_what_is_no_processor(processor, message):
    with pytest.raises(DefinitionError, match=message):
        Flow(processor, FlowConfig(name="a"))


def test_a_process_of_the_object_alone_is_none_of_its_class():
    plain = NoProcess()
    plain.process = lambda input_data: 1  # type: ignore[attr-defined]
    with pytest.raises(DefinitionError, match="is no processor"):
        describe(plain)


# ── functions ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def required(a: int, b): ...
def with_default(a: int = 3, b: str = ""): ...
def optional_one(a: int | None = None): ...
def optional_two(a: typing.Optional[int] = None): ...  # noqa: UP045
def bare_none(a=None): ...
def none_without_the_type(a: int = None): ...  # type: ignore[assignment] # noqa: RUF013
def none_is_not_the_default(a: int | None = 5): ...
def keyword_only(*, a: int): ...


@pytest.mark.parametrize(
    ("function", "kinds"),
    [
        (required, [DependencyType.REQUIRED] * 2),
        (with_default, [DependencyType.REQUIRED] * 2),
        (optional_one, [DependencyType.OPTIONAL]),
        (optional_two, [DependencyType.OPTIONAL]),
        (bare_none, [DependencyType.OPTIONAL]),
        (none_without_the_type, [DependencyType.REQUIRED]),
        (none_is_not_the_default, [DependencyType.REQUIRED]),
        (keyword_only, [DependencyType.REQUIRED]),
    ],
)
def test_what_an_edge_into_a_parameter_demands(function, kinds):
    assert [parameter.dependency_type for parameter in function_signature(function).parameters] == kinds


def test_which_parameters_are_needed():
    signature = function_signature(required)
    assert [parameter.is_needed for parameter in signature.parameters] == [True, True]
    assert signature.parameters[1].annotation is EMPTY
    assert not any(parameter.is_needed for parameter in function_signature(with_default).parameters)
    assert signature.parameter("b") is signature.parameters[1]
    assert signature.parameter("c") is None


def test_a_function_may_take_its_dependencies():
    def collects(a: int, deps: DependencyData) -> list[int]: ...  # type: ignore[empty-body]

    signature = function_signature(collects)
    assert signature.dependencies == "deps"
    assert [parameter.name for parameter in signature.parameters] == ["a"]
    assert signature.returns == list[int]


def test_a_local_function_sees_the_names_around_it():
    class Given(BaseModel):
        x: int

    @task
    def local(given: Given) -> Given:
        return given

    signature = local.describe().signature
    assert signature.parameters[0].annotation is Given
    assert signature.returns is Given
    assert not local.describe().is_portable


def test_a_decorated_function_is_read_through():
    import functools

    def plain(a: int) -> str: ...  # type: ignore[empty-body]

    @functools.wraps(plain)
    def wrapper(*args, **kwargs): ...

    signature = function_signature(wrapper)
    assert [(parameter.name, parameter.annotation) for parameter in signature.parameters] == [("a", int)]


def star(*args): ...
def double_star(**kwargs): ...
def positional(a, /): ...
def takes_after(after): ...


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (star, r"task star: parameter 'args' cannot be bound by name; use ordinary"),
        (double_star, r"task double_star: parameter 'kwargs'"),
        (positional, r"task positional: parameter 'a'"),
        (takes_after, r"'after' names ordering edges; rename"),
    ],
)
def test_functions_that_cannot_be_bound(function, message):
    with pytest.raises(DefinitionError, match=message):
        task(function)


def test_keys_name_module_and_place():
    assert key_of(Model.Input) == f"{__name__}:Model.Input"
    assert key_of(required) == f"{__name__}:required"


@pytest.mark.parametrize("thing", [5, "text", None, object()])
def test_what_is_no_task(thing):
    if thing is None:
        assert callable(task(thing))  # @task() with options to come
        return
    with pytest.raises(DefinitionError, match="takes a function or an object with process"):
        task(thing)


def test_bad_options_name_the_task():
    with pytest.raises(DefinitionError, match=r"(?s)task 'required'.*retires"):
        task(required, retires=3)
    with pytest.raises(DefinitionError, match=r"(?s)task 'required'.*timeout"):
        task(timeout=-1)(required)


def test_tasks_stay_plain_callables():
    @task(retries=3)
    def double(x: int) -> int:
        """Give the double."""
        return 2 * x

    assert double(4) == 8
    assert double.map([1, 2]) == [2, 4]
    assert double.__name__ == "double"  # type: ignore[attr-defined]
    assert double.__doc__ == "Give the double."
    assert repr(double) == "<task double>"


def test_a_task_is_no_method():
    class Holder:
        @task
        def method(self, x: int) -> int:
            return x

    with pytest.raises(DefinitionError, match="task 'method' is a method; tasks are functions of a module"):
        Holder().method(1)


def test_options_make_another_task_of_the_same_function():
    @task(retries=3, timeout=5)
    def work(x: int) -> int:
        return x

    other = work.options(name="other", timeout=9)
    assert (other.config.name, other.config.timeout, other.config.retries) == ("other", 9, 3)
    assert (work.config.name, work.config.timeout) == ("work", 5)
    assert other.describe() is work.describe()
    with pytest.raises(ValueError, match="timeout"):
        work.options(timeout=-1)
