import pytest
import torch
from tiny import random_subnets
from torch.overrides import TorchFunctionMode

from trainables.sam.encoder import Mlp, elastic, sliced_mlp
from trainables.sam.scores import SCORES, order_of
from trainables.sam.units import reorder


class LinearWeights(TorchFunctionMode):
    """Records the weights that pass through `torch.nn.functional.linear`."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.nn.functional.linear:
            self.weights.append(args[1])
        return function(*args, **(kwargs or {}))


def test_the_largest_subnet_is_the_original_encoder_to_the_bit(sam, images):
    encoder = elastic(sam.image_encoder)
    with torch.no_grad():
        assert torch.equal(encoder(images, encoder.largest), sam.image_encoder(images))


def test_the_largest_subnet_has_the_original_gradients_to_the_bit(sam, images):
    encoder = elastic(sam.image_encoder)
    parameters = list(sam.image_encoder.parameters())
    ours = torch.autograd.grad(encoder(images, encoder.largest).square().mean(), parameters)
    theirs = torch.autograd.grad(sam.image_encoder(images).square().mean(), parameters)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_the_elastic_encoder_holds_the_parents_parameters_and_no_others(sam):
    encoder = elastic(sam.image_encoder)
    held = {p.data_ptr() for p in encoder.parameters()}
    assert held == {p.data_ptr() for p in sam.image_encoder.parameters()}


@pytest.mark.parametrize("index", range(4))
def test_slices_are_views_of_the_parents_weights(sam, images, space, index):
    subnet = random_subnets(4, space)[index]
    encoder = elastic(sam.image_encoder)
    with torch.no_grad(), LinearWeights() as seen:
        encoder(images, subnet)
    used = {(w.data_ptr(), w.shape, w.stride()) for w in seen.weights}
    for layer, width in zip(subnet.layers, subnet.mlp_widths, strict=True):
        first, second = (getattr(sam.image_encoder.blocks[layer].mlp, n).weight for n in _LINEARS)
        assert (first.data_ptr(), (width, 32), first.stride()) in used
        assert (second.data_ptr(), (32, width), second.stride()) in used


_LINEARS = ("lin1", "lin2")


@pytest.mark.parametrize("index", range(1, 6))
def test_no_gradient_reaches_what_is_outside_the_slice(sam, images, space, index):
    subnet = random_subnets(6, space)[index]
    elastic(sam.image_encoder)(images, subnet).square().sum().backward()
    kept = dict(zip(subnet.layers, subnet.mlp_widths, strict=True))
    for layer, block in enumerate(sam.image_encoder.blocks):
        if layer not in kept:
            assert all(p.grad is None for p in block.parameters())
            continue
        width = kept[layer]
        rows, columns = block.mlp.lin1.weight.grad, block.mlp.lin2.weight.grad.T
        for gradient in (rows, columns, block.mlp.lin1.bias.grad[:, None]):
            assert gradient[:width].norm() > 0
            assert not gradient[width:].any()


def test_which_subnet_ran_before_leaves_no_trace(sam, images, space):
    encoder = elastic(sam.image_encoder)
    with torch.no_grad():
        before = encoder(images, space.smallest)
        encoder(images, space.largest)
        assert torch.equal(encoder(images, space.smallest), before)
        assert not torch.equal(encoder(images, space.largest), before)


def test_a_sliced_mlp_is_the_sum_over_its_first_neurons(sam):
    mlp = sam.image_encoder.blocks[0].mlp
    token = torch.linspace(-1, 1, 32)
    expected = mlp.lin2.bias.clone()
    for i in range(5):
        hidden = mlp.act(mlp.lin1.weight[i] @ token + mlp.lin1.bias[i])
        expected = expected + mlp.lin2.weight[:, i] * hidden
    torch.testing.assert_close(
        sliced_mlp(Mlp(mlp.lin1, mlp.act, mlp.lin2), token, 5), expected, rtol=1e-5, atol=1e-6
    )


def test_any_reordering_of_neurons_changes_no_output(sam, images):
    rng = torch.Generator().manual_seed(0)
    before_weight = sam.image_encoder.blocks[0].mlp.lin1.weight.clone()
    with torch.no_grad():
        before = sam.image_encoder(images)
        orders = [torch.randperm(128, generator=rng) for _ in range(4)]
        reorder(elastic(sam.image_encoder).neurons, orders)
        after = sam.image_encoder(images)
    assert not torch.equal(sam.image_encoder.blocks[0].mlp.lin1.weight, before_weight)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("metric", sorted(set(SCORES) - {"random"}))
def test_after_reordering_neurons_stand_by_descending_score(supernet, batch, metric):
    neurons = supernet.encoder.neurons
    before = SCORES[metric](supernet, [batch], 0, neurons)
    orders = order_of(before)
    assert all(not torch.equal(order, torch.arange(128)) for order in orders)
    reorder(neurons, orders)
    for old, new in zip(before, SCORES[metric](supernet, [batch], 0, neurons), strict=True):
        assert (new.diff() <= 1e-6 * new[0]).all()
        expected = old.sort(descending=True).values
        # PASS's scores may be near 0, where rounding is as large as elsewhere.
        torch.testing.assert_close(new, expected, rtol=1e-4, atol=1e-6 * float(old.abs().max()))


def test_reordering_keeps_the_parameters_in_their_place(supernet):
    before = [p.data_ptr() for p in supernet.parameters()]
    neurons = supernet.encoder.neurons
    reorder(neurons, order_of(SCORES["magnitude"](supernet, [], 0, neurons)))
    assert [p.data_ptr() for p in supernet.parameters()] == before


@pytest.mark.parametrize(
    "order", [torch.arange(127), torch.zeros(128, dtype=torch.int64), torch.arange(1, 129)]
)
def test_an_order_that_is_no_permutation_is_refused(sam, order):
    with pytest.raises(ValueError, match="every unit once"):
        reorder(elastic(sam.image_encoder).neurons, [order] * 4)
