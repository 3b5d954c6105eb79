"""YAML from files of unknown origin: tables of plain values, of a sensible size.

Neither PyYAML's safe loader nor OmegaConf makes other objects, but both follow every alias.
"""

from pathlib import Path

import yaml

from search_spaces.errors import InputError

MOST_BYTES = 1 << 20
"""Of a file."""
MOST_VALUES = 100_000
"""With what its aliases stand for: a file of a few lines may stand for billions of values."""
DEEPEST = 32


def yaml_text(path: Path) -> str:
    """The text of a YAML file that holds a table of keys and values, or nothing.

    Raises:
        InputError: it can't be read, is no YAML, no table, too large, or nested too deep.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: it has more than {MOST_BYTES:,} bytes")
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None and not isinstance(root, yaml.MappingNode):
            raise InputError(f"{path}: expected a table of keys and values")
        if root is not None and _values(root, {}, 0) > MOST_VALUES:
            raise InputError(f"{path}: it stands for more than {MOST_VALUES:,} values")
    except RecursionError:
        raise InputError(f"{path}: it is nested too deep") from None
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from error
    return text


def _values(node: yaml.Node, counted: dict[int, int], depth: int) -> int:
    """The values that a node stands for, each alias counted for what it stands for."""
    if depth > DEEPEST:
        raise RecursionError
    if id(node) not in counted:
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            inner = list(node.value)
        elif isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
        counted[id(node)] = 1 + sum(_values(part, counted, depth + 1) for part in inner)
    return counted[id(node)]
