"""How deep JSON is nested, chunk by chunk, before a parser sees it.

ijson notes at each value the way to it: what is nested n deep takes n² bytes.
"""

import numpy as np

DEEPEST = 64
"""COCO's own files have five levels."""
PART = 1 << 12
"""Bytes."""


class Depth:
    """The depth after each chunk of a text, in which strings count for nothing."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._left = b""

    def deepest(self, chunk: bytes) -> int:
        """The greatest depth within the next chunk."""
        text = self._left + chunk
        backslashes = len(text) - len(text.rstrip(b"\\"))
        # An escape may be cut in two.
        cut = len(text) - backslashes % 2
        text, self._left = text[:cut], text[cut:]
        if b"\\" in text:
            text = text.replace(b"\\\\", b"__").replace(b'\\"', b"__")
        # A part at a time: what follows takes several times its size.
        parts = [text[start : start + PART] for start in range(0, len(text), PART)]
        return max(map(self._deepest, parts), default=self._depth)

    def _deepest(self, text: bytes) -> int:
        codes = np.frombuffer(text, dtype=np.uint8)
        inside = np.logical_xor.accumulate(codes == ord('"')) ^ self._in_string
        opened = (codes == ord("[")) | (codes == ord("{"))
        closed = (codes == ord("]")) | (codes == ord("}"))
        steps = (opened.astype(np.int8) - closed) * ~inside
        depths = self._depth + np.cumsum(steps, dtype=np.int32)
        self._depth, self._in_string = int(depths[-1]), bool(inside[-1])
        return int(depths.max())
