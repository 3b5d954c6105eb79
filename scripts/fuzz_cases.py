"""Cases for `fuzz.py`: sound texts, bytes and values, changed.

Hypothesis draws what each case's own generator begins with; drawing every byte would take longer
than reading it.
"""

import copy
import json
import math
import random
from typing import Any

from hypothesis import strategies as st

NUMBERS = (
    *(0, 1, -1, 2, 255, 2**15, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, -(2**63), 10**30),
    *(0.5, -0.0, 1e308, -1e308, math.inf, -math.inf, math.nan),
)
TEXTS = ("", " ", "\x00", "../..", "/etc/passwd", "é" * 40, "\ud800", "[/b]", "x" * 5000, "1e400")
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(NUMBERS),
    st.sampled_from(TEXTS),
    st.integers(-300, 300),
    st.text(max_size=8),
)
generators = st.randoms(use_true_random=True)


def any_value(rng: random.Random, depth: int = 3) -> Any:
    """A value of JSON's kinds."""
    kind = rng.randrange(10 if depth else 6)
    if kind < 2:
        return rng.choice(NUMBERS)
    if kind < 6:
        texts = (
            rng.choice(TEXTS),
            "".join(map(chr, rng.choices(range(0x250), k=rng.randrange(5)))),
        )
        return rng.choice((None, True, False, rng.randint(-300, 300), *texts))
    inner = [any_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    return inner if kind < 8 else {rng.choice((*TEXTS, "a", "b")): value for value in inner}


values = generators.map(any_value)


def damaged(sound: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Bytes of one of some files: cut off, flipped, overwritten, repeated, left out."""
    return generators.map(lambda rng: damage(rng, rng.choice(sound)))


def damage(rng: random.Random, sound: bytes) -> bytes:
    content = bytearray(sound)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if not content:
            break
        at, length = rng.randrange(len(content)), rng.choice((1, 1, 2, 4, 8, 64))
        change = rng.randrange(8)
        if change == 0:
            del content[at:]
        elif change < 3:
            content[at] ^= 1 << rng.randrange(8)
        elif change == 3:
            content[at : at + length] = rng.randbytes(length)
        elif change == 4:
            content[at : at + length] = rng.choice((b"\x00", b"\xff")) * length
        elif change == 5:
            content[at:at] = content[max(0, at - length) : at]
        elif change == 6:
            content[at] = rng.choice(b'0123456789+-.eE[]{}",:\\ \n\t\x7f\x80')
        else:
            del content[at : at + length]
    return bytes(content)


def changed(sound: Any) -> st.SearchStrategy[Any]:
    """A value of JSON's kinds with one to three of its parts replaced, renamed or left out."""
    return generators.map(lambda rng: change_parts(rng, sound))


def changed_any(sound: list[Any]) -> st.SearchStrategy[Any]:
    """One of some values, changed."""
    return generators.map(lambda rng: change_parts(rng, rng.choice(sound)))


def change_parts(rng: random.Random, sound: Any) -> Any:
    document = copy.deepcopy(sound)
    for _ in range(rng.randint(1, 3)):
        parent, key, part = None, None, document
        for _ in range(rng.randint(1, 8)):
            if not isinstance(part, dict | list) or not part:
                break
            parent = part
            key = rng.choice(list(part) if isinstance(part, dict) else range(len(part)))
            part = parent[key]
        if parent is None:
            return any_value(rng)
        change = rng.randrange(6)
        if change == 0:
            del parent[key]
        elif change == 1 and isinstance(parent, dict):
            parent[rng.choice(TEXTS)] = parent.pop(key)
        elif change == 2 and isinstance(parent, list):
            parent.append(copy.deepcopy(part))
        else:
            parent[key] = any_value(rng)
    return document


def json_texts(sound: Any) -> st.SearchStrategy[bytes]:
    """A JSON document whose values or bytes are changed, or that is nested without an end."""
    text = json.dumps(sound).encode()

    def make(rng: random.Random) -> bytes:
        kind = rng.randrange(20)
        if kind < 12:
            return json.dumps(change_parts(rng, sound)).encode()
        if kind < 19:
            return damage(rng, text)
        depth = rng.choice((20, 50, 70, 900, 3000, 100_000))
        if rng.random() < 0.5:
            return text[: len(text) // 2] + rng.choice((b"[", b'{"a":')) * depth
        # The document with a value, somewhere, that lies deep inside lists.
        at = text.find(b": ", rng.randrange(len(text))) + 2
        return text[:at] + b"[" * depth + b"]" * depth + b", " + text[at:].partition(b", ")[2]

    return generators.map(make)
