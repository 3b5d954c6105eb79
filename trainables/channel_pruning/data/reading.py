"""From a place to the three splits, whatever its layout."""

from pathlib import Path

from search_spaces.errors import InputError
from trainables.channel_pruning.data import cifar, published
from trainables.channel_pruning.data.class_folders import class_folders
from trainables.channel_pruning.data.image_set import ImageSet
from trainables.data.splits import SPLITS, SplitRule


def read_images(place: Path, rule: SplitRule | None = None) -> dict[str, ImageSet]:
    """`train`, `val` and `test`.

    What a published layout lacks is taken out of `train`, picture by picture, as the rule's hash
    of its name says; a published test split stays as it is.

    Args:
        place: a folder, or a ZIP file of class folders.
        rule: shares of `val` and `test`, where they are not given.

    Raises:
        InputError: the layout is unknown, or there is something wrong with it.
    """
    rule = rule or SplitRule()
    for reader in (cifar, published):
        if reader.recognises(place):
            found = reader.read(place)
            break
    else:
        found = class_folders(place)
    return _completed(place, found, rule)


def _completed(place: Path, found: dict[str, ImageSet], rule: SplitRule) -> dict[str, ImageSet]:
    whole = found.get("train", found.get("all"))
    if whole is None:
        raise InputError(f"data: {place} has no pictures to train with")
    shares = SplitRule(
        0 if "val" in found else rule.val, 0 if "test" in found else rule.test, rule.seed
    )
    indices: dict[str, list[int]] = {split: [] for split in SPLITS}
    for i, name in enumerate(whole.names):
        indices[shares.split(name)].append(i)
    splits = {split: found.get(split) or whole.subset(indices[split]) for split in ("val", "test")}
    splits["train"] = whole.subset(indices["train"])
    for split in SPLITS:
        if not len(splits[split]):
            raise InputError(f"data: {place}: no picture falls into {split}; give more pictures")
    return {split: splits[split] for split in SPLITS}
