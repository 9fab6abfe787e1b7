"""The scripts as a server has them: functions of a library that it keeps ready, or, before Redis 7, one script each.

A function's library is read once, and stays: a call finds its helpers made, and the rows of plans that calls before it
have read. A script of the same text makes all of it anew at every call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.resources import files
from typing import Any

import redis

from flowq.core.errors import StoreFullError

ASKING = frozenset({"define", "extend", "park", "retry", "stage", "submit"})
"""The scripts that ask for memory: a server that has none left refuses them. All others end what has begun, or free
memory, and so are never refused."""

_FOLDER = files("flowq.runtime") / "lua"
_PARTS = ("call", "records", "writing", "delivery", "settling", "holders", "claims", "replies")


class Library:
    """The text of all scripts: ``shared`` stands before each; a source is what stands in a function's body.

    Its name says what is in it: libraries of several versions of flowq live on one server side by side.
    """

    def __init__(self, shared: str, sources: Mapping[str, str]) -> None:
        self.shared, self.sources = shared, sources
        bodies = "".join(f"bodies.{name} = function()\n{source}end\n" for name, source in sources.items())
        text = f"{shared}local bodies = {{}}\n{bodies}"
        said = f"{text}{sorted(ASKING)}"
        self.name = f"flowq_{sha256(said.encode()).hexdigest()[:16]}"
        registered = "".join(map(self._registered, sources))
        self.text = f"#!lua name={self.name}\n{text}{registered}"

    def function(self, name: str) -> str:
        """Give the name of the function that a script is."""
        return f"{self.name}_{name}"

    def script(self, name: str) -> str:
        """Give a script's text as a server takes it that keeps no functions."""
        # Such a server refuses the first write of a script, if it may need memory, and none after it.
        first = "" if name in ASKING else "call('DEL', key_of('full'))\n"
        return f"{self.shared}begin(KEYS, ARGV)\n{first}return answered(function()\n{self.sources[name]}\nend)"

    def _registered(self, name: str) -> str:
        flags = "" if name in ASKING else "'allow-oom'"
        return (
            f"redis.register_function{{function_name = '{self.function(name)}', flags = {{{flags}}},\n"
            f"  callback = function(keys, given)\n"
            f"    begin(keys, given)\n"
            f"    local reply = answered(bodies.{name})\n"
            f"    done()\n"
            f"    return reply\n"
            f"  end}}\n"
        )


class Installed:
    """A library on the server of a client. It is sent there when it is not found."""

    def __init__(self, client: redis.Redis, library: Library) -> None:
        self.client: Any = client
        self.library = library
        self._keeps_functions = True
        self._scripts: dict[str, Any] = {}

    def call(self, name: str, keys: Sequence[str], args: Sequence[bytes | str]) -> Any:
        """Call a script by its name."""
        if self._keeps_functions:
            try:
                return self._called(name, keys, args)
            except StoreFullError:
                pass  # as a script, it may find that it has been carried out before
            except redis.ResponseError as error:
                if not _keeps_no_functions(error):
                    raise
                self._keeps_functions = False
        return self._script(name)(keys=keys, args=args)

    def command(self, name: str) -> tuple[str, str]:
        """Give the first words of a command that calls a script; the answer may be that it ``is_absent``."""
        return ("FCALL", self.library.function(name)) if self._keeps_functions else ("EVALSHA", self._script(name).sha)

    def load(self) -> None:
        """Give the server the library; raises what it refuses it with."""
        try:
            self.client.execute_command("FUNCTION", "LOAD", self.library.text)
        except redis.ResponseError as error:
            if "already exists" not in str(error):  # another process was quicker
                raise

    def _script(self, name: str) -> Any:
        if name not in self._scripts:
            self._scripts[name] = self.client.register_script(self.library.script(name))
        return self._scripts[name]

    def _called(self, name: str, keys: Sequence[str], args: Sequence[bytes | str]) -> Any:
        command = ("FCALL", self.library.function(name), len(keys), *keys, *args)
        try:
            return self.client.call(*command)
        except redis.ResponseError as error:
            if not _is_missing(error):
                raise
        try:
            self.load()
        except redis.ResponseError as error:  # some managed servers have words of their own for what they forbid
            raise redis.exceptions.NoPermissionError(f"the server takes no functions: {error}") from error
        return self.client.call(*command)


def is_absent(error: redis.RedisError) -> bool:
    """Whether this says that a server has not got a script: it has done nothing."""
    return isinstance(error, redis.exceptions.NoScriptError) or _is_missing(error) or _keeps_no_functions(error)


def _is_missing(error: redis.RedisError) -> bool:
    return "Function not found" in str(error)


def _keeps_no_functions(error: redis.RedisError) -> bool:
    """Whether a server has no functions at all, or not for this user."""
    return isinstance(error, redis.exceptions.NoPermissionError) or "unknown command" in str(error).lower()


def _part(name: str) -> str:
    """Give a part of what the scripts share, a function of its own: what its last line returns are locals of the next
    ones. (But for the first part, whose locals each call sets anew.)

    Each function of one long text would look for what it uses among all that stands before it when it is made.
    """
    text = (_FOLDER / "lib" / f"{name}.lua").read_text("utf-8")
    _, is_closed, names = text.rpartition("\nreturn ")
    return f"local {' '.join(names.split())} = (function()\n{text}end)()\n" if is_closed else text


_SOURCES = {
    file.name.removesuffix(".lua"): file.read_text("utf-8")
    for file in sorted(_FOLDER.iterdir(), key=str)
    if file.name.endswith(".lua")
}

LIBRARY = Library("".join(map(_part, _PARTS)), _SOURCES)
