"""A configuration from YAML and the command line, with one clear line for each mistake."""

from io import StringIO
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_args

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import AfterValidator, BaseModel, ValidationError
from pydantic.fields import FieldInfo
from yaml import YAMLError

from automl.base_config import BaseConfig
from automl.config_file import yaml_text
from search_spaces.errors import InputError

C = TypeVar("C", bound=BaseConfig)


def read_values(path: str | Path | None, overrides: list[str]) -> tuple[dict[str, Any], str]:
    """Read a YAML file and apply `KEY=VALUE` overrides (`training.batch_size=8`).

    Returns:
        The values, nested, and what errors call their place.

    Raises:
        InputError: the file is missing or no YAML, or an override is none.
    """
    for override in overrides:
        if "=" not in override or override.startswith("="):
            raise InputError(f"{override!r}: expected KEY=VALUE, such as seed=1")
    path = None if path is None else Path(path)
    if path is not None and not path.is_file():
        raise InputError(f"--config: {path} does not exist; give the path of a YAML file")
    where = str(path) if path else "the command line"
    try:
        tree = OmegaConf.load(StringIO(yaml_text(path))) if path else OmegaConf.create({})
        if not isinstance(tree, DictConfig):
            raise InputError(f"{where}: expected a table of keys and values")
        merged = OmegaConf.merge(tree, OmegaConf.from_dotlist([_plain(o) for o in overrides]))
        values = OmegaConf.to_container(merged, resolve=True)
    except InputError:
        raise
    # OmegaConf and PyYAML raise errors of Python's own on keys and numbers that they can't make.
    except (OmegaConfBaseException, YAMLError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{where}: {_one_line(error)}") from error
    return cast(dict[str, Any], values), where


def _plain(override: str) -> str:
    """An override whose value may begin with >, which YAML takes for a folded text otherwise."""
    key, _, value = override.partition("=")
    return f"{key}='{value}'" if value.startswith(">") else override


def validated(model: type[C], values: dict[str, Any], where: str) -> C:
    """A configuration of a family, from its values.

    Raises:
        InputError: a key is unknown, or a value is out of range.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{where}: {_first_mistake(model, error)}") from error


def whole_path(path: Path) -> Path:
    """An absolute path: Ray's workers have working directories of their own."""
    return path.expanduser().absolute()


def whole_function(name: str) -> str:
    """FILE.py:NAME with the file's whole path; other names as they are."""
    file, _, function = name.rpartition(":")
    return f"{whole_path(Path(file))}:{function}" if file.endswith(".py") else name


WholePath = Annotated[Path, AfterValidator(whole_path)]
"""A path in a configuration."""
FunctionName = Annotated[str, AfterValidator(whole_function)]
"""One of the names that are there, or a function of one's own, in a configuration."""


def config_keys(section: type[BaseModel], above: str = "") -> dict[str, FieldInfo]:
    """Every key by its whole name, such as `training.batch_size`."""
    found: dict[str, FieldInfo] = {}
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= config_keys(kind, f"{above}{name}.")
        else:
            found[f"{above}{name}"] = field
    return found


def first_difference(mine: BaseConfig, other: BaseConfig) -> tuple[str, Any, Any]:
    """The first key, dotted, in which two configurations differ, and both values."""
    ours, theirs = (_flat(c.result_values()) for c in (mine, other))
    for key in [*ours, *theirs]:
        if ours.get(key) != theirs.get(key):
            return key, ours.get(key), theirs.get(key)
    raise ValueError("the configurations are equal")


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _first_mistake(model: type[BaseModel], error: ValidationError) -> str:
    mistake = error.errors()[0]
    key = ".".join(str(part) for part in mistake["loc"])
    if mistake["type"] == "extra_forbidden":
        section = _section_at(model, mistake["loc"][:-1])
        return f"unknown key {key}; known here: {', '.join(section.model_fields)}"
    return f"{key}: {mistake['msg']}, got {mistake['input']!r}"


def _section_at(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    kind: Any = model
    for part in location:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = kind.model_fields[str(part)].annotation
        else:
            kind = get_args(kind)[-1]  # the part is a key of a table, or a place of a list
    return cast(type[BaseModel], kind)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
