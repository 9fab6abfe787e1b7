"""Give every parameter of a function, used as a processor in the class form, its source.

In the class form nobody says which upstream feeds which parameter, so the names and the order do:

1. an upstream registered for the parameter by name (``required_deps={"table": load.process_id}``);
2. an upstream of the parameter's name;
3. the upstreams left over fill the parameters left over, in order, those without default first;
4. the rest come from the run's input, by name; one with a default only where the step has no upstream at all.
"""

from __future__ import annotations

from collections.abc import Mapping

from flowq.core.args import Arg
from flowq.core.graph import Step


def bind(step: Step, explicit: Mapping[str, str]) -> dict[str, Arg]:
    """Give the arguments of a function's step; ``explicit`` maps parameters to upstream paths."""
    signature = step.processor.signature
    upstreams = [path for path, dependency in step.deps.items() if dependency.has_value]
    args: dict[str, Arg] = {name: ("step", path) for name, path in explicit.items()}
    by_name = {path.rpartition("/")[2]: path for path in upstreams}
    for parameter in signature.parameters:
        if parameter.name not in args and parameter.name in by_name:
            args[parameter.name] = ("step", by_name[parameter.name])
    taken = {arg[1] for arg in args.values()}
    left_over = [path for path in upstreams if path not in taken]
    free = [parameter for parameter in signature.parameters if parameter.name not in args]
    free.sort(key=lambda parameter: not parameter.is_needed)
    if signature.dependencies is None:
        for parameter, path in zip(free, left_over, strict=False):
            args[parameter.name] = ("step", path)
    for parameter in signature.parameters:
        if parameter.name not in args and (parameter.is_needed or not upstreams):
            args[parameter.name] = ("input", parameter.name)
    return args
