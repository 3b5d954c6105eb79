"""Convolutions of a model, exchanged for ours."""

import copy
from collections.abc import Callable, Mapping
from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional as F

from search_spaces.conv_plan import ConvPlan
from search_spaces.errors import InputError
from trainables.convolution.functional import conv2d
from trainables.convolution.tuned import TunedTable

Model = TypeVar("Model", bound=nn.Module)


class Im2winConv2d(nn.Conv2d):
    """A `Conv2d` whose products are computed as a plan says; its state dict is the same.

    Args:
        other: the convolution whose parameters it has: the same tensors.
        plan: how it computes; a table, or None: what suits the shape that it meets.
    """

    def __init__(self, other: nn.Conv2d, plan: ConvPlan | TunedTable | None = None) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(copy.copy(other.__dict__))
        for name in ("_parameters", "_buffers", "_modules"):
            self.__dict__[name] = dict(other.__dict__[name])
        self.plan = plan

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        padding: str | int | tuple[int, ...] = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = 0
        return conv2d(
            input, weight, bias, self.stride, padding, self.dilation, self.groups, plan=self.plan
        )


def swap_convolutions(
    model: Model,
    plan: ConvPlan | TunedTable | Mapping[str, ConvPlan | TunedTable] | None = None,
    *,
    takes: Callable[[str, nn.Conv2d], bool] | None = None,
) -> Model:
    """A copy of a model in which convolutions are ours; the model itself stays as it is.

    Parameters and buffers are the same tensors in both: training one trains the other. Swapped are
    `Conv2d` themselves, no classes derived from it, with a kernel larger than the stride in some
    direction; others have nothing to share, and stay PyTorch's.

    Args:
        model: may be a `Conv2d` itself.
        plan: for all, or for each by its path in the model; a missing one is chosen by the shape,
            as is each of a table of tuned plans.
        takes: which of them, by path and module; None: all.

    Raises:
        InputError: a plan is for a path where no such convolution is.
    """
    shared = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    new: Model = copy.deepcopy(model, dict(shared))
    found = {
        name: module
        for name, module in new.named_modules()
        if type(module) is nn.Conv2d
        and _overlaps(module)
        and (takes is None or takes(name, module))
    }
    plans = plan if isinstance(plan, Mapping) else dict.fromkeys(found, plan)
    if missing := sorted(set(plans) - set(found)):
        raise InputError(
            f"plan: {missing[0]!r} is no convolution that can be swapped; there are "
            f"{', '.join(map(repr, found)) or 'none'}"
        )
    for name, module in found.items():
        ours = Im2winConv2d(module, plans.get(name))
        if not name:
            return ours  # type: ignore[return-value]
        new.set_submodule(name, ours)
    return new


def _overlaps(module: nn.Conv2d) -> bool:
    pairs = zip(module.kernel_size, module.stride, strict=True)
    return any(kernel > stride for kernel, stride in pairs)
