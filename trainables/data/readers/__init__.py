"""The layouts of data sets that can be read: one module each, with the names of `Reader`."""

from search_spaces.errors import InputError
from trainables.data.reader import Reader
from trainables.data.readers import ade20k, coco, em_stacks, label_maps, sa1b
from trainables.data.storage import Location

READERS: dict[str, Reader] = {
    "coco": coco,
    "sa1b": sa1b,
    "ade20k": ade20k,
    "em_stacks": em_stacks,
    "label_maps": label_maps,
}
"""By the names that users give."""


def find_reader(folder: Location, name: str | None = None) -> Reader:
    """The reader for a data set.

    Args:
        folder: the data set's folder, or the one file that describes it.
        name: of `READERS`; None: recognised by what is there.

    Raises:
        InputError: there is nothing, the name is unknown, or the layout can't be told.
    """
    if name is not None and name not in READERS:
        raise InputError(f"format: {name!r} is unknown; choose from {', '.join(READERS)}")
    if not (folder.is_folder() or folder.is_file()):
        raise InputError(f"data: {folder} does not exist")
    if name is not None:
        return READERS[name]
    found = [known for known, reader in READERS.items() if reader.recognises(folder)]
    if len(found) == 1:
        return READERS[found[0]]
    if found:
        raise InputError(
            f"data: the layout of {folder} may be {' or '.join(found)}; say which with --format"
        )
    layouts = "; ".join(f"{known}: {reader.LAYOUT}" for known, reader in READERS.items())
    raise InputError(f"data: the layout of {folder} is not recognised; known are {layouts}")
