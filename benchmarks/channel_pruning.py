"""What PASS's mask stage costs, and what removed channels gain, on CIFAR's ResNets.

    python benchmarks/channel_pruning.py [--network resnet20] [--repeats 15] [--threads 2]
    python benchmarks/channel_pruning.py --cpu-time

A mask step (prompt, hypernetwork, masked forward and backward pass, one update) beside an ordinary
training step of the same network on the same batch, in turns: medians of the time, and the growth
of resident memory, each in a process of its own, the median of three. Then the latency of one
picture and of a batch through networks of some shares of the MACs, slimmed by magnitude, beside the
unpruned network's, in turns. The weights are random: times do not depend on them. With `--cpu-time`
times are of the CPU, not of the clock, where a machine is busy with other things. The exit status
is 1 where a mask step costs more than 1.5 ordinary ones.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from trainables.channel_pruning.budgets import Budget, channel_prices, select
from trainables.channel_pruning.costs import count_macs, count_params
from trainables.channel_pruning.data.batches import LabelledBatch, normalised
from trainables.channel_pruning.hypernetwork import HyperNetwork, HyperSettings
from trainables.channel_pruning.mask_training import MaskSettings, make_optimiser, mask_step
from trainables.channel_pruning.masked import MaskedNetwork
from trainables.channel_pruning.networks import build_network
from trainables.channel_pruning.prunable import Prunable
from trainables.channel_pruning.scoring import ALL_KEPT, Scorer
from trainables.footprint import ResidentMemory

SIZE, BATCH, CLASSES = 32, 128, 10
SHARES = (0.5, 0.3)
PROCESSES = 3
GOAL = 1.5
Step = Callable[[], object]


def batch() -> LabelledBatch:
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (BATCH,), generator=rng)
    return LabelledBatch(torch.rand(BATCH, 3, SIZE, SIZE, generator=rng), labels)


def ordinary(name: str) -> Step:
    network, given = build_network(name, CLASSES).train(), batch()
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9, weight_decay=5e-4)

    def step() -> None:
        loss = F.cross_entropy(network(normalised(given.pictures)), given.labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


def masks(name: str) -> Step:
    prunable = Prunable.of(build_network(name, CLASSES).eval(), SIZE)
    hypernetwork = HyperNetwork(HyperSettings(), prunable.groups, SIZE, seed=0)
    settings, given = MaskSettings(), batch()
    masked = MaskedNetwork(prunable.network, prunable.groups, settings.masking)
    scorer, optimiser = Scorer(hypernetwork, prunable), make_optimiser(hypernetwork, settings)
    thresholds, budget = [ALL_KEPT] * len(prunable.groups), Budget(share=0.5)
    prices = channel_prices(prunable.table, budget)

    def step() -> None:
        mask_step(scorer, masked, prunable, given, optimiser, budget, thresholds, prices, settings)

    return step


STEPS: dict[str, Callable[[str], Step]] = {"ordinary": ordinary, "masks": masks}


def taken(steps: dict[str, Step], repeats: int, now: Callable[[], float]) -> dict[str, float]:
    """The median seconds of each, in turns; the first turn does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats + 1):
        for name, step in steps.items():
            start = now()
            step()
            seconds[name].append(now() - start)
    return {name: statistics.median(each[1:]) for name, each in seconds.items()}


def grown(kind: str, name: str) -> int:
    """Bytes that steps take at their peak beyond what was there, in this process."""
    step = STEPS[kind](name)
    memory = ResidentMemory()
    for _ in range(3):
        step()
    found = memory.grown()
    assert found is not None, "peak memory can't be read on this system"
    return found


def memory_of(kind: str, name: str, threads: int) -> float:
    command = [sys.executable, __file__, "--memory", kind]
    command += ["--network", name, "--threads", str(threads)]
    found = [
        int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(PROCESSES)
    ]
    return statistics.median(found)


def speed_ups(name: str, repeats: int, now: Callable[[], float]) -> None:
    """Print times of slimmed networks beside the unpruned one's."""
    prunable = Prunable.of(build_network(name, CLASSES).eval(), SIZE)
    networks: dict[str, nn.Module] = {"unpruned": prunable.network}
    for share in SHARES:
        selection = select(prunable.prior(), prunable.table, Budget(share=share))
        kept = selection.kept(prunable.groups)
        networks[f"{share:.0%}"] = prunable.slimmed(kept).eval()
    macs = {each: count_macs(network, SIZE) for each, network in networks.items()}
    for size in (1, BATCH):
        pictures = torch.rand(size, 3, SIZE, SIZE)

        def passes(network: nn.Module, given: torch.Tensor = pictures) -> Step:
            return torch.no_grad()(lambda: network(given))

        seconds = taken({each: passes(n) for each, n in networks.items()}, 3 * repeats, now)
        for each, network in networks.items():
            print(
                f"batch {size:3}  {each:8}  MACs / {macs['unpruned'] / macs[each]:4.2f}  "
                f"params {count_params(network) / 1e3:6.0f} k  {1000 * seconds[each]:7.2f} ms  "
                f"{seconds['unpruned'] / seconds[each]:4.2f} × as fast"
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--memory", choices=list(STEPS), help="of one kind of step; used inside")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.memory:
        print(grown(given.memory, given.network))
        return 0
    now = time.process_time if given.cpu_time else time.perf_counter
    seconds = taken({kind: make(given.network) for kind, make in STEPS.items()}, given.repeats, now)
    memory = {kind: memory_of(kind, given.network, given.threads) for kind in STEPS}
    for kind in STEPS:
        print(f"{kind:9} step  {1000 * seconds[kind]:8.1f} ms  {memory[kind] / 1e6:8.1f} MB")
    ratios = {
        "time": seconds["masks"] / seconds["ordinary"],
        "memory": memory["masks"] / memory["ordinary"],
    }
    for what, ratio in ratios.items():
        print(f"{what}: a mask step is {ratio:.2f} × an ordinary one (goal ≤ {GOAL})")
    speed_ups(given.network, given.repeats, now)
    return 0 if max(ratios.values()) <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
