"""Every encoding through the cache is compared with one without it, to the bit."""

import gc
import random
import weakref

import pytest
import torch
from test_families import CONFIGS
from tiny import random_tensor, tiny_sam

from search_spaces import Subnet, SubnetSpace
from trainables.sam.prefix_cache import REMEMBERED, PrefixCache
from trainables.sam.supernet import Supernet

UNBOUNDED = 1 << 40


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


@pytest.fixture
def supernet(config):
    supernet = Supernet(tiny_sam(config=config))
    rng = torch.Generator().manual_seed(1)
    for name, buffer in supernet.sam.image_encoder.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5, generator=rng)
    return supernet


@pytest.fixture
def batches(config):
    """Of different sizes, as the last one of a split is."""
    side = config.image_size
    return [random_tensor(count, 3, side, side, seed=count) for count in (2, 3, 1)]


def space_of(config):
    """Every layer but the second can go: the last of a stage, and the last of all, among them."""
    widths = tuple((width // 4, width) for width in config.mlp_widths)
    heads = tuple((1, count) for count in config.full_heads)
    probabilities = [0.4] * config.depth
    probabilities[1] = 0.0
    return SubnetSpace(widths, tuple(probabilities), heads)


def sampled(config, count, seed=0):
    """Subnets in random order, some of them twice."""
    rng, space = random.Random(seed), space_of(config)
    without = [space.largest.without({layer}, space.full_heads) for layer in space.removable]
    found = [space.largest, space.smallest, *without]
    found += [space.sample(rng) for _ in range(count - len(found))]
    rng.shuffle(found)
    return found


class Watched:
    """What an encoder runs, and which tensors that it gave are still there."""

    def __init__(self, encoder):
        self.stems = self.blocks = self.given_bytes = 0
        self._alive = []
        stem, run_block, layers = encoder.stem, encoder.run_block, encoder.layers

        def watched_stem(pictures):
            self.stems += 1
            return self._note(stem(pictures))

        def watched_block(*arguments):
            self.blocks += 1
            return run_block(*arguments)

        def watched_layers(tokens, subnet, **which):
            return self._note(layers(tokens, subnet, **which))

        encoder.stem, encoder.run_block = watched_stem, watched_block
        encoder.layers = watched_layers

    def _note(self, tokens):
        self.given_bytes += tokens.untyped_storage().nbytes()
        self._alive.append(weakref.ref(tokens))
        return tokens

    def alive_bytes(self):
        alive = [tokens for ref in self._alive if (tokens := ref()) is not None]
        return sum({t.data_ptr(): t.untyped_storage().nbytes() for t in alive}.values())


def prefixes(subnets, full_heads):
    """All that the subnets start with, up to the whole."""
    found = set()
    for subnet in subnets:
        kept = list(subnet.sizes(full_heads).items())
        found.update(tuple(kept[:end]) for end in range(1, len(kept) + 1))
    return found


@torch.no_grad()
@pytest.mark.parametrize("held", [0, 5, 12, 10**9])
def test_it_gives_what_the_supernet_gives_and_keeps_to_its_bound(supernet, config, batches, held):
    """In turn, out of turn, with more and with less room than a subnet's own tokens take."""
    subnets = sampled(config, 25)
    expected = [[supernet(batch, subnet) for batch in batches] for subnet in subnets]
    bound = held * supernet.encoder.stem(batches[0]).untyped_storage().nbytes()
    cache = PrefixCache(supernet, bound)
    rng = random.Random(1)
    watched = Watched(supernet.encoder)
    for subnet, wanted in zip(subnets, expected, strict=True):
        for number in rng.sample(range(3), 1 + rng.randrange(3)):
            found = cache.encode(number, lambda n=number: batches[n], subnet)
            assert torch.equal(found, wanted[number])
            assert found.stride() == wanted[number].stride()
            del found
            assert watched.alive_bytes() == cache.bytes <= bound
    assert cache.layers_run == watched.blocks
    assert (cache.layers_saved > 0) == (held > 0)
    if held < 10**9:
        assert watched.given_bytes > 2 * bound


@torch.no_grad()
def test_what_subnets_share_runs_once(supernet, config, batches):
    subnets = list(dict.fromkeys(sampled(config, 25)))
    cache = PrefixCache(supernet, UNBOUNDED)
    watched = Watched(supernet.encoder)
    for subnet in subnets:
        for number, batch in enumerate(batches[:2]):
            cache.encode(number, lambda batch=batch: batch, subnet)
    shared = 2 * len(prefixes(subnets, supernet.encoder.full_heads))
    layers = 2 * sum(subnet.depth for subnet in subnets)
    assert shared < 0.8 * layers
    assert watched.blocks == cache.layers_run == shared
    assert cache.layers_saved == layers - shared
    assert watched.stems == 2 + 2  # each batch's, and one picture of each to count its MACs


@torch.no_grad()
def test_pictures_are_asked_for_only_where_they_are_needed(supernet, config, batches):
    cache = PrefixCache(supernet, UNBOUNDED)
    first, second = space_of(config).largest, space_of(config).smallest
    cache.encode(0, lambda: batches[0], first)

    def never():
        raise AssertionError("the stem's tokens were there")

    assert torch.equal(cache.encode(0, never, second), supernet(batches[0], second))


@torch.no_grad()
def test_what_is_asked_for_often_stays(sam):
    """It would not where the prefix that was used longest ago goes first."""
    supernet = Supernet(sam)
    pictures = random_tensor(1, 3, 64, 64)
    cache = PrefixCache(supernet, 3 * supernet.encoder.stem(pictures).untyped_storage().nbytes())
    for start in range(6):
        # Two start alike, then come five that have nothing in common with any other.
        for width in (8, 16):
            subnet = Subnet((0, 1, 2, 3), (128, 128, width + start, 128))
            cache.encode(0, lambda: pictures, subnet)
        for other in range(5):
            cache.encode(0, lambda: pictures, Subnet((0, 1), (9 + 5 * start + other, 128)))
    # Of two layers in each of eleven, and as long as nothing is asked for often, one goes.
    assert cache.layers_saved >= 2 * 11 - 1


@torch.no_grad()
def test_what_was_not_asked_for_in_long_is_forgotten(sam):
    supernet = Supernet(sam)
    pictures = random_tensor(1, 3, 64, 64)
    cache = PrefixCache(supernet, 0)
    for i in range(4 * REMEMBERED):
        subnet = Subnet((0, 1, 2, 3), (1 + i % 128, 1 + i // 128, 1, 1))
        cache.encode(0, lambda: pictures, subnet)
    gc.collect()
    known = [thing for thing in gc.get_objects() if type(thing).__name__ == "_Prefix"]
    assert len(known) <= 1 + 4 * 2 * REMEMBERED


@torch.no_grad()
def test_an_encoder_that_writes_into_its_input_is_found_out(sam):
    supernet = Supernet(sam)
    pictures = random_tensor(1, 3, 64, 64)
    cache = PrefixCache(supernet, UNBOUNDED)
    supernet.encoder.run_block = lambda layer, tokens, *size: tokens.mul_(2)
    cache.encode(0, lambda: pictures, Subnet((0, 1), (8, 8)))
    with pytest.raises(RuntimeError, match="writes into its input"):
        cache.encode(0, lambda: pictures, Subnet((0, 1), (8, 16)))


def test_nothing_keeps_a_graph(supernet, config, batches):
    cache = PrefixCache(supernet, UNBOUNDED)
    for subnet in sampled(config, 10)[:3]:
        assert not cache.encode(0, lambda: batches[0], subnet).requires_grad
    assert torch.is_grad_enabled()
