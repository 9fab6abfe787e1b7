"""How outcomes are put for ``settle``."""

from flowq.runtime.scripts import OutcomeEntry, lean


def entry(key: str, value: bytes | None, fence: int = 7) -> OutcomeEntry:
    return OutcomeEntry(key, value, "r", fence, "completed" if value is not None else "released")


def test_those_that_differ_in_node_and_value_alone_are_one():
    assert lean([entry("1", b"a"), entry("2", b"b")]) == (
        [{"run": "r", "keys": ["1", "2"], "fence": 7, "kind": "completed", "value": 2}],
        [b"a", b"b"],
    )


def test_each_knows_its_value_s_place():
    entries, values = lean([entry("1", b"a"), entry("2", b"b", fence=8), entry("3", None), entry("4", b"c")])
    assert [(one["keys"], one.get("value")) for one in entries] == [(["1"], 2), (["2"], 3), (["3"], None), (["4"], 4)]
    assert values == [b"a", b"b", b"c"]


def test_one_without_a_value_does_not_take_the_next_one_s():
    assert lean([entry("1", None), entry("2", None)])[0] == [
        {"run": "r", "keys": ["1", "2"], "fence": 7, "kind": "released"}
    ]
    mixed, _ = lean([entry("1", b"a"), entry("2", None)._replace(kind="completed")])
    assert [one.get("value") for one in mixed] == [2, None]


def test_an_empty_value_is_one():
    assert lean([entry("1", b"")]) == (
        [{"run": "r", "keys": ["1"], "fence": 7, "kind": "completed", "value": 2}],
        [b""],
    )


def test_another_fence_is_another_outcome():
    assert len(lean([entry("1", b"a", fence=7), entry("2", b"b", fence=8)])[0]) == 2
