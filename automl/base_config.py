"""What the configurations of all families have in common."""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from search_spaces.addresses import shown
from search_spaces.content_key import content_key


class Section(BaseModel):
    """A part of a configuration: unknown keys are refused, and nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ResourcesConfig(Section):
    """What Ray reserves for each stage. They change no result but the order of evaluations.

    Args:
        train_workers: processes of a training, each with `train_cpus` and `train_gpus`.
        train_gpus: null: 1 where the cluster has GPUs, else 0.
        evaluators: processes that evaluate subnets side by side, each with `evaluator_cpus` and
            `evaluator_gpus`.
        evaluator_gpus: a fraction shares a GPU; null: the share with which all evaluators run at
            once, at most 1, and 0 where the cluster has no GPUs.
        evaluator_cache_mb: of the memory where the model is, for what subnets have in common.
        start_timeout_s: how long a stage waits for room on the cluster.
    """

    train_workers: int = Field(1, ge=1)
    train_cpus: float = Field(2, gt=0)
    train_gpus: float | None = Field(None, ge=0)
    evaluators: int = Field(1, ge=1)
    evaluator_cpus: float = Field(2, gt=0)
    evaluator_gpus: float | None = Field(None, ge=0)
    evaluator_cache_mb: int = Field(1024, ge=0)
    start_timeout_s: int = Field(60, ge=1)


class TrackingConfig(Section):
    """Where MLflow keeps its runs; by default `mlflow.db` beside the output directory.

    Args:
        uri: of a store or a server; null: the default.
        experiment: its name.
        patience_s: how long a study that is done waits for a server that is away.
    """

    uri: str | None = None
    experiment: str = "supersam"
    patience_s: int = Field(3600, ge=0)


class BaseConfig(Section):
    """Everything that a study does follows from its configuration and the seed in it.

    Args:
        family: what is searched; see `automl/families.py`.
        seed: every random choice follows from it.
    """

    family: str
    seed: int = Field(0, ge=0)
    resources: ResourcesConfig = ResourcesConfig()
    tracking: TrackingConfig = TrackingConfig()

    @property
    def key(self) -> str:
        """Content hash of all that changes a result."""
        return content_key(self.result_values())

    def result_values(self) -> dict[str, Any]:
        """What results follow from; not where things run and are logged."""
        left_out = {"family", "resources", "tracking"}
        return self.without_secrets().model_dump(mode="json", exclude=left_out)

    def without_secrets(self) -> Self:
        """The same without passwords and keys in its addresses: what files and pages may show."""
        tracking = self.tracking.model_copy(
            update={"uri": self.tracking.uri and shown(self.tracking.uri)}
        )
        return self.model_copy(update={"tracking": tracking})
