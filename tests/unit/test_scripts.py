"""How outcomes are put for ``settle``."""

from flowq.runtime.scripts import OutcomeEntry, lean, outcome_entry


def entry(key: str, value: int, fence: int = 7) -> OutcomeEntry:
    return outcome_entry("r", key, fence, "completed", value=value)


def test_those_that_differ_in_node_and_value_alone_are_one():
    assert lean([entry("1", 2), entry("2", 3)]) == [
        {"run": "r", "keys": ["1", "2"], "fence": 7, "kind": "completed", "value": 2}
    ]


def test_values_that_do_not_follow_each_other_are_not_taken_for_each_other():
    assert [(one["keys"], one["value"]) for one in lean([entry("1", 3), entry("2", 2), entry("3", 3)])] == [
        (["1"], 3),
        (["2", "3"], 2),
    ]


def test_one_without_a_value_does_not_take_the_next_one_s():
    released = [outcome_entry("r", key, 7, "released") for key in "12"]
    assert lean(released) == [{"run": "r", "keys": ["1", "2"], "fence": 7, "kind": "released"}]
    mixed = lean([entry("1", 2), outcome_entry("r", "2", 7, "completed")])
    assert [one.get("value") for one in mixed] == [2, None]


def test_another_fence_is_another_outcome():
    assert len(lean([entry("1", 2, fence=7), entry("2", 3, fence=8)])) == 2
