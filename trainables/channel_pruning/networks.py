"""The networks that can be pruned, by name, and their weights."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from search_spaces.errors import InputError
from trainables.channel_pruning.cifar_resnet import CIFAR_RESNETS, CifarResNet
from trainables.channel_pruning.resnet import RESNETS, ResNet
from trainables.channel_pruning.vgg import VGG, VGGS
from trainables.checkpoint_names import check_names
from trainables.own_code import named_function

NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    **{name: partial(CifarResNet, config) for name, config in CIFAR_RESNETS.items()},
    **{name: partial(ResNet, config) for name, config in RESNETS.items()},
    **{name: partial(VGG, config) for name, config in VGGS.items()},
}
"""From the number of classes to a network with random weights."""

CLASSIFIERS = ("fc", "linear", "classifier.6")
"""Where the last linear layer is, whose outputs are the classes; a network has one of them."""

_WRAPPINGS = ("state_dict", "model")
_PARALLEL = "module."
_COUNTER = ".num_batches_tracked"


def build_network(name: str, classes: int, *, seed: int = 0) -> nn.Module:
    """A network with random weights, drawn from the seed alone.

    Raises:
        InputError: there is no network of this name.
    """
    if name not in NETWORKS:
        raise InputError(f"network: {name} is none of {', '.join(NETWORKS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NETWORKS[name](classes)


def find_network(name: str) -> Callable[[int], nn.Module]:
    """The function that makes a network of some number of classes; its Python file is run.

    Args:
        name: of `NETWORKS`, or `FILE.py:NAME`, or `package.module:NAME`.

    Raises:
        InputError: the name is unknown, or there is no such file, module or function.
    """
    if ":" in name:
        return named_function(name, "network", NETWORKS)
    if name not in NETWORKS:
        raise InputError(
            f"network: {name} is none of {', '.join(NETWORKS)}; a function of your own is "
            "FILE.py:NAME or package.module:NAME"
        )
    return NETWORKS[name]


def classifier_name(network: nn.Module) -> str:
    """The path of the last linear layer.

    Raises:
        InputError: it is not where one of the known networks has it.
    """
    modules = dict(network.named_modules())
    for name in CLASSIFIERS:
        if isinstance(modules.get(name), nn.Linear):
            return name
    raise InputError(
        f"network: no classifier found; one of {', '.join(CLASSIFIERS)} must be linear"
    )


def load_network(name: str, checkpoint: Path, classes: int) -> nn.Module:
    """A network with a checkpoint's weights, in eval mode.

    Its name is one that `find_network` takes. The checkpoint is a state dict, plain or under
    `state_dict` or `model`, its names with or without the `module.` of a parallel training.

    Raises:
        InputError: the file is missing, unreadable, of another network, or of another number of
            classes.
    """
    network = find_network(name)(classes)
    if not isinstance(network, nn.Module):
        raise InputError(f"network: {name} makes a {type(network).__name__}, and no torch module")
    found = _read(checkpoint)
    wanted = network.state_dict()
    # Weights from before torch counted batches lack the counters, which nothing needs.
    found |= {key: t for key, t in wanted.items() if key.endswith(_COUNTER) and key not in found}
    head = classifier_name(network)
    _check_classes(checkpoint, found.get(f"{head}.weight"), classes)
    _check(name, checkpoint, found, wanted)
    network.load_state_dict(found)
    return network.eval()


def _read(checkpoint: Path) -> dict[str, Tensor]:
    if not checkpoint.is_file():
        raise InputError(f"checkpoint: {checkpoint} does not exist; give the path of a file")
    try:
        if checkpoint.suffix == ".safetensors":
            content: Any = load_file(checkpoint)
        else:
            content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's unpickler raises nearly anything on a broken file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"checkpoint: {checkpoint} can't be read as weights: {reason}") from error
    for wrapping in _WRAPPINGS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapping), Mapping):
            content = content[wrapping]
    if not isinstance(content, Mapping) or not all(isinstance(t, Tensor) for t in content.values()):
        raise InputError(f"checkpoint: {checkpoint} holds no table of tensors (a state dict)")
    return {str(key).removeprefix(_PARALLEL): tensor for key, tensor in content.items()}


def _check_classes(checkpoint: Path, weight: Tensor | None, classes: int) -> None:
    if weight is not None and len(weight) != classes:
        raise InputError(
            f"checkpoint: {checkpoint} was trained for {len(weight)} classes, and the data have "
            f"{classes}; give a checkpoint for {classes} classes, or the data it was trained for"
        )


def _check(
    name: str, checkpoint: Path, found: dict[str, Tensor], wanted: dict[str, Tensor]
) -> None:
    check_names(name, checkpoint, found, wanted)
    for key, tensor in wanted.items():
        if found[key].shape != tensor.shape:
            raise InputError(
                f"checkpoint: {checkpoint} is no {name}: {key} has shape "
                f"{list(found[key].shape)}, not {list(tensor.shape)}"
            )
