"""JSON from files of unknown origin."""

import json
from typing import Any


def parse_json(content: str | bytes) -> Any:
    """What a JSON text says.

    Raises:
        ValueError: it is no JSON, no text, or nested so deep that it can't be read.
    """
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def parse_table(content: str | bytes) -> dict[str, Any]:
    """What a JSON text says whose outermost form is an object.

    Raises:
        ValueError: as `parse_json`, or it is something else.
    """
    found = parse_json(content)
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return found
