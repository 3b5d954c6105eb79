"""Content hashes: the same value has the same key, on every machine and in every run."""

import hashlib
import json
from typing import Any


def content_key(value: Any, length: int = 12) -> str:
    """Hash a JSON-able value to `length` hexadecimal digits; the order of dict keys is ignored."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]
