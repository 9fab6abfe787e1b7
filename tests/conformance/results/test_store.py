"""The contract of a store: values by run and digest."""

import contextlib
import multiprocessing
import threading
import warnings
from pathlib import Path

import pytest

from flowq.core.errors import DefinitionError
from flowq.results import DiskStore, MemoryStore, SqliteStore, open_store
from flowq.results.redis import RedisStore

DIGEST, OTHER = "a" * 64, "b" * 64


def test_the_address_names_the_kind(store, kind):
    assert type(store) is {"memory": MemoryStore, "disk": DiskStore, "sqlite": SqliteStore, "redis": RedisStore}[kind]


def test_what_was_put_is_there(store):
    store.put("run1", DIGEST, b"value")
    assert store.get("run1", DIGEST) == b"value"


def test_what_was_not_put_is_not(store):
    assert store.get("run1", DIGEST) is None
    store.put("run1", DIGEST, b"value")
    assert store.get("run1", OTHER) is None
    assert store.get("run2", DIGEST) is None


@pytest.mark.parametrize("data", [b"", b"\0", bytes(range(256)), b"\r\n", b"\x80\xff" * 1_000_000], ids=len)
def test_any_bytes(store, data):
    store.put("run1", DIGEST, data)
    assert store.get("run1", DIGEST) == data


def test_putting_twice_is_as_once(store):
    store.put("run1", DIGEST, b"value")
    store.put("run1", DIGEST, b"value")
    assert store.get("run1", DIGEST) == b"value"


def test_deleting_a_run_deletes_all_of_it_and_nothing_else(store):
    for digest in (DIGEST, OTHER):
        store.put("run1", digest, b"value")
    store.put("run2", DIGEST, b"value")
    store.delete("run1")
    assert store.get("run1", DIGEST) is None
    assert store.get("run1", OTHER) is None
    assert store.get("run2", DIGEST) == b"value"
    store.delete("run1")
    store.put("run1", DIGEST, b"again")
    assert store.get("run1", DIGEST) == b"again"


def test_removing_a_value_leaves_the_others(store):
    for digest in (DIGEST, OTHER):
        store.put("run1", digest, b"value")
    store.put("run2", DIGEST, b"value")
    store.remove("run1", DIGEST)
    store.remove("run1", DIGEST)
    assert store.get("run1", DIGEST) is None
    assert store.get("run1", OTHER) == store.get("run2", DIGEST) == b"value"
    store.remove("run1", OTHER)
    store.put("run1", DIGEST, b"again")
    assert store.get("run1", DIGEST) == b"again"


def test_removing_what_is_not_there(store):
    store.remove("run1", DIGEST)
    assert store.get("run1", DIGEST) is None


def test_who_removes_does_not_disturb_who_puts(store):
    """Also if what is removed was all there was."""
    problems: list[object] = []

    def use(digest: str) -> None:
        try:
            for i in range(50):
                store.put("run1", digest, b"%d" % i)
                problems.extend([] if store.get("run1", digest) == b"%d" % i else [digest])
                store.remove("run1", digest)
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=use, args=(f"{number:064}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert problems == []


def test_a_folder_that_goes_while_it_is_made_is_made_again(tmp_path, monkeypatch):
    store, make, times = DiskStore(tmp_path), Path.mkdir, []

    def vanishing(self, *args, **how):
        times.append(1)
        if len(times) == 1:
            raise FileExistsError(self)
        make(self, *args, **how)

    monkeypatch.setattr(Path, "mkdir", vanishing)
    store.put("run1", DIGEST, b"value")
    assert store.get("run1", DIGEST) == b"value"


def test_a_file_in_the_folders_place_is_an_error(tmp_path):
    (tmp_path / "run1").touch()
    with pytest.raises(NotADirectoryError):
        DiskStore(tmp_path).put("run1", DIGEST, b"value")


def test_other_processes_see_it(store, open_again, kind):
    store.put("run1", DIGEST, b"value")
    assert open_again().get("run1", DIGEST) == (None if kind == "memory" else b"value")


def test_threads_do_not_disturb_each_other(store):
    """Readers see nothing or the whole value, never a part; writers of the same value are no conflict."""
    data = b"0123456789" * 20_000
    problems: list[object] = []

    def write() -> None:
        try:
            for i in range(20):
                store.put("run1", f"{i:064}", data)
        except Exception as error:
            problems.append(error)

    def read() -> None:
        try:
            while not all(seen := [store.get("run1", f"{i:064}") for i in range(20)]):
                problems.extend(len(value) for value in seen if value not in (None, data))
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=target) for target in (read, write, write, write)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in threads)
    assert problems == []


@pytest.mark.parametrize("kind", ["disk", "sqlite", "redis"], indirect=True)
def test_a_forked_child_uses_it_as_its_parent_goes_on(store):
    store.put("run1", DIGEST, b"value")

    def main() -> None:
        assert store.get("run1", DIGEST) == b"value"
        store.put("run1", OTHER, b"of the child")

    child = multiprocessing.get_context("fork").Process(target=main)
    with getattr(store, "_lock", contextlib.nullcontext()), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
        child.start()  # while the parent is in the middle of something
    child.join(10)
    exit_code = child.exitcode
    child.kill()
    assert exit_code == 0
    assert store.get("run1", OTHER) == b"of the child"
    store.put("run2", DIGEST, b"of the parent")
    assert store.get("run2", DIGEST) == b"of the parent"


@pytest.mark.parametrize("kind", ["redis"], indirect=True)
def test_values_in_redis_do_not_stay_for_ever(store):
    store.put("run1", DIGEST, b"value")
    assert store._client.ttl("test:values:run1") > 0


@pytest.mark.parametrize("kind", ["disk"], indirect=True)
def test_a_folder_holds_nothing_but_values(store, tmp_path):
    store.put("run1", DIGEST, b"value")
    store.put("run1", DIGEST, b"value")
    assert [path.name for path in (tmp_path / "values" / "run1").iterdir()] == [DIGEST]
    store.delete("run1")
    assert list((tmp_path / "values").iterdir()) == []


@pytest.mark.parametrize("kind", ["disk"], indirect=True)
def test_nor_is_a_folder_left_when_the_last_one_is_removed(store, tmp_path):
    store.put("run1", DIGEST, b"value")
    store.remove("run1", DIGEST)
    assert list((tmp_path / "values").iterdir()) == []


@pytest.mark.parametrize("kind", ["disk", "sqlite"], indirect=True)
def test_an_address_is_unquoted(kind, tmp_path):
    scheme = {"disk": "file", "sqlite": "sqlite"}[kind]
    store = open_store(f"{scheme}://{tmp_path}/a%20b", "test")
    store.put("run1", DIGEST, b"value")
    store.close()
    assert (tmp_path / "a b").exists()


@pytest.mark.parametrize("url", ["s4://bucket", "nonsense", "", "http://host/x"])
def test_an_address_that_names_no_store(url):
    with pytest.raises(DefinitionError, match=r"FLOWQ_RESULTS_URL.*memory://.*redis://"):
        open_store(url, "test")
