"""Reads the pages, and says of what stands in them whether it is so."""

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

import click
import typer
import yaml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from pydantic import BaseModel

from automl.base_config import BaseConfig
from automl.cli import app
from automl.commands import PROJECT
from automl.config_reading import read_values, validated
from automl.families import FAMILIES, study_class
from automl.sam.best import COSTS, parse_bound
from automl.sam.config import StudyConfig, load_config
from search_spaces import parse_constraints

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
OF_THE_PROJECT = ("automl", "trainables", "search_spaces", "configs", "examples", "benchmarks")
FOLDERS = (*OF_THE_PROJECT, "scripts", "tests", "docs")
BOUNDED = (*COSTS, "peak_memory")
# What a reader has, or is about to make; a name in capitals stands for one, too.
OF_THE_READER = ("runs/", "pictures/", "s3://", "gs://", "http", "~", "/", "sqlite:", "models:")
PLACEHOLDER = re.compile(r"\b[A-Z]{2,}\b|…")
KEY = re.compile(r"([a-z_]+(?:\.[a-z_]+)+)(?:(?:=|: )(.*))?")
PROGRAMS = ("supersam", "make", "ray", "mlflow", "python", "pip", "bash", "cd")


class Stale(AssertionError):
    """A page says what is not so."""


@dataclass(frozen=True)
class Block:
    """A code block; `language` is empty where none is named, as in an indented one."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text())


def blocks(*languages: str) -> list[Block]:
    """All blocks of some languages; those of no language that begin like a command are `sh`."""
    found = []
    for page in PAGES:
        for token in tokens(page):
            if token.type in ("fence", "code_block"):
                named = token.info.split()[0] if token.info else ""
                language = named or ("sh" if program(token.content.split()) in PROGRAMS else "")
                first = (token.map or [0])[0] + 1
                name = str(page.relative_to(PROJECT))
                found.append(Block(name, first, language, token.content))
    return [block for block in found if not languages or block.language in languages]


def inline_codes(page: Path) -> set[str]:
    """What stands in code within sentences and tables."""
    parts = [part for token in tokens(page) for part in token.children or ()]
    return {part.content for part in parts if part.type == "code_inline"}


def links(page: Path) -> set[str]:
    """Where a page leads to within the project; without the heading there."""
    parts = [part for token in tokens(page) for part in token.children or ()]
    targets = {str(part.attrGet("href") or part.attrGet("src") or "") for part in parts}
    return {t.partition("#")[0] for t in targets if t and not t.startswith(("http", "#"))}


def commands(block: Block) -> list[list[str]]:
    """The words of each command, comments left out."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def program(words: list[str]) -> str:
    return words[0].removeprefix(".venv/bin/") if words else ""


def check_command(words: list[str]) -> None:
    """Let each program's own command line parse the words; nothing is run."""
    while re.match(r"[A-Z_]+=", words[0]):  # a variable of the environment
        words = words[1:]
    for word in words[1:]:
        check_path(word)
    name, rest = program(words), words[1:]
    if name == "supersam":
        check_supersam(rest)
    elif name == "make":
        check_make(rest)
    elif name == "python":
        check_script(rest)
    elif name in ("ray", "mlflow"):
        check_click(name, rest)
    elif name == "bash" and rest[:1] == ["-c"]:
        for command in rest[1].split("&&"):
            check_command(shlex.split(command))
    elif name == "pip":
        check_extras(rest)
    elif name != "cd":
        raise Stale(f"{name!r}: there is no check for such a command")


def check_supersam(words: list[str]) -> None:
    """Parse the words, and read the configuration that they amount to."""
    known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    if not words or words[0] not in known:
        raise Stale(f"supersam has no command {words[:1]}")
    given = parsed(known[words[0]], words).params
    pairs = [w for w in given.get("overrides") or given.get("words") or () if "=" in w]
    values, where = read_values(PROJECT / given["config"], pairs)
    config = study_class(values, where).check(values, where)
    if words[0] not in ("run", "report") and not isinstance(config, StudyConfig):
        raise Stale(f"supersam {words[0]} is not for the family {config.family}")
    check_bounds(config)
    for bound in given.get("best") or ():
        parse_bound(bound)


def check_bounds(config: BaseConfig) -> None:
    """Bounds on costs, where a family has such."""
    if isinstance(config, StudyConfig):
        parse_constraints(config.constraints, dict.fromkeys(BOUNDED, 1e6))


def parsed(command: Any, words: list[str]) -> Any:
    try:
        return command.make_context(words[0], list(words[1:]))
    except Exception as error:
        raise Stale(f"{' '.join(words)}: {error}") from error


def check_click(name: str, words: list[str]) -> None:
    """Ray's and MLflow's commands."""
    if name == "ray":
        from ray.scripts.scripts import cli
    else:
        from mlflow.cli import cli
    command: Any = cli
    while hasattr(command, "commands"):
        found = command.get_command(click.Context(command), words[0])  # by an alias, too
        if found is None:
            raise Stale(f"{name} has no command {words[0]!r}")
        command, here, words = found, words[0], words[1:]
    given = parsed(command, [here, *words]).params
    script, arguments = given.get("script"), list(given.get("script_args") or ())
    if script is not None:
        check_script([script, *(a for a in arguments if a != "--")])
    if given.get("entrypoint"):
        check_command(list(given["entrypoint"]))


def check_script(words: list[str]) -> None:
    """A Python file of the project, with arguments that it knows."""
    if words[0] == "run.py":
        check_supersam(["run", *words[1:]])
        return
    text = (PROJECT / words[0]).read_text()
    for word in words[1:]:
        if word.startswith("--") and f'"{word}"' not in text:
            raise Stale(f"{words[0]} has no option {word}")


def check_make(words: list[str]) -> None:
    text = (PROJECT / "Makefile").read_text()
    for word in words:
        name, sign, _ = word.partition("=")
        wanted = rf"\$\({name}\)" if sign else rf"^{re.escape(name)}:"
        if not re.search(wanted, text, re.MULTILINE):
            raise Stale(f"the Makefile has no {name}")


def check_extras(words: list[str]) -> None:
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    for name in re.findall(r"\.\[(\w+)\]", " ".join(words)):
        if name not in extras["optional-dependencies"]:
            raise Stale(f"there is no extra {name}")


def check_path(word: str) -> None:
    """What looks like a path is the reader's or exists; KEY=VALUE is looked at behind the sign."""
    _, _, path = word.rpartition("=")
    path = re.sub(r"(\.py):.*", r"\1", path)
    looks_so = "/" in path or path.endswith((".py", ".yaml"))
    if not looks_so or path.startswith(OF_THE_READER) or PLACEHOLDER.search(path) or " " in path:
        return
    if not (PROJECT / path).exists():
        raise Stale(f"{path} does not exist")


def check_inline(code: str) -> None:
    """A key with or without a value, a command, or a path of the project."""
    if code.startswith("supersam "):
        known = typer.main.get_command(app).commands  # type: ignore[attr-defined]
        words = shlex.split(code)
        if words[1] not in known and not PLACEHOLDER.search(words[1]):
            raise Stale(f"supersam has no command {words[1]!r}")
    elif code.split("/")[0] in FOLDERS and "/" in code and "{" not in code:
        check_path(code.split()[0])
    elif (match := KEY.fullmatch(code)) and is_key(match[1]):
        default_of(match[1])
        value = match[2]
        if value and not PLACEHOLDER.search(value):
            model = type(family_of(match[1]))
            if model is StudyConfig:
                check_bounds(load_config(None, [f"{match[1]}={shlex.split(value)[0]}"]))
                return
            family = family_of(match[1]).family
            pairs = [f"family={family}", f"{match[1]}={shlex.split(value)[0]}"]
            validated(model, *read_values(None, pairs))


@cache
def defaults() -> tuple[BaseConfig, ...]:
    """The configuration of each family with nothing given, SAM's first."""
    models = [get_args(study_class({"family": f}, "").__orig_bases__[0])[0] for f in FAMILIES]
    return tuple(
        model.model_validate({"family": family})
        for family, model in zip(FAMILIES, models, strict=True)
    )


def is_key(dotted: str) -> bool:
    """Whether a name means to be one of a configuration: not a file's or a module's."""
    first, last = dotted.split(".")[0], dotted.split(".")[-1]
    is_file = last in ("parquet", "py", "json", "yaml", "txt", "db", "html", "safetensors", "onnx")
    return any(first in type(c).model_fields for c in defaults()) and not is_file


def has_key(config: BaseConfig, dotted: str) -> bool:
    """Whether a configuration has a key."""
    section, _, below = dotted.partition(".")
    if section == "constraints" and below and isinstance(config, StudyConfig):
        return below in BOUNDED
    value: Any = config
    for name in dotted.split("."):
        if not isinstance(value, BaseModel) or name not in type(value).model_fields:
            return False
        value = getattr(value, name)
    return True


def family_of(dotted: str) -> BaseConfig:
    """The first family's configuration that has a key."""
    for config in defaults():
        if has_key(config, dotted):
            return config
    raise Stale(f"{dotted} is no key of a configuration")


def default_of(dotted: str) -> Any:
    """The default of a key of a configuration."""
    value: Any = family_of(dotted)
    if dotted.startswith("constraints."):
        return None
    for name in dotted.split("."):
        value = getattr(value, name)
    return value


def check_yaml(block: Block) -> None:
    """A part of a configuration, or of the cluster's file."""
    values = yaml.safe_load(block.text)
    cluster = yaml.safe_load((PROJECT / "ray_cluster.yaml").read_text())
    if not set(values) <= set(cluster):
        study_class(values, str(block)).check(values, str(block))


def check_json(block: Block) -> None:
    json.loads(block.text)


def tables_of_defaults(page: Path) -> Iterator[tuple[list[str], str]]:
    """Keys and what is said to be their default, of each row of tables with such a column."""
    prefix, told, cells = "", False, list[Token]()
    for token in tokens(page):
        if token.type == "tr_open":
            cells = []
        elif token.type == "inline":
            cells.append(token)
        elif token.type == "tr_close" and cells:
            codes = [c.content for c in cells[0].children or () if c.type == "code_inline"]
            if cells[0].content.startswith("key"):
                told = len(cells) > 1 and cells[1].content == "default"
                prefix = f"{codes[0]}." if codes else ""
            elif told:
                yield [prefix + code for code in codes], cells[1].content
        elif token.type == "table_close":
            told = False


def check_defaults(keys: list[str], said: str) -> None:
    """`said` names one default for all keys, or one for each."""
    parts = [said] if len(keys) == 1 else said.split(", ")
    for key, part in zip(keys, parts, strict=True):
        found, told = default_of(key), yaml.safe_load(part.strip("`"))
        if told in ("none", "all"):
            is_so = not found
        else:
            is_so = (list(found) if isinstance(found, tuple) else found) == told
        if not is_so:
            raise Stale(f"the default of {key} is {found!r}, not {told!r}")
