"""Plans measured, and the table of those that are worth having."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from search_spaces import InputError
from search_spaces.conv_plan import PYTORCH, ConvPlan, Tiles, default_plan
from search_spaces.conv_shape import ConvShape
from trainables.convolution import functional
from trainables.convolution.functional import conv2d
from trainables.convolution.measure import Bench, Memory, WrongResultError, peak_of
from trainables.convolution.modules import swap_convolutions
from trainables.convolution.tuned import TunedLayer, TunedPlan, TunedTable
from trainables.device_name import device_name

SHAPE = ConvShape(2, 3, (14, 11), 5, (3, 5), (2, 1))
CPU = torch.device("cpu")
FAST, LEAN = ConvPlan(layout="nhwc", block_kib=4), ConvPlan(slices="columns", block_kib=1)


def table(shape: ConvShape = SHAPE, device: str | None = None, dtype: str = "float32") -> Any:
    plans = (
        TunedPlan(plan=LEAN, latency_ms=2.0, peak_bytes=100),
        TunedPlan(plan=FAST, latency_ms=1.0, peak_bytes=200),
    )
    name = device or device_name(CPU)
    return TunedTable(
        layers=(TunedLayer(name="a", shape=shape, device=name, dtype=dtype, plans=plans),)
    )


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    table().save(tmp_path / "tuned.json")
    assert TunedTable.load(tmp_path / "tuned.json") == table()


def test_what_was_tuned_is_found_and_else_the_default() -> None:
    assert table().plan_for(SHAPE, CPU, torch.float32) == FAST
    assert table().preferring("memory").plan_for(SHAPE, CPU, torch.float32) == LEAN
    other = ConvShape(3, 3, (14, 11), 5, (3, 5), (2, 1))
    assert table().plan_for(other, CPU, torch.float32) == default_plan(other)
    assert table().plan_for(SHAPE, CPU, torch.float16) == default_plan(SHAPE)
    assert table(device="another").plan_for(SHAPE, CPU, torch.float32) == default_plan(SHAPE)


def test_convolutions_compute_by_the_plan_of_their_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[ConvPlan] = []
    really = functional.convolve

    def noted(*arguments: Any) -> torch.Tensor:
        used.append(arguments[-1])
        return really(*arguments)

    monkeypatch.setattr(functional, "convolve", noted)
    rng = torch.Generator().manual_seed(0)
    pictures = torch.randn(2, 3, 14, 11, generator=rng)
    layer = nn.Conv2d(3, 5, (3, 5), (2, 1))
    found = conv2d(pictures, layer.weight, layer.bias, (2, 1), plan=table())
    torch.testing.assert_close(found, layer(pictures), rtol=0, atol=1e-5)
    model = nn.Sequential(layer, nn.Conv2d(5, 4, 3))
    ours = swap_convolutions(model, table())
    torch.testing.assert_close(ours(pictures), model(pictures), rtol=0, atol=1e-5)
    assert used == [FAST, FAST, ConvPlan()]


def damaged(**changes: Any) -> str:
    values = json.loads(table().model_dump_json())
    layer = values["layers"][0]
    for place, value in changes.items():
        target = values if place in values else layer
        if place not in target:
            target = layer["plans"][0]
        target[place] = value
    return json.dumps(values)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Invalid JSON"),
        ("[" * 100_000, "Invalid JSON"),
        ("[1]", "Input should be an object"),
        ('{"kinds": []}', "layers: Field required"),
        (damaged(format="im2win-plans-2"), "format: Input should be 'im2win-plans-1'"),
        (damaged(plans=[]), "layers.0.plans: Tuple should have at least 1 item"),
        (damaged(latency_ms=-1), "layers.0.plans.0.latency_ms: Input should be greater than 0"),
        (damaged(peak_bytes="1"), "layers.0.plans.0.peak_bytes: Input should be a valid integer"),
        (damaged(plan={"method": "cudnn"}), "layers.0.plans.0.plan.method: Input should be"),
        (damaged(plan={"block_kib": -1}), "plan: block_kib is at least 0"),
        (damaged(shape={"batch": 1}), "layers.0.shape.channels: Field required"),
        (
            json.dumps({"layers": json.loads(damaged())["layers"] * 2}),
            "it has one of its layers twice",
        ),
    ],
)
def test_other_files_are_refused_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "tuned.json"
    path.write_text(text)
    with pytest.raises(InputError, match="no table of tuned plans") as refused:
        TunedTable.load(path)
    assert said in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file or directory; give a table"):
        TunedTable.load(tmp_path / "none.json")


def test_a_plan_is_measured_and_its_result_is_checked() -> None:
    bench = Bench(SHAPE, CPU)
    own, ours = bench.measure([PYTORCH, LEAN], repeats=3)
    for found in (own, ours):
        assert found.latency_ms > 0
        assert found.peak_bytes >= 4 * 2 * 5 * 6 * 7
    assert own.error == 0
    assert 0 < ours.error < 1e-5
    with pytest.raises(WrongResultError, match=r"differs from PyTorch's by .*, 1e-12 is allowed"):
        Bench(SHAPE, CPU, tolerance=1e-12).measure([LEAN], repeats=1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_measured_as_well(dtype: torch.dtype) -> None:
    (found,) = Bench(SHAPE, CPU, dtype).measure([LEAN], repeats=1)
    assert 0 < found.error < 2e-2


def test_the_peak_of_memory_is_what_is_there_at_once() -> None:
    kinds: set[Memory] = set()
    for mib in (8, 32):

        def run(count: int = mib << 18) -> torch.Tensor:
            first = torch.ones(count)
            return (first + 1)[: count // 2].clone()

        run()
        peak, kind = peak_of(run, CPU)
        kinds.add(kind)
        assert abs(peak / (2.5 * (mib << 20)) - 1) < 0.25
    assert len(kinds) == 1


def test_the_triton_kernel_is_measured_under_its_interpreter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    pytest.importorskip("triton", reason="Triton is not installed (the extra `triton`)")
    plan = ConvPlan("triton", "nhwc", "columns", tiles=Tiles(16, 32, 16))
    shape = ConvShape(1, 3, (7, 7), 4, (3, 3))
    (found,) = Bench(shape, CPU).measure([plan], repeats=1)
    assert found.error < 1e-5
