import copy
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_networks import coloured_images, network_of
from torch.nn import functional as F

from search_spaces.errors import InputError
from trainables.channel_pruning.budgets import Budget
from trainables.channel_pruning.checkpoints import WEIGHTS
from trainables.channel_pruning.cosine import cosine
from trainables.channel_pruning.costs import count_macs
from trainables.channel_pruning.data.batches import Augment, normalised, plain_batches
from trainables.channel_pruning.evaluation import accuracy, recalibrate
from trainables.channel_pruning.fine_tuning import FineTuneSettings, fine_tune
from trainables.channel_pruning.hypernetwork import HyperNetwork, HyperSettings
from trainables.channel_pruning.mask_training import CURRENT, MaskSettings, share_at, train_masks
from trainables.channel_pruning.prunable import Prunable

SIZE, STEPS = 16, 6
NO_SHIFT = Augment(shift=0, flip=True)
MASKS = MaskSettings(batch_size=8, augment=NO_SHIFT, checkpoint_every=2)
TUNING = FineTuneSettings(
    batch_size=8, learning_rate=0.05, recalibration=2, checkpoint_every=2, augment=NO_SHIFT
)
BUDGET = Budget(share=0.5)


@pytest.fixture(scope="module")
def images():
    return coloured_images(size=SIZE)


@pytest.fixture
def prunable():
    return Prunable.of(network_of("cifar"), SIZE)


def hyper(prunable, **settings):
    shape = HyperSettings(hidden=16, embedding=8, **settings)
    return HyperNetwork(shape, prunable.groups, SIZE, seed=0)


class Reports:
    """Keeps the metrics, and copies of the checkpoints."""

    def __init__(self, folder: Path):
        self.folder, self.metrics, self.saved = folder, [], []

    def __call__(self, metrics, checkpoint):
        self.metrics.append(metrics)
        if checkpoint is not None:
            kept = self.folder / f"step-{metrics['step']}"
            shutil.copytree(checkpoint, kept)
            self.saved.append(kept)


def same(first, second) -> bool:
    return all(torch.equal(t, second[key]) for key, t in first.items())


def trained_masks(prunable, images, hypernetwork, settings=MASKS, **given):
    given = {"steps": STEPS, "horizon": STEPS, "seed": 1} | given
    return train_masks(hypernetwork, prunable, images, BUDGET, settings, **given)


@pytest.mark.parametrize("shape", ["linear", "cubic"])
def test_the_budget_goes_from_nearly_all_to_the_target(shape):
    settings = MaskSettings(ramp=0.5, ramp_shape=shape, start_share=0.9)
    shares = [share_at(step, 100, 0.3, settings) for step in range(100)]
    assert shares == sorted(shares, reverse=True)
    assert 0.85 < shares[0] < 0.9
    assert shares[48] > 0.3
    assert set(shares[49:]) == {0.3}
    assert share_at(0, 100, 0.95, settings) == pytest.approx(0.95)


def test_mask_training_changes_the_hypernetwork_and_not_the_network(prunable, images, tmp_path):
    hypernetwork, reports = hyper(prunable), Reports(tmp_path)
    network, start = (copy.deepcopy(m.state_dict()) for m in (prunable.network, hypernetwork))
    selection = trained_masks(prunable, images, hypernetwork, report=reports)
    assert same(network, prunable.network.state_dict())
    trained = hypernetwork.state_dict()
    assert [key for key, t in start.items() if torch.equal(t, trained[key])] == []
    kept = selection.kept(prunable.groups)
    assert prunable.macs(kept) <= 0.5 * prunable.table.macs(prunable.widths)
    assert [m["step"] for m in reports.metrics] == [1, 2, 3, 4, 5, 6]
    assert reports.metrics[-1]["share"] == 0.5
    assert [path.name for path in reports.saved] == ["step-2", "step-4", "step-6"]


def test_masks_learn_which_channels_matter(images):
    """The loss of the masked network falls, at a budget that stays the same."""
    network = network_of("cifar")
    tuned = FineTuneSettings(batch_size=20, learning_rate=0.05, augment=NO_SHIFT)
    fine_tune(network, images, tuned, steps=30, horizon=30, image_size=SIZE, seed=0)
    prunable = Prunable.of(network, SIZE)
    settings = MaskSettings(
        batch_size=30, augment=NO_SHIFT, start_share=0.5, learning_rate=5e-3, masking="inputs"
    )
    losses = []
    train_masks(
        hyper(prunable),
        prunable,
        images,
        BUDGET,
        settings,
        steps=40,
        horizon=40,
        seed=0,
        report=lambda metrics, _: losses.append(metrics["loss"]),
    )
    assert sum(losses[-8:]) < 0.8 * sum(losses[:8])


def test_a_resumed_mask_training_equals_an_uninterrupted_one(prunable, images, tmp_path):
    whole, resumed = hyper(prunable), hyper(prunable)
    reports = Reports(tmp_path)
    expected = trained_masks(prunable, images, whole, report=reports)
    found = trained_masks(prunable, images, resumed, checkpoint=reports.saved[0])
    assert same(whole.state_dict(), resumed.state_dict())
    assert found.thresholds == expected.thresholds
    assert found.kept(prunable.groups) == expected.kept(prunable.groups)
    with pytest.raises(InputError, match="train anew in another output directory"):
        trained_masks(prunable, images, resumed, checkpoint=reports.saved[0], seed=2)


@pytest.mark.parametrize("averaged", [0.0, 0.5])
def test_the_channels_are_those_of_weights_averaged_over_part_of_the_training(
    prunable, images, tmp_path, averaged
):
    hypernetwork, reports = hyper(prunable), Reports(tmp_path)
    settings = MASKS.model_copy(update={"checkpoint_every": 1, "averaged": averaged})
    trained_masks(prunable, images, hypernetwork, settings, report=reports)
    steps = [load_file(folder / f"{CURRENT}.safetensors") for folder in reports.saved]
    expected, left = steps[0], 1 - 1 / (averaged * STEPS) if averaged else 0.0
    for now in steps[1:]:
        expected = {name: left * t + (1 - left) * now[name] for name, t in expected.items()}
    found = hypernetwork.state_dict()
    for name, t in load_file(reports.saved[-1] / WEIGHTS).items():
        torch.testing.assert_close(t, expected[name])
        assert torch.equal(t, found[name])


def test_an_update_is_as_long_whatever_the_loss_is_multiplied_by(prunable, images, monkeypatch):
    found = []
    for factor in (1, 100):
        real = F.cross_entropy
        with monkeypatch.context() as patch:
            patch.setattr(F, "cross_entropy", lambda *given, by=factor, of=real: by * of(*given))
            hypernetwork = hyper(prunable)
            trained_masks(prunable, images, hypernetwork, steps=1)
        found.append(hypernetwork.state_dict())
    for name, t in found[0].items():
        torch.testing.assert_close(t, found[1][name])


def test_mask_training_leaves_the_global_generator_alone(prunable, images):
    before = torch.get_rng_state()
    trained_masks(prunable, images, hyper(prunable), steps=1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("masking", ["both", "inputs"])
@pytest.mark.parametrize("batch_statistics", [True, False])
def test_masks_train_in_every_way(prunable, images, masking, batch_statistics):
    settings = MASKS.model_copy(
        update={"masking": masking, "batch_statistics": batch_statistics, "ramp_shape": "linear"}
    )
    hypernetwork = hyper(prunable, temperature=0.5)
    before = copy.deepcopy(hypernetwork.state_dict())
    trained_masks(prunable, images, hypernetwork, settings, steps=2)
    assert not same(before, hypernetwork.state_dict())


def test_a_budget_out_of_reach_is_an_input_error_before_any_step(prunable, images):
    with pytest.raises(InputError, match="below one channel a group"):
        train_masks(
            hyper(prunable), prunable, images, Budget(share=1e-4), MASKS, steps=1, horizon=1, seed=0
        )


@pytest.mark.parametrize("name", ["cifar", "vgg_bn"])
def test_a_slimmed_network_learns(images, name):
    prunable = Prunable.of(network_of(name), SIZE)
    selection = trained_masks(prunable, images, hyper(prunable))
    slim = prunable.slimmed(selection.kept(prunable.groups))
    assert count_macs(slim, SIZE) <= 0.5 * count_macs(prunable.network, SIZE)
    cpu = torch.device("cpu")
    before = accuracy(slim, images, image_size=SIZE, device=cpu)
    settings = TUNING.model_copy(update={"batch_size": 20})
    fine_tune(slim, images, settings, steps=60, horizon=60, image_size=SIZE, seed=0)
    assert not slim.training
    assert accuracy(slim, images, image_size=SIZE, device=cpu) > max(0.5, before + 0.1)


@pytest.mark.parametrize("name", ["cifar", "vgg"])  # VGG has dropout
def test_a_resumed_fine_tuning_equals_an_uninterrupted_one(images, tmp_path, name):
    whole, resumed = network_of(name), network_of(name)
    reports, state = Reports(tmp_path), torch.get_rng_state()
    given = {"steps": STEPS, "horizon": STEPS, "image_size": SIZE, "seed": 3}
    fine_tune(whole, images, TUNING, report=reports, **given)
    assert torch.equal(torch.get_rng_state(), state)
    fine_tune(resumed, images, TUNING, checkpoint=reports.saved[1], **given)
    assert same(whole.state_dict(), resumed.state_dict())
    with pytest.raises(InputError, match="train anew"):
        fine_tune(resumed, images, TUNING, checkpoint=reports.saved[1], **(given | {"horizon": 99}))


def test_the_learning_rate_falls_along_a_cosine():
    rates = [cosine(0.2, step, 10) for step in range(12)]
    assert rates[0] == 0.2
    assert rates[5] == pytest.approx(0.1)
    assert rates[10] == rates[11] == 0
    assert rates == sorted(rates, reverse=True)


def test_recalibration_measures_the_norms_anew(images):
    network = network_of("cifar")
    weights = {k: v.clone() for k, v in network.named_parameters()}
    recalibrate(network, images, image_size=SIZE, batch_size=len(images) // 2, batches=2)
    # Every other picture: where they come class by class, each batch has all classes.
    halves = [images.subset(range(first, len(images), 2)) for first in (0, 1)]
    batches = [
        normalised(b.pictures)
        for half in halves
        for b in plain_batches(half, batch_size=len(half), image_size=SIZE)
    ]
    means = [network.conv1(b).mean((0, 2, 3)) for b in batches]
    torch.testing.assert_close(network.bn1.running_mean, (means[0] + means[1]) / 2)
    assert same(weights, dict(network.named_parameters()))
    assert network.bn1.momentum == 0.1
    assert not network.bn1.training


def test_in_bf16_weights_stay_fp32_and_losses_are_near(images, tmp_path):
    losses = {}
    for precision in ("fp32", "bf16"):
        network = Prunable.of(network_of("cifar"), SIZE)
        reports = [Reports(tmp_path / precision / name) for name in ("masks", "tuning")]
        masks = MASKS.model_copy(update={"precision": precision})
        trained_masks(network, images, hyper(network), masks, report=reports[0])
        tuning = TUNING.model_copy(update={"precision": precision})
        fine_tune(
            network.network,
            images,
            tuning,
            steps=STEPS,
            horizon=STEPS,
            image_size=SIZE,
            seed=1,
            report=reports[1],
        )
        assert all(t.dtype == torch.float32 for t in network.network.parameters())
        losses[precision] = [found.metrics[0]["loss"] for found in reports]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)
    for own, plain in zip(losses["bf16"], losses["fp32"], strict=True):
        assert own != plain
