import itertools
import math
import shutil

import pytest
import torch
from pydantic import ValidationError
from tiny import SPACE, batch_loss, tiny_sam

from search_spaces import SubnetSpace
from search_spaces.errors import InputError
from trainables.checksums import CHECKSUMS
from trainables.sam.models import read_state_dict
from trainables.sam.supernet import Supernet
from trainables.supernet import (
    OPTIMISER,
    STATE,
    WEIGHTS,
    TrainingSettings,
    learning_rate_at,
    load_checkpoint,
    make_optimiser,
    sound_checkpoint,
    train_supernet,
)

SETTINGS = TrainingSettings(
    batch_size=2, learning_rate=1e-3, warmup=2, max_objects=3, checkpoint_every=2
)


class Reports:
    """Keeps what training reports; checkpoint folders are copied, as Ray Train does."""

    def __init__(self, folder):
        self.folder = folder
        self.metrics = []
        self.checkpoints = {}

    def __call__(self, metrics, folder):
        self.metrics.append(metrics)
        if folder is not None:
            kept = self.folder / f"step-{metrics['step']}"
            shutil.copytree(folder, kept)
            self.checkpoints[metrics["step"]] = kept


@pytest.fixture(scope="module")
def train(train_pictures, tmp_path_factory):
    def run(supernet, steps, *, checkpoint=None, settings=SETTINGS, space=SPACE, seed=0):
        reports = Reports(tmp_path_factory.mktemp("training"))
        train_supernet(
            supernet,
            space,
            train_pictures,
            settings,
            steps=steps,
            horizon=12,
            prompts="mixed",
            seed=seed,
            checkpoint=checkpoint,
            report=reports,
        )
        return reports

    return run


@pytest.fixture(scope="module")
def whole(train):
    """An uninterrupted training of 5 steps and what it reported."""
    supernet = Supernet(tiny_sam())
    return supernet, train(supernet, 5)


def assert_same(found, expected):
    """To the bit; also nested states of an optimiser."""
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def optimiser_state(checkpoint):
    return torch.load(checkpoint / OPTIMISER, weights_only=True)


def test_resumed_equals_uninterrupted_to_the_bit(train, whole):
    supernet, reports = whole
    resumed = Supernet(tiny_sam(seed=9))
    then = train(resumed, 5, checkpoint=reports.checkpoints[2])
    assert_same(resumed.sam.state_dict(), supernet.sam.state_dict())
    assert_same(optimiser_state(then.checkpoints[5]), optimiser_state(reports.checkpoints[5]))
    assert then.metrics == reports.metrics[2:]


@pytest.mark.parametrize("name", [WEIGHTS, OPTIMISER, STATE, CHECKSUMS])
@pytest.mark.parametrize("how", ["bit", "cut", "gone"])
def test_where_a_checkpoint_is_damaged_the_one_before_it_is_taken(whole, tmp_path, name, how):
    for step, folder in whole[1].checkpoints.items():
        shutil.copytree(folder, tmp_path / f"checkpoint_{step:06d}")
    newest, before = tmp_path / "checkpoint_000005", tmp_path / "checkpoint_000004"
    said = []
    assert (sound_checkpoint(newest, said.append), said) == (newest, [])
    content = bytearray((newest / name).read_bytes())
    content[len(content) // 2] ^= 1
    damage = {"bit": content, "cut": content[:-1], "gone": None}[how]
    if damage is None:
        (newest / name).unlink()
    else:
        (newest / name).write_bytes(damage)
    assert sound_checkpoint(newest, said.append) == before
    (line,) = said
    assert "checkpoint_000005 is damaged" in line
    assert name in line or name == CHECKSUMS
    for folder in (before, tmp_path / "checkpoint_000002"):
        (folder / WEIGHTS).unlink()
    assert sound_checkpoint(newest, said.append) is None


def test_of_checkpoints_that_a_clock_has_named_that_of_most_steps_is_taken(whole, tmp_path):
    _, reports = whole
    # The clock was put back an hour before the last two.
    for step, hour in ((2, "15"), (4, "14"), (5, "14.1")):
        shutil.copytree(reports.checkpoints[step], tmp_path / f"checkpoint_{hour}")
    newest = tmp_path / "checkpoint_14.1"
    (newest / WEIGHTS).unlink()
    said = []
    assert sound_checkpoint(newest, said.append) == tmp_path / "checkpoint_14"
    (tmp_path / "checkpoint_14" / STATE).unlink()
    assert sound_checkpoint(newest, said.append) == tmp_path / "checkpoint_15"


def test_neither_checkpoints_nor_the_global_generator_change_the_training(train, whole):
    supernet, _ = whole
    again = Supernet(tiny_sam())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(77)
        reports = train(again, 5, settings=SETTINGS.model_copy(update={"checkpoint_every": 9}))
    assert list(reports.checkpoints) == [5]
    assert_same(again.sam.state_dict(), supernet.sam.state_dict())


def test_another_seed_trains_otherwise(train, whole):
    other = train(Supernet(tiny_sam()), 1, seed=1)
    assert other.metrics[0]["loss"] != whole[1].metrics[0]["loss"]


def test_a_finished_training_repeats_nothing(train, whole):
    _, reports = whole
    again = Supernet(tiny_sam(seed=9))
    assert train(again, 5, checkpoint=reports.checkpoints[5]).metrics == []
    assert_same(again.sam.state_dict(), read_state_dict(reports.checkpoints[5] / WEIGHTS))


def test_every_step_is_reported_and_checkpoints_come_when_due(whole):
    _, reports = whole
    assert [metrics["step"] for metrics in reports.metrics] == [1, 2, 3, 4, 5]
    assert all(math.isfinite(metrics["loss"]) for metrics in reports.metrics)
    assert list(reports.checkpoints) == [2, 4, 5]


def test_a_checkpoint_of_another_space_is_refused_with_both_keys(train, whole):
    folder = whole[1].checkpoints[2]
    other = SubnetSpace(SPACE.widths, (0.25, 0.0, 0.25, 0.3))
    supernet = Supernet(tiny_sam(seed=9))
    with pytest.raises(InputError, match="the checkpoint was trained for space") as raised:
        train(supernet, 4, space=other, checkpoint=folder)
    assert all(part in str(raised.value) for part in (str(folder), SPACE.key, other.key))
    assert_same(supernet.sam.state_dict(), tiny_sam(seed=9).state_dict())


def test_a_loaded_checkpoint_gives_its_step(whole):
    supernet = Supernet(tiny_sam(seed=9))
    optimiser = make_optimiser(supernet, SETTINGS)
    assert load_checkpoint(supernet, optimiser, SPACE, whole[1].checkpoints[4]) == 4
    assert {int(state["step"]) for state in optimiser.state.values()} == {4}


def test_the_prompt_encoder_does_not_change_and_the_rest_does(whole):
    before, after = tiny_sam().state_dict(), whole[0].sam.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any(name.startswith("prompt_encoder.") for name in changed)
    for part in ("image_encoder.blocks.0.", "image_encoder.neck.", "mask_decoder.transformer."):
        wanted = {name for name in before if name.startswith(part)}
        # The biases of keys among which tokens choose change nothing.
        assert changed >= {name for name in wanted if not name.endswith("to_image.k_proj.bias")}


def test_a_loss_that_is_not_finite_stops_the_training(train):
    supernet = Supernet(tiny_sam())
    with torch.no_grad():
        supernet.sam.image_encoder.neck[0].weight.fill_(float("inf"))
    before = [p.detach().clone() for p in supernet.parameters()]
    with pytest.raises(FloatingPointError):
        train(supernet, 2)
    assert all(torch.equal(p, old) for p, old in zip(supernet.parameters(), before, strict=True))


def test_training_lowers_the_loss_of_every_kind_of_subnet(train, batch):
    supernet = Supernet(tiny_sam())
    subnets = (SPACE.largest, SPACE.smallest)
    with torch.no_grad():
        before = [float(batch_loss(supernet, batch, subnet)) for subnet in subnets]
    train(supernet, 12, settings=SETTINGS.model_copy(update={"checkpoint_every": 99}))
    with torch.no_grad():
        after = [float(batch_loss(supernet, batch, subnet)) for subnet in subnets]
    assert all(now < 0.9 * then for now, then in zip(after, before, strict=True))


def test_the_model_is_in_evaluation_mode_afterwards(whole):
    assert not any(module.training for module in whole[0].modules())


def test_the_learning_rate_warms_up_to_its_peak_and_falls_to_a_hundredth():
    settings = TrainingSettings(learning_rate=0.5, warmup=4)
    rates = [learning_rate_at(step, 20, settings) for step in range(30)]
    assert rates[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert all(a > b for a, b in itertools.pairwise(rates[4:21]))
    assert rates[12] == pytest.approx(0.5 * (1 + 0.01) / 2)
    assert rates[20:] == pytest.approx([0.005] * 10)


def test_without_warm_up_the_first_step_has_the_peak():
    settings = TrainingSettings(learning_rate=0.5, warmup=0)
    assert learning_rate_at(0, 10, settings) == 0.5


def test_the_learning_rate_reaches_the_optimiser(whole):
    for step, checkpoint in whole[1].checkpoints.items():
        groups = optimiser_state(checkpoint)["param_groups"]
        assert {group["lr"] for group in groups} == {learning_rate_at(step - 1, 12, SETTINGS)}


def test_each_trained_parameter_is_in_one_group_and_only_matrices_decay(supernet):
    optimiser = make_optimiser(supernet, SETTINGS)
    decayed, plain = ([id(p) for p in group["params"]] for group in optimiser.param_groups)
    assert sorted(decayed + plain) == sorted(id(p) for p in supernet.trained_parameters())
    assert [group["weight_decay"] for group in optimiser.param_groups] == [0.05, 0.0]
    for name, p in supernet.sam.named_parameters():
        if name.endswith(("bias", "pos_embed", "rel_pos_h", "rel_pos_w", "_token.weight")):
            assert id(p) not in decayed
        if name.endswith(("qkv.weight", "lin1.weight", "lin2.weight")):
            assert id(p) in decayed


@pytest.mark.parametrize(
    "values", [{"batch_size": 0}, {"learning_rate": 0}, {"warmup": -1}, {"epochs": 3}]
)
def test_impossible_settings_are_refused(values):
    with pytest.raises(ValidationError, match=next(iter(values))):
        TrainingSettings(**values)
