"""What code a process knows: tasks and processors by key, flows by name.

Definitions enter when they are made. A worker imports the modules of ``FLOWQ_INCLUDE`` and then resolves what plans
name among what those modules defined; it imports nothing because a message says so.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterable
from typing import Any, Protocol

from flowq.core.errors import DefinitionError, UnknownProcessorError
from flowq.core.processor import Processor, adapter, describe, key_of, rebuild


class NamedFlow(Protocol):
    """A flow, as far as the registry cares."""

    name: str
    process_id: str


class Registry:
    """The processors and flows of one process."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Processor] = {}
        self._flows: dict[str, NamedFlow] = {}
        self._by_id: dict[str, NamedFlow] = {}
        self._included: set[str] = set()
        self.generation = 0
        """Grows with every definition: whoever forked earlier does not know the newest ones."""

    def add(self, processor: Processor) -> Processor:
        """Make a processor known and give the one that is kept for its key and configuration."""
        known = self._known.get((processor.key, processor.config))
        if known is None or known.call is not processor.call:
            self._known[processor.key, processor.config] = processor
            self.generation += 1
        return processor

    def add_flow(self, flow: NamedFlow) -> None:
        """Make a flow known by its name and its id; a later one of the same name takes its place."""
        self._flows[flow.name] = self._by_id[flow.process_id] = flow

    def flow(self, name: str, process_id: str = "") -> Any:
        """Give the flow with this id, else the one of this name; None if there is neither."""
        return self._by_id.get(process_id) or self._flows.get(name)

    @property
    def flows(self) -> dict[str, NamedFlow]:
        return dict(self._flows)

    def include(self, modules: Iterable[str]) -> None:
        """Import modules; their processors and tasks may be named by plans.

        Raises:
            DefinitionError: a module cannot be imported; the error names it and the cause.
        """
        for name in modules:
            try:
                importlib.import_module(name)
            except ImportError as error:
                raise DefinitionError(
                    f"FLOWQ_INCLUDE names the module {name!r}, which cannot be imported ({error}); is it on PYTHONPATH?"
                ) from error
            self._included.add(name)

    def resolve(self, key: str, config: str) -> Processor:
        """Give the processor that a plan names.

        Raises:
            UnknownProcessorError: this process does not know it.
        """
        known = self._known.get((key, config))
        if known is not None:
            return known
        module, _, named = key.partition(":")
        qualname, _, version = named.partition("@")
        if module in self._included or any(known_key == key for known_key, _ in self._known):
            found = _look_up(module, qualname)
            processor = None if found is None else _describe(found, config)
            if processor is not None and processor.key == key:
                return self.add(processor)
            if processor is not None:
                raise UnknownProcessorError(
                    f"this process has {processor.key!r}, and the run was submitted with version {version or 'none'!r};"
                    " keep a worker of that version until its runs have ended"
                )
        raise UnknownProcessorError(
            f"this process does not know the processor {key!r}; add its module to FLOWQ_INCLUDE"
            f" (included: {', '.join(sorted(self._included)) or 'none'})"
        )

    def warm_up(self) -> None:
        """Make the validators of all known signatures now, and not when a node waits for them."""
        for processor in list(self._known.values()):
            for annotation in (processor.signature.returns, *(p.annotation for p in processor.signature.parameters)):
                with contextlib.suppress(DefinitionError):  # who builds a graph with it is told
                    adapter(annotation)

    def keys(self) -> set[str]:
        """Give the keys of all processors that plans may name here: those that are known, and the included classes."""
        found = {key for key, _ in self._known}
        todo = [vars(sys.modules[name]) for name in self._included]
        while todo:
            for member in todo.pop().values():
                if isinstance(member, type) and member.__module__ in self._included and key_of(member) not in found:
                    todo.append(dict(vars(member)))
                    if callable(getattr(member, "process", None)):
                        found.add(key_of(member))
        return found

    def modules(self) -> list[str]:
        """Give the modules of all known processors that another process can import."""
        modules = {key.partition(":")[0] for (key, _), known in self._known.items() if known.is_portable}
        return sorted(module for module in modules if not module.startswith("flowq."))


REGISTRY = Registry()
"""Where definitions enter."""


def _look_up(module: str, qualname: str) -> Any:
    found: Any = sys.modules.get(module) or sys.modules.get("__main__")
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def _describe(found: Any, config: str) -> Processor:
    if isinstance(found, type) and callable(getattr(found, "process", None)):
        return describe(rebuild(found, config))
    if hasattr(found, "describe"):
        processor: Processor = found.describe()
        return processor
    raise UnknownProcessorError(f"{found!r} is no processor")
