"""Whether the inputs of a study of SAM can be used: before anything runs."""

from collections.abc import Sequence

from automl.sam.config import PACKAGED_DATA, StudyConfig
from automl.sam.reach import check_reachable
from automl.sam.workspace import Workspace
from search_spaces.errors import InputError
from trainables.data.pictures import Pictures
from trainables.data.prepare import is_prepared
from trainables.data.splits import SPLITS
from trainables.data.storage import Location
from trainables.sam.models import load_sam


def data_source(config: StudyConfig) -> Location:
    """The data set that is asked for.

    Raises:
        InputError: there is none, it can't be reached, or its prepared splits can't be used.
    """
    source = Location.at(PACKAGED_DATA.get(config.data, config.data))
    try:
        if not (source.is_folder() or source.is_file()):
            raise InputError(
                f"data: {config.data} is neither a folder nor a data set that ships "
                f"({', '.join(PACKAGED_DATA)})"
            )
        if is_prepared(source):
            for split in SPLITS:
                Pictures(source / f"{split}.parquet")
    except OSError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"data: {config.data} can't be reached: {reason}") from error
    return source


def check_inputs(workspace: Workspace, stages: Sequence[str]) -> None:
    """Refuse what can't work before anything is written.

    Args:
        workspace: of the study.
        stages: those that are still to run.

    Raises:
        InputError: the data set, the parent or a constraint can't be used.
    """
    config = workspace.config
    if "data" in stages:
        data_source(config)
    if "prioritise" in stages:
        check_reachable(workspace, None)
        load_sam(config.model, config.checkpoint_path, config.image_size)
