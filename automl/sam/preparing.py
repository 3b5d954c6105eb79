"""Bringing a data set's splits to where they are wanted: copied, or prepared by tasks on Ray."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import ray
from rich.console import Console

from automl.base_config import ResourcesConfig
from automl.cluster import join
from automl.progress import StageProgress, StudyProgress
from automl.sam.config import StudyConfig
from automl.sam.inputs import data_source
from trainables.data.chunks import Chunk, ChunkResult, Mapper
from trainables.data.prepare import copy_prepared, is_prepared, prepare
from trainables.data.reader import ReadOptions
from trainables.data.splits import SplitRule
from trainables.data.storage import Location
from trainables.data.summary import PrepareSummary, read_summary

FEW_CHUNKS = 6
"""So many are read sooner than Ray starts."""
TASKS_PER_CPU = 2
"""Results held at a time: enough that no CPU waits, and bounded."""


def bring_data(config: StudyConfig, target: Location, share: StageProgress) -> None:
    """Put the three splits of a study's data set into a folder.

    Raises:
        InputError: the data set can't be used, or the folder can't be written.
    """
    source, settings = data_source(config), config.prepare
    if is_prepared(source):
        copy_prepared(source, target)
        return
    prepare(
        source,
        target,
        rule=SplitRule(settings.val, settings.test, config.seed),
        layout=settings.format,
        options=ReadOptions(
            tuple(settings.categories) if settings.categories is not None else None,
            settings.tile,
            settings.tile_overlap,
        ),
        min_area=settings.min_area,
        max_side=settings.max_side,
        limits={str(split): most for split, most in settings.limits.items()},
        strict=settings.strict,
        mapper=ray_mapper(config.resources),
        progress=lambda done, total: share.update(done, total, f"{done} of {total} pictures"),
    )


def prepare_to(config: StudyConfig, place: str, console: Console | None = None) -> PrepareSummary:
    """Prepare a configuration's data set without a study.

    Args:
        config: says what is prepared and how.
        place: the folder for the splits, a local path or a URI.
        console: where progress is shown; standard error by default.

    Raises:
        InputError: as `bring_data`.
    """
    target = Location.at(place)
    with (
        StudyProgress({"data": 1.0}, console or Console(stderr=True)) as progress,
        progress.stage("data") as share,
    ):
        bring_data(config, target, share)
    return read_summary(target)


def ray_mapper(resources: ResourcesConfig) -> Mapper:
    """A `map` over chunks whose work is done by Ray tasks of one CPU each, in any number of nodes.

    Ray is joined, or started, when there is enough to do.
    """

    def run(
        function: Callable[[Chunk], ChunkResult], chunks: Iterable[Chunk]
    ) -> Iterator[ChunkResult]:
        remaining = iter(chunks)
        first = list(itertools.islice(remaining, FEW_CHUNKS))
        if len(first) < FEW_CHUNKS:
            yield from map(function, first)
            return
        join(resources)
        task = ray.remote(function).options(num_cpus=1)
        most = TASKS_PER_CPU * max(1, int(ray.cluster_resources().get("CPU", 1)))
        running: deque[ray.ObjectRef] = deque()
        try:
            for chunk in itertools.chain(first, remaining):
                if len(running) == most:
                    yield ray.get(running.popleft())
                running.append(task.remote(chunk))
            while running:
                yield ray.get(running.popleft())
        finally:  # where no more is asked for
            for reference in running:
                ray.cancel(reference)

    return run
