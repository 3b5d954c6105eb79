"""How much memory a computation needs at most, beyond what was there before it."""

import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Output = TypeVar("Output")


def peak_bytes(run: Callable[[], Output], device: torch.device) -> tuple[Output, int]:
    """What a computation gives, and by how many bytes memory grows at its peak.

    On a GPU what torch's allocator says; elsewhere tensors are counted, from the operation that
    makes one until nothing holds it any more, and not what an operation takes inside.

    Args:
        run: without gradients.
        device: where it computes.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        output = run()
        return output, torch.cuda.max_memory_allocated(device) - before
    with _TensorCount() as counted:
        output = run()
    return output, counted.peak


class _TensorCount(TorchDispatchMode):
    """Counts bytes of the tensors that operations make."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._alive = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {_address(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        output = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(output):
            if isinstance(leaf, Tensor) and _address(leaf) not in given:
                self._count(leaf)
        self.peak = max(self.peak, self._alive)
        return output

    def _count(self, tensor: Tensor) -> None:
        storage, address = tensor.untyped_storage(), _address(tensor)
        if address not in self._known:
            self._known.add(address)
            self._alive += storage.nbytes()
            weakref.finalize(storage, self._forget, address, storage.nbytes())

    def _forget(self, address: int, size: int) -> None:
        self._known.discard(address)
        self._alive -= size


def _address(tensor: Tensor) -> int:
    """Of the tensor's memory: views share it."""
    return tensor.untyped_storage().data_ptr()
