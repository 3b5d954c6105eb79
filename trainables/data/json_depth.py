"""How deep JSON is nested, chunk by chunk, before a parser sees it.

ijson notes at each value the way to it: what is nested n deep takes n² bytes.
"""

import numpy as np

DEEPEST = 64
"""COCO's own files have five levels."""


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
        codes = np.frombuffer(text, dtype=np.uint8)
        inside = (np.cumsum(codes == ord('"')) + self._in_string) % 2 == 1
        opened = (codes == ord("[")) | (codes == ord("{"))
        closed = (codes == ord("]")) | (codes == ord("}"))
        depths = self._depth + np.cumsum((opened.astype(np.int8) - closed) * ~inside)
        if len(codes):
            self._depth, self._in_string = int(depths[-1]), bool(inside[-1])
        return int(depths.max(initial=self._depth))
