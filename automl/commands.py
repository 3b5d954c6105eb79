"""What the commands of `automl.cli` do, and what they show of it."""

import json
import sys
from pathlib import Path
from typing import Any, get_args

from rich.console import Console

from automl.base_study import REPORT
from automl.best import best_subnet, parse_bound
from automl.cli import QUICK_START
from automl.config import StudyConfig, check_config, load_config
from automl.export import check_format, export_subnet, export_summary
from automl.families import AnyStudy, open_study
from automl.latency import front_latency_table, latency_notes, latency_table
from automl.output import CONFIG, read_config
from automl.preparing import prepare_to
from automl.study import Study
from automl.tables import (
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


def _any_study(config: Path, output: Path | None, overrides: list[str] | None) -> AnyStudy:
    """The study of a configuration, whatever its family."""
    return open_study(_existing(config), overrides or [], output)


def _study(config: Path, output: Path | None, overrides: list[str] | None) -> Study:
    path = _existing(config)
    return Study(load_config(path, overrides or []), output or Path("runs") / path.stem)


def _looking(config: Path, output: Path | None, overrides: list[str] | None) -> Study:
    """As `_study`, for commands that only look.

    Where no directory is named and the default one is another configuration's, this one gets a
    directory of its own; it is made when something has to be written.
    """
    try:
        return _study(config, output, overrides)
    except InputError:
        path = _existing(config)
        settings = load_config(path, overrides or [])
        if output is not None:
            raise
        return _apart(path, settings)


def _leaving(config: Path, output: Path | None, overrides: list[str] | None) -> Study:
    """As `_looking`, for a command that leaves a file.

    A default directory that is no study's yet stays free: it would be this configuration's from
    then on.
    """
    study = _looking(config, output, overrides)
    if output is not None or (study.output / CONFIG).exists():
        return study
    return _apart(_existing(config), study.config)


def _apart(path: Path, settings: StudyConfig) -> Study:
    return Study(settings, Path("runs") / f"{path.stem}-{settings.key}")


def _show(as_json: bool, value: Any, *tables: Any) -> None:
    if as_json:
        print(json.dumps(value))
        return
    console = Console(width=None if sys.stdout.isatty() else 120)
    for table in tables:
        console.print(table, soft_wrap=isinstance(table, str), highlight=False)


def run(
    overrides: list[str] | None,
    config: Path,
    output: Path | None,
    as_json: bool,
) -> None:
    """As `supersam run`."""
    study = _any_study(config, output, overrides)
    study.run_until(REPORT)
    value, tables = study.summary()
    _show(as_json, value, *tables, where_to_look(study))


def prepare(
    overrides: list[str] | None,
    config: Path,
    output: Path | None,
    layout: str | None,
    strict: bool,
    to: str | None,
    as_json: bool,
) -> None:
    """As `supersam prepare`."""
    given = [f"prepare.format={layout}"] if layout else []
    given += ["prepare.strict=true"] if strict else []
    if to is not None:
        if output is not None:
            raise InputError("--to: give it or --output, not both")
        summary = prepare_to(load_config(_existing(config), [*(overrides or []), *given]), to)
    else:
        study = _study(config, output, [*(overrides or []), *given])
        study.run_until("data")
        to, summary = str(study.output), study.prepared()
    shown: list[Any] = [splits_table(summary)]
    if summary.left_out():
        shown.append(left_out_table(summary))
    if summary.pictures_per_second is not None:
        shown.append(f"{summary.pictures_per_second:.1f} pictures per second")
    _show(as_json, {"output": addresses.shown(to), **summary.to_dict()}, *shown)


def profile(
    overrides: list[str] | None,
    config: Path,
    output: Path | None,
    as_json: bool,
) -> None:
    """As `supersam profile`."""
    study = _looking(config, output, overrides)
    value = study.profile()
    _show(as_json, value, profile_table(value), reach_table(value), profile_notes(value))


def latency(
    overrides: list[str] | None,
    config: Path,
    output: Path | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """As `supersam latency`."""
    study = _leaving(config, output, overrides)
    value = study.latency(threads)
    where = f"The table: {study.output / 'latency.json'}"
    value = {"output": str(study.output), **value}
    front = [front_latency_table(value)] if value["front"] else []
    _show(as_json, value, latency_table(value), *front, latency_notes(value), where)


def prioritise(
    overrides: list[str] | None,
    config: Path,
    output: Path | None,
    as_json: bool,
) -> None:
    """As `supersam prioritise`."""
    study = _study(config, output, overrides)
    study.run_until("prioritise")
    rows = study.layer_worth()
    _show(as_json, {"output": str(study.output), "layers": rows}, importance_table(rows))


def search(
    overrides: list[str] | None,
    config: Path,
    output: Path | None,
    as_json: bool,
) -> None:
    """As `supersam search`."""
    study = _study(config, output, overrides)
    study.run_until("designs")
    rows = study.designs()
    _show(as_json, {"output": str(study.output), "designs": rows}, designs_table(rows))


def train(
    overrides: list[str] | None,
    config: Path,
    output: Path | None,
    as_json: bool,
) -> None:
    """As `supersam train`."""
    study = _study(config, output, overrides)
    study.run_until("final")
    best = study.best_design()
    value = {"output": str(study.output), "design": best.key, **best.to_dict()}
    _show(as_json, value, f"design {best.key}: the supernet is in {study.output / 'supernet'}")


def evaluate(
    overrides: list[str] | None,
    config: Path,
    output: Path | None,
    subnet: str | None,
    model: Path | None,
    split: str,
    prompts: list[str] | None,
    pictures: int | None,
    max_objects: int | None,
    min_area: int | None,
    as_json: bool,
) -> None:
    """As `supersam evaluate`."""
    unknown = [name for name in prompts or () if name not in PROMPTS]
    if unknown:
        raise InputError(f"--prompts: {unknown[0]!r} is unknown; choose from {', '.join(PROMPTS)}")
    asked = tuple(kind for kind in PROMPTS if kind in prompts) if prompts else PROMPTS[:2]
    study = (_study if subnet else _looking)(config, output, overrides)
    value = study.evaluate(
        subnet,
        model=model,
        split=split,
        prompts=asked,
        pictures=pictures,
        max_objects=max_objects,
        min_area=min_area,
    )
    _show(as_json, value, *evaluation_tables(value))


def export(
    words: list[str] | None,
    config: Path,
    output: Path | None,
    subnet: str | None,
    best: list[str] | None,
    to: str,
    int8: bool,
    into: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """As `supersam export`."""
    keys = [word for word in words or () if "=" not in word]
    overrides = [word for word in words or () if "=" in word]
    check_format(to, int8)
    study = _there(config, output, overrides)
    key = _one_subnet(study, keys + ([subnet] if subnet else []), best or [])
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
    _show(as_json, value, export_summary(value))


def report(
    overrides: list[str] | None,
    config: Path,
    output: Path | None,
    as_json: bool,
) -> None:
    """As `supersam report`."""
    study = _any_study(config, output, overrides)
    path = study.write_report()
    value, tables = study.summary()
    value = {"report": str(path), "front": value["front"]}
    _show(as_json, value, *tables, f"Report: {path}")


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


def _there(config: Path, output: Path | None, overrides: list[str]) -> Study:
    """As `_study`; a directory that alone is named says what its study's configuration is."""
    if output is None or overrides or config != QUICK_START or not (output / CONFIG).is_file():
        return _study(config, output, overrides)
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
