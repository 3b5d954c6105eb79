"""What a space of designs must fit: the parent's layers and heads, the scores there are, itself."""

from search_spaces.design import FORMULA, DesignSpace
from search_spaces.errors import InputError
from trainables.sam.family import EncoderConfig
from trainables.sam.scores import find_score, score_label


def check_scores(space: DesignSpace, where: str) -> None:
    """Check that the scores of the designs on offer are there.

    Raises:
        InputError: there is no such score.
    """
    for metric in space.metric:
        find_score(metric, f"{where}: designs.space.metric")


def check_designs(space: DesignSpace, model: str, encoder: EncoderConfig, where: str) -> None:
    """Check the designs on offer for a parent.

    Args:
        space: the designs.
        model: the parent's name.
        encoder: the parent's.
        where: named in errors.

    Raises:
        InputError: a layer does not exist, no layer is sure to stay, or a parameter would have no
            effect.
    """
    key, depth = f"{where}: designs.space", encoder.depth
    layers = {"protected": space.protected, "probabilities": tuple(space.probabilities)}
    for name, named in layers.items():
        outside = [layer for layer in named if not 0 <= layer < depth]
        if outside:
            raise InputError(
                f"{key}.{name}: {model} has no layer {outside[0]}; its layers are 0 to {depth - 1}"
            )
    labels = [score_label(metric) for metric in dict.fromkeys(space.metric)]
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(f"{key}.metric: two scores are named {label}; rename one of them")
    if space.has_elastic_heads and max(encoder.full_heads, default=0) < 2:
        raise InputError(
            f"{key}.smallest_heads: {model} has no attention heads that a subnet could go without; "
            "leave it out"
        )
    if not space.probabilities:
        return
    if sum(max(offered) > 0 for offered in space.offered_probabilities.values()) == depth:
        raise InputError(
            f"{key}.probabilities: each of the {depth} layers may go; leave one out, which always "
            "stays"
        )
    fields = type(space).model_fields
    for name in (*FORMULA, "protected", "protect_above"):
        if getattr(space, name) != fields[name].default:
            raise InputError(
                f"{key}.{name} has no effect where probabilities are given; leave out one of them"
            )
