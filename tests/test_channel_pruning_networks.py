import pytest
import torch
from reading import real_data
from small_networks import CLASSES, network_of, pictures
from torch import nn
from torch.nn import functional as F

from search_spaces.errors import InputError
from trainables.channel_pruning.cifar_resnet import PaddedShortcut
from trainables.channel_pruning.data.reading import read_images
from trainables.channel_pruning.evaluation import accuracy
from trainables.channel_pruning.networks import (
    NETWORKS,
    build_network,
    classifier_name,
    load_network,
)


def on_meta(name: str, classes: int = 1000) -> nn.Module:
    with torch.device("meta"):
        return NETWORKS[name](classes)


@pytest.mark.parametrize(
    ("name", "classes", "params"),
    [
        ("resnet18", 1000, 11_689_512),
        ("resnet34", 1000, 21_797_672),
        ("resnet50", 1000, 25_557_032),
        ("vgg16", 1000, 138_357_544),
        ("vgg16_bn", 1000, 138_365_992),
        ("resnet20", 10, 269_722),
        ("resnet56", 10, 853_018),
    ],
)
def test_networks_have_as_many_weights_as_the_published_ones(name, classes, params):
    assert sum(p.numel() for p in on_meta(name, classes).parameters()) == params


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("resnet18", ["conv1.weight", "layer2.0.downsample.1.running_var", "fc.bias"]),
        ("resnet50", ["layer1.0.downsample.0.weight", "layer4.2.conv3.weight", "fc.weight"]),
        ("vgg16", ["features.0.bias", "features.28.weight", "classifier.6.weight"]),
        ("vgg16_bn", ["features.1.running_mean", "features.41.weight", "classifier.3.bias"]),
    ],
)
def test_tensors_are_named_as_in_torchvision(name, keys):
    assert set(keys) <= set(on_meta(name).state_dict())


def test_networks_equal_torchvisions_where_it_is_installed():
    models = pytest.importorskip("torchvision.models", exc_type=(ImportError, RuntimeError))
    for name in ("resnet18", "resnet50"):
        theirs = models.get_model(name, num_classes=CLASSES).eval()
        ours = build_network(name, CLASSES).eval()
        ours.load_state_dict(theirs.state_dict())
        torch.testing.assert_close(ours(pictures()), theirs(pictures()))


def test_the_seed_alone_says_the_weights():
    before = torch.get_rng_state()
    first, again, other = (build_network("resnet20", 10, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.conv1.weight, again.conv1.weight)
    assert not torch.equal(first.conv1.weight, other.conv1.weight)


def test_the_padded_shortcut_is_every_second_pixel_with_zeros_around():
    x = pictures(2, 6)[:, :, :5]
    expected = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 2))
    assert torch.equal(PaddedShortcut(3, 6)(x), expected)


def test_a_shortcut_goes_without_channels_on_either_side():
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = PaddedShortcut(4, 8)(x)
    small = PaddedShortcut(4, 8)
    small.remove_inputs([1])
    small.remove_outputs([0, 4])
    expected = whole.clone()
    expected[:, 3] = 0  # two zeros stand before: channel 1 comes out at place 3
    kept = [1, 2, 3, 5, 6, 7]
    assert torch.equal(small(x[:, [0, 2, 3]]), expected[:, kept])


def test_a_checkpoint_is_found_under_its_wrappings(tmp_path):
    network = network_of("resnet20")
    state = {
        f"module.{key}": tensor
        for key, tensor in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    torch.save({"state_dict": state, "best_prec1": 90.0}, tmp_path / "weights.th")
    loaded = load_network("resnet20", tmp_path / "weights.th", CLASSES)
    assert not loaded.training
    assert torch.equal(loaded(pictures()), network(pictures()))


def test_checkpoints_that_do_not_fit_are_named_in_a_line(tmp_path):
    path = tmp_path / "weights.pt"
    network = network_of("resnet20")
    torch.save(network.state_dict(), path)
    cases = [
        ("resnet20", path, 10, "was trained for 5 classes, and the data have 10"),
        ("resnet56", path, CLASSES, "is no resnet56: it lacks layer1.3.conv1.weight"),
        ("resnet20", tmp_path / "nothing.pt", CLASSES, "does not exist"),
        ("resnet19", path, CLASSES, "resnet19 is none of resnet20, "),
    ]
    torn = tmp_path / "torn.pt"
    torn.write_bytes(path.read_bytes()[:1000])
    cases.append(("resnet20", torn, CLASSES, "can't be read as weights"))
    more = tmp_path / "more.pt"
    torch.save({**network.state_dict(), "extra": torch.zeros(1)}, more)
    cases.append(("resnet20", more, CLASSES, "it has unknown extra"))
    other = tmp_path / "other.pt"
    torch.save({**network.state_dict(), "bn1.weight": torch.zeros(3)}, other)
    cases.append(("resnet20", other, CLASSES, "bn1.weight has shape [3], not [16]"))
    for name, file, classes, message in cases:
        with pytest.raises(InputError) as error:
            load_network(name, file, classes)
        assert message in str(error.value)
        assert "\n" not in str(error.value)


def test_a_network_without_a_known_classifier_is_refused():
    with pytest.raises(InputError, match="no classifier found"):
        classifier_name(nn.Sequential(nn.Conv2d(3, 4, 1)))


@pytest.mark.parametrize(("name", "known"), [("resnet20", 0.804), ("resnet56", 0.841)])
def test_the_real_weights_are_as_good_as_known(name, known):
    """On 400 of the test pictures: within three standard errors of the figure on 2,000."""
    weights = next(real_data("cifar_resnets").glob(f"{name}-*.th"))
    images = read_images(real_data("cifar10"))["test"]
    some = images.subset(range(0, len(images), 25))
    network = load_network(name, weights, 10)
    found = accuracy(network, some, image_size=32, device=torch.device("cpu"))
    assert found == pytest.approx(known, abs=0.06)
