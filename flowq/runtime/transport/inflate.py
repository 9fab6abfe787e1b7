"""Decompression that ends: a kilobyte may say that it is a terabyte."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any

from kombu import compression as kombu_compression

from flowq.runtime.transport.shapes import Malformed


def decompressed(body: bytes, compression: Any, max_bytes: int) -> bytes:
    """Decompress a body by kombu's name for the method; names that cannot be bounded are refused."""
    start = _METHODS.get(compression) if isinstance(compression, str) else None
    if start is None:
        raise Malformed(f"unknown compression {compression!r:.50}")
    try:
        decompressor = start()
        found: bytes = decompressor.decompress(body, max_bytes + 1)
    except Exception as error:  # each library has errors of its own
        raise Malformed(f"the body is no {compression}: {error}") from None
    if len(found) > max_bytes:
        raise Malformed(f"decompressed, the body has more than {max_bytes} bytes")
    if not decompressor.eof:
        raise Malformed(f"the body is {compression} that ends too early")
    return found


def _known() -> dict[str, Callable[[], Any]]:
    found: dict[str, Callable[[], Any]] = {}
    for names, start in (
        (("application/x-gzip", "gzip", "zlib"), zlib.decompressobj),
        (("application/x-bz2", "bzip2", "bzip"), bz2.BZ2Decompressor),
        (("application/x-lzma", "lzma", "xz"), lzma.LZMADecompressor),
    ):
        found |= dict.fromkeys(names, start)
    zstd = getattr(kombu_compression, "zstd", None)  # it has that if this Python does
    if zstd is not None:
        found |= dict.fromkeys(("application/zstd", "zstd", "zstandard"), zstd.ZstdDecompressor)
    return found


_METHODS = _known()
