"""What every command is asked."""

from dataclasses import dataclass
from pathlib import Path

QUICK_START = Path("configs/quickstart.yaml")


@dataclass(frozen=True)
class Asked:
    """Which study a command is about, and how it shows what it finds.

    Args:
        overrides: `KEY=VALUE`.
        config: the path of a YAML file.
        output: the study's directory; None: one named after the file.
        as_json: one JSON object rather than tables.
    """

    overrides: list[str] | None
    config: Path
    output: Path | None
    as_json: bool
