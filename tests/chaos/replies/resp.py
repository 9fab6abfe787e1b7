"""Where requests and replies end on a Redis connection: just enough of RESP 2 and 3 to cut between them, or within."""

from __future__ import annotations

from collections.abc import Sequence

_LINES = b"+-:_,#("
_STRINGS = b"$=!"
_LISTS = b"*~>"
_PAIRS = b"%|"
_END = b"\r\n"


def end_of(data: bytes | bytearray, at: int = 0) -> int:
    """Give where the frame that begins at ``at`` ends; -1 if it is not complete.

    What is no RESP, an inline command, ends with its line.
    """
    line_end = data.find(_END, at)
    if line_end < 0:
        return -1
    kind, after = data[at], line_end + len(_END)
    if kind in _STRINGS:
        length = int(data[at + 1 : line_end])
        end = after if length < 0 else after + length + len(_END)
        return end if end <= len(data) else -1
    if kind in _LISTS or kind in _PAIRS:
        count = int(data[at + 1 : line_end])
        parts = 2 * count + (kind == ord("|")) if kind in _PAIRS else count  # an attribute stands before its value
        for _ in range(parts):
            after = end_of(data, after)
            if after < 0:
                return -1
    return after


def words_of(frame: bytes | bytearray) -> list[bytes]:
    """Give the words of a complete request."""
    if frame[:1] != b"*":
        return bytes(frame).split()
    words = []
    at = frame.find(_END) + len(_END)
    while at < len(frame):
        line_end = frame.find(_END, at)
        first = line_end + len(_END)
        at = first + int(frame[at + 1 : line_end]) + len(_END)
        words.append(bytes(frame[first : at - len(_END)]))
    return words


def request_of(words: Sequence[bytes]) -> bytes:
    """Give words as a request."""
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


class Frames:
    """Cuts what comes over a connection into complete frames."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take data; give the frames that are complete now."""
        self._data += data
        found = []
        at = 0
        while at < len(self._data):
            end = end_of(self._data, at)
            if end < 0:
                break
            found.append(bytes(self._data[at:end]))
            at = end
        del self._data[:at]
        return found
