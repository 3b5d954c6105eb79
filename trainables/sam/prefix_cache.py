"""Tokens that subnets share: what comes behind the first layers in which they agree.

Subnets of one supernet that have the same first layers, at the same sizes, compute the same tokens
there for the same pictures. They are kept, so that the next of these subnets starts behind them.
Nothing else changes: a layer runs on the tensor that it would have run on, so that results are the
same to the bit.

What is worth its memory? Tokens save the layers since the next shorter prefix whose tokens are kept
as well, as often as a subnet comes that starts with them. So, as in greedy-dual caches (Cherkasova,
HPL-98-69R1), those go first that have the least

    value = visits · (MACs since the next shorter prefix kept) / bytes · ½^(age / HALF_LIFE)

where visits count whether tokens were kept or not, and the age is how many subnets the pictures
have seen since the last visit.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from search_spaces.subnet import LayerSize, Subnet
from trainables.sam.supernet import Supernet

HALF_LIFE = 20
"""Subnets without a visit after which a prefix is worth half."""
REMEMBERED = 2 * HALF_LIFE
"""Subnets without a visit after which a prefix without tokens is forgotten."""
EVICTED = 0.05
"""Share of what is kept that goes at a time, at least, so that values are seldom compared."""


@dataclass(eq=False, slots=True)
class _Prefix:
    """The stem and some first layers, on one batch of pictures.

    Args:
        shorter: the same without its last layer; None for the stem alone.
        stop: the layer of the parent before which it ends.
        macs: of its last layer, or of the stem, on all pictures of the batch.
        visits: how many subnets started with it.
        last: how many subnets the batch had seen when the last of them did.
        tokens: what comes behind it, where that is kept.
        version: of the tokens when they were made; torch counts what is written into them.
        longer: those with one layer more, by that layer.
    """

    shorter: "_Prefix | None"
    stop: int
    macs: float
    visits: int = 0
    last: int = 0
    tokens: Tensor | None = None
    version: int = 0
    longer: dict[tuple[int, LayerSize], "_Prefix"] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Batch:
    """So many pictures, and what is known of their tokens."""

    pictures: int
    stem: _Prefix


class PrefixCache:
    """Encodes batches of pictures with one subnet after the other, and keeps tokens on the way.

    It is for weights that stay as they are: `Evaluator`, which holds it, sees to that.

    Args:
        supernet: the weights.
        max_bytes: of all tokens that are kept; they lie where the weights are.

    Attributes:
        bytes: of all tokens that are kept at present.
        layers_run: layers that ran; each counts once for each batch.
        layers_saved: those that did not, thanks to tokens that were kept.
    """

    def __init__(self, supernet: Supernet, max_bytes: int) -> None:
        self.bytes = self.layers_run = self.layers_saved = 0
        self._encoder = supernet.encoder
        self._costs = supernet.costs
        self._max_bytes = max_bytes
        self._depth = len(supernet.encoder.blocks)
        self._full_heads = supernet.encoder.full_heads
        self._batches: dict[int, _Batch] = {}
        self._kept: dict[_Prefix, _Batch] = {}

    @torch.no_grad()
    def encode(self, batch: int, pictures: Callable[[], Tensor], subnet: Subnet) -> Tensor:
        """What `supernet(pictures(), subnet)` gives, to the bit: [B, 256, S/16, S/16].

        Args:
            batch: a number that stands for the same pictures in every call.
            pictures: gives the encoder's input [B, 3, S, S]; called where it is needed.
            subnet: which slices of the weights.

        Raises:
            RuntimeError: the encoder wrote into tokens that it was given.
        """
        if batch not in self._batches:
            self._batches[batch] = self._new_batch(pictures())
        known = self._batches[batch]
        path = self._visit(known, subnet)
        saved = max((i for i, p in enumerate(path) if p.tokens is not None), default=None)
        if saved is None:
            saved, tokens = 0, self._encoder.stem(pictures())
            self._keep(known, path[0], tokens)
        else:
            tokens = _kept_tokens(path[saved])
        for prefix in path[saved + 1 :]:
            assert prefix.shorter is not None
            start = prefix.shorter.stop
            tokens = self._encoder.layers(tokens, subnet, start=start, stop=prefix.stop)
            self._keep(known, prefix, tokens)
        self.layers_saved += saved
        self.layers_run += subnet.depth - saved
        # What every subnet has behind the layers that may go stands there without them, too.
        tokens = self._encoder.layers(tokens, subnet, start=path[-1].stop)
        return self._encoder.head(tokens)

    def _new_batch(self, pictures: Tensor) -> _Batch:
        with FlopCounterMode(display=False) as counter:
            self._encoder.stem(pictures[:1])
        count = len(pictures)
        return _Batch(count, _Prefix(None, 0, counter.get_total_flops() / 2 * count))

    def _visit(self, batch: _Batch, subnet: Subnet) -> list[_Prefix]:
        """The prefixes of a subnet on a batch, from the stem alone to all layers."""
        path = [batch.stem]
        for layer, size in subnet.sizes(self._full_heads).items():
            longer = path[-1].longer
            if (layer, size) not in longer:
                macs = batch.pictures * self._macs(layer, size)
                longer[layer, size] = _Prefix(path[-1], layer + 1, macs)
            path.append(longer[layer, size])
        seen = batch.stem.visits + 1
        for prefix in path:
            prefix.visits, prefix.last = prefix.visits + 1, seen
        if seen % REMEMBERED == 0:
            _forget(batch.stem, seen - REMEMBERED)
        return path

    def _macs(self, layer: int, size: LayerSize) -> int:
        alone = Subnet.of({layer: size}, self._full_heads)
        return self._costs.costs(alone).encoder_macs - self._costs.fixed_macs

    def _keep(self, batch: _Batch, prefix: _Prefix, tokens: Tensor) -> None:
        """Keep tokens that a subnet can start with and that are worth more than others."""
        if prefix.stop == self._depth:
            return  # only the same subnet would start with them
        prefix.tokens, prefix.version = tokens, tokens._version
        self._kept[prefix] = batch
        self.bytes += _bytes(tokens)
        if self.bytes > self._max_bytes:
            self._evict()

    def _evict(self) -> None:
        ranked = sorted(self._kept, key=self._value)
        for gone, prefix in enumerate(ranked):
            if self.bytes <= self._max_bytes and gone >= EVICTED * len(ranked):
                return
            assert prefix.tokens is not None
            self.bytes -= _bytes(prefix.tokens)
            prefix.tokens = None
            del self._kept[prefix]

    def _value(self, prefix: _Prefix) -> float:
        """What keeping its tokens is worth; see the head of this file."""
        assert prefix.tokens is not None
        macs, shorter = prefix.macs, prefix.shorter
        while shorter is not None and shorter.tokens is None:
            macs, shorter = macs + shorter.macs, shorter.shorter
        age = self._kept[prefix].stem.visits - prefix.last
        recency: float = 0.5 ** (age / HALF_LIFE)
        return prefix.visits * macs / _bytes(prefix.tokens) * recency


def _kept_tokens(prefix: _Prefix) -> Tensor:
    assert prefix.tokens is not None
    if prefix.tokens._version != prefix.version:
        raise RuntimeError(
            f"what runs behind layer {prefix.stop - 1} writes into its input; evaluation shares "
            "tokens between subnets, so the encoder must leave them as they are"
        )
    return prefix.tokens


def _bytes(tokens: Tensor) -> int:
    """The memory that goes when they do: a view holds all of what it is a view of."""
    return tokens.untyped_storage().nbytes()


def _forget(prefix: _Prefix, before: int) -> bool:
    """Drop what lies behind a prefix, has no tokens, and was not visited for long.

    Returns:
        Whether the prefix itself is still needed.
    """
    prefix.longer = {k: p for k, p in prefix.longer.items() if _forget(p, before)}
    return bool(prefix.longer) or prefix.tokens is not None or prefix.last > before
