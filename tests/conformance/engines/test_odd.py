"""What people do sooner or later must come to the same on both engines, and never cost a worker its life."""

import pytest

from flowq import FailureKind, FlowStatus
from tests.conformance.engines.flows import odd


@pytest.mark.parametrize(
    ("what", "kind", "message"),
    [
        ("half a character", "ValueError", r"^bad \\ud800 text$"),
        ("no message", "tests.conformance.engines.flows.odd.Unspeakable", "cannot be had: RuntimeError"),
        ("a huge message", "ValueError", r"^x{4000}… \(5000000 characters\)$"),
        ("several", "ExceptionGroup", "some"),
        ("a base exception", "GeneratorExit", ""),
        ("an assertion", "AssertionError", r"a \| b, {c}"),
    ],
)
def test_failures_that_are_hard_to_write_down(run, what, kind, message):
    import re

    result = run(odd.failing, {"what": what})
    assert result.status is FlowStatus.FAILED
    failure = result.nodes["raises"].failure
    assert (failure.kind, failure.type) == (FailureKind.ERROR, kind)
    assert re.search(message, failure.message)
    assert len(failure.traceback) <= 8000
    result.model_dump_json()


def test_an_async_generator_is_no_value(run):
    failure = run(odd.streaming, {}).nodes["streams"].failure
    assert failure.kind is FailureKind.OUTPUT


@pytest.mark.parametrize(
    ("flow", "given", "output"),
    [
        (odd.empty, {"x": 1}, None),
        (odd.gives_its_input, {"x": 1}, 1),
        (odd.gives_a_constant, {}, {"a": [1, None, "ü|,{}\u2028"], "": {}}),
        (odd.generating, {"to": 4}, 6),
        (odd.keyed_by_number, {}, [1, 2]),
        (odd.huge_numbers, {}, True),
        (odd.named_oddly, {"x": 3}, 3),
        (odd.changing_what_was_given, {}, [[0, 1], [0, 1, 1]]),
        (odd.passing_none, {}, "None"),
        (odd.flow_in_a_processor, {"x": 4}, 6),
    ],
    ids=lambda given: getattr(given, "__name__", None),
)
def test_flows_that_work(run, flow, given, output):
    result = run(flow, given)
    assert result.error is None
    assert result.status is FlowStatus.COMPLETED
    assert result.output == output


def test_names_are_kept_as_they_are(run):
    result = run(odd.named_oddly, {"x": 3})
    assert result.name == "fl|ow,{ü}:%s"
    assert set(result.nodes) == {"no|de,{é}:%d.1", "1.2"}
