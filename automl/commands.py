"""What the commands of `automl.cli` do, and what they show of it."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from rich.console import Console

from automl.asked import QUICK_START, Asked
from automl.base_study import REPORT
from automl.families import AnyStudy, open_study
from automl.output import CONFIG, read_config
from automl.sam.best import best_subnet, parse_bound
from automl.sam.config import StudyConfig, check_config, load_config
from automl.sam.export import check_format, export_subnet, export_summary
from automl.sam.latency import front_latency_table, latency_notes, latency_table
from automl.sam.preparing import prepare_to
from automl.sam.study import Study
from automl.sam.tables import (
    designs_table,
    evaluation_tables,
    importance_table,
    left_out_table,
    profile_notes,
    profile_table,
    reach_table,
    splits_table,
)
from search_spaces import addresses
from search_spaces.errors import InputError
from trainables.data.prompts import PromptKind

PROJECT = Path(__file__).resolve().parent.parent
PROMPTS: tuple[PromptKind, ...] = get_args(PromptKind)


def _existing(config: Path) -> Path:
    path = config if config.is_file() or config.is_absolute() else PROJECT / config
    if not path.is_file():
        raise InputError(f"--config: {config} does not exist; give the path of a YAML file")
    return path


def _any_study(asked: Asked) -> AnyStudy:
    """The study of a configuration, whatever its family."""
    return open_study(_existing(asked.config), asked.overrides or [], asked.output)


def _study(asked: Asked) -> Study:
    path = _existing(asked.config)
    config = load_config(path, asked.overrides or [])
    return Study(config, asked.output or Path("runs") / path.stem)


def _looking(asked: Asked) -> Study:
    """As `_study`, for commands that only look.

    Where no directory is named and the default one is another configuration's, this one gets a
    directory of its own; it is made when something has to be written.
    """
    try:
        return _study(asked)
    except InputError:
        path = _existing(asked.config)
        config = load_config(path, asked.overrides or [])
        if asked.output is not None:
            raise
        return _apart(path, config)


def _leaving(asked: Asked) -> Study:
    """As `_looking`, for a command that leaves a file.

    A default directory that is no study's yet stays free: it would be this configuration's from
    then on.
    """
    study = _looking(asked)
    if asked.output is not None or (study.output / CONFIG).exists():
        return study
    return _apart(_existing(asked.config), study.config)


def _apart(path: Path, config: StudyConfig) -> Study:
    return Study(config, Path("runs") / f"{path.stem}-{config.key}")


def _show(asked: Asked, value: Any, *tables: Any) -> None:
    if asked.as_json:
        print(json.dumps(value))
        return
    console = Console(width=None if sys.stdout.isatty() else 120)
    for table in tables:
        console.print(table, soft_wrap=isinstance(table, str), highlight=False)


def run(asked: Asked) -> None:
    """As `supersam run`."""
    study = _any_study(asked)
    study.run_until(REPORT)
    value, tables = study.summary()
    _show(asked, value, *tables, where_to_look(study))


def prepare(
    asked: Asked,
    layout: str | None,
    strict: bool,
    to: str | None,
) -> None:
    """As `supersam prepare`."""
    given = [*(asked.overrides or []), *([f"prepare.format={layout}"] if layout else [])]
    asked = replace(asked, overrides=[*given, *(["prepare.strict=true"] if strict else [])])
    if to is not None:
        if asked.output is not None:
            raise InputError("--to: give it or --output, not both")
        summary = prepare_to(load_config(_existing(asked.config), asked.overrides or []), to)
    else:
        study = _study(asked)
        study.run_until("data")
        to, summary = str(study.output), study.prepared()
    shown: list[Any] = [splits_table(summary)]
    if summary.left_out():
        shown.append(left_out_table(summary))
    if summary.pictures_per_second is not None:
        shown.append(f"{summary.pictures_per_second:.1f} pictures per second")
    _show(asked, {"output": addresses.shown(to), **summary.to_dict()}, *shown)


def profile(asked: Asked) -> None:
    """As `supersam profile`."""
    study = _looking(asked)
    value = study.profile()
    _show(asked, value, profile_table(value), reach_table(value), profile_notes(value))


def latency(
    asked: Asked,
    threads: int | None,
) -> None:
    """As `supersam latency`."""
    study = _leaving(asked)
    value = study.latency(threads)
    where = f"The table: {study.output / 'latency.json'}"
    value = {"output": str(study.output), **value}
    front = [front_latency_table(value)] if value["front"] else []
    _show(asked, value, latency_table(value), *front, latency_notes(value), where)


def prioritise(asked: Asked) -> None:
    """As `supersam prioritise`."""
    study = _study(asked)
    study.run_until("prioritise")
    rows = study.layer_worth()
    _show(asked, {"output": str(study.output), "layers": rows}, importance_table(rows))


def search(asked: Asked) -> None:
    """As `supersam search`."""
    study = _study(asked)
    study.run_until("designs")
    rows = study.designs()
    _show(asked, {"output": str(study.output), "designs": rows}, designs_table(rows))


def train(asked: Asked) -> None:
    """As `supersam train`."""
    study = _study(asked)
    study.run_until("final")
    best = study.best_design()
    value = {"output": str(study.output), "design": best.key, **best.to_dict()}
    _show(asked, value, f"design {best.key}: the supernet is in {study.output / 'supernet'}")


def evaluate(
    asked: Asked,
    subnet: str | None,
    model: Path | None,
    split: str,
    prompts: list[str] | None,
    pictures: int | None,
    max_objects: int | None,
    min_area: int | None,
) -> None:
    """As `supersam evaluate`."""
    unknown = [name for name in prompts or () if name not in PROMPTS]
    if unknown:
        raise InputError(f"--prompts: {unknown[0]!r} is unknown; choose from {', '.join(PROMPTS)}")
    kinds = tuple(kind for kind in PROMPTS if kind in prompts) if prompts else PROMPTS[:2]
    study = (_study if subnet else _looking)(asked)
    value = study.evaluate(
        subnet,
        model=model,
        split=split,
        prompts=kinds,
        pictures=pictures,
        max_objects=max_objects,
        min_area=min_area,
    )
    _show(asked, value, *evaluation_tables(value))


def export(
    asked: Asked,
    keys: list[str],
    best: list[str],
    to: str,
    int8: bool,
    into: Path | None,
    overwrite: bool,
) -> None:
    """As `supersam export`."""
    check_format(to, int8)
    study = _there(asked)
    key = _one_subnet(study, keys, best)
    if not study.workspace.subnet_folder(key).is_dir():
        study.export(key)
    value = export_subnet(
        study.workspace,
        key,
        to=to,
        int8=int8,
        into=into,
        overwrite=overwrite,
        console=Console(stderr=True),
    )
    _show(asked, value, export_summary(value))


def report(asked: Asked) -> None:
    """As `supersam report`."""
    study = _any_study(asked)
    path = study.write_report()
    value, tables = study.summary()
    value = {"report": str(path), "front": value["front"]}
    _show(asked, value, *tables, f"Report: {path}")


def where_to_look(study: AnyStudy) -> str:
    """Where the result of a study is to be seen, a line each."""
    lines = [f"Report: {study.output / 'report.html'}"]
    if not study.tracking_uri.startswith("http"):
        lines.append(
            f"Compare: mlflow ui --backend-store-uri {addresses.shown(study.tracking_uri)}"
        )
    if link := study.results_link():
        lines.append(f"Subnets: {link}")
    return "\n".join(lines)


def _there(asked: Asked) -> Study:
    """As `_study`; a directory that alone is named says what its study's configuration is."""
    output = asked.output
    if output is None or asked.overrides or asked.config != QUICK_START:
        return _study(asked)
    if not (output / CONFIG).is_file():
        return _study(asked)
    return Study(read_config(output, check_config), output)


def _one_subnet(study: Study, keys: list[str], best: list[str]) -> str:
    """The key that is given, or that of the front's best subnet within bounds."""
    if len(keys) + bool(best) != 1:
        raise InputError("--best: give it or the key of one subnet, and not both")
    if keys:
        return keys[0]
    bounds = [parse_bound(expression) for expression in best]
    found = study.result()
    key: str = best_subnet(found.front, found.parent, bounds)["subnet"]
    return key
