"""The output directory of any study."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automl.base_config import BaseConfig


@dataclass(frozen=True)
class BaseWorkspace:
    """The output directory of a study.

    Args:
        config: of the study.
        root: the output directory, absolute; every node must reach it.
    """

    config: BaseConfig
    root: Path

    @property
    def work(self) -> Path:
        """What is needed only until the study is done: checkpoints, Ray's state, ledger parts."""
        return self.root / "work"

    def ledger_part(self, name: str) -> Path:
        """The ledger's part for one search."""
        return self.work / "ledger" / f"{name}.parquet"

    def __getstate__(self) -> dict[str, Any]:
        # Other processes read what was prepared: they need no way to where it came from.
        return {"config": self.config.without_secrets(), "root": self.root}
