"""How well a latency table predicts subnets: vit_t at 256 px and MobileSAM at 512 px.

    python benchmarks/latency.py [THREADS] [--cpu-time]

For each, with elastic MLPs and with elastic attention heads as well, it prints how far predictions
for 20 random subnets are from measurements, how well they rank them, and by how much two halves of
the measurements differ; half of the subnets' widths lie between those of the table. A bias as large
as the error says that the machine has become slower or faster in between. The exit status is 1
where the error is above 5 % or the rank correlation below 0.97. It wants a quiet machine: with
`--cpu-time` and one thread it counts the time that the process was given, and not what others took.
"""

import sys
import time

import torch

from search_spaces import SubnetSpace
from search_spaces.design import Design
from trainables.clock import Clock, clock_of
from trainables.latency import measure_table
from trainables.latency_check import check_table, random_subnets
from trainables.sam.encoder import elastic
from trainables.sam.family import EncoderConfig
from trainables.sam.parents import parent_encoder

PARENTS = (("vit_t", 256), ("mobile_sam", 512))
SUBNETS, BUDGET_S = 20, 120.0
ERROR, RANK = 0.05, 0.97


class CpuTime:
    def mark(self) -> float:
        return time.process_time()

    def ms(self, start: float, end: float) -> float:
        return 1000 * (end - start)


def space(config: EncoderConfig, counts: int, smallest_heads: float) -> SubnetSpace:
    design = Design(
        metric="magnitude",
        expected_dropped=2,
        removable=5,
        temperature=0.1,
        cap=0.5,
        width_count=counts,
        smallest_ratio=0.25,
        spacing="linear",
        smallest_heads=smallest_heads,
    )
    return design.draw_up([0.0] * config.depth, config.mlp_widths, config.full_heads)


def measure(model: str, image_size: int, smallest_heads: float, clock: Clock) -> bool:
    """Print a row; whether its goals are met."""
    config = parent_encoder(model, image_size)
    encoder = elastic(config.build()).eval()
    encoder.to("cuda" if torch.cuda.is_available() else "cpu")
    measured = space(config, 4, smallest_heads)
    start = time.perf_counter()
    table = measure_table(
        encoder, measured.widths, measured.heads, model=model, budget_s=BUDGET_S, clock=clock
    )
    seconds = time.perf_counter() - start
    subnets = random_subnets(space(config, 7, smallest_heads), SUBNETS, seed=0)
    found = check_table(encoder, table, subnets, budget_s=BUDGET_S, clock=clock).to_dict()
    error, rank = found["mean_error"], found["rank_correlation"]
    met = error <= ERROR and rank >= RANK
    print(
        f"{model:10} {image_size:5} {'MLPs' if smallest_heads == 1 else 'MLPs, heads':11} "
        f"{table.predict(table.parent):9.1f} {min(found['measured']):9.1f} {error:8.1%} "
        f"{found['worst_error']:6.1%} {found['bias']:+6.1%} {rank:6.3f} {found['noise']:6.1%} "
        f"{seconds:6.0f} s  {'met' if met else 'NOT MET'}",
        flush=True,
    )
    return met


def main(threads: int, cpu_time: bool) -> int:
    torch.set_num_threads(threads)
    cuda = torch.cuda.is_available()
    clock = CpuTime() if cpu_time else clock_of(torch.device("cuda" if cuda else "cpu"))
    where = torch.cuda.get_device_name() if cuda else f"{threads} threads"
    print(f"{where}, {'CPU time' if cpu_time else 'time'}; error ≤ {ERROR:.0%}, rank ≥ {RANK}")
    print(
        "parent        px elastic     parent ms  least ms  error  worst   bias   rank  noise  table"
    )
    met = [
        measure(model, size, smallest_heads, clock)
        for model, size in PARENTS
        for smallest_heads in (1.0, 0.5)
    ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    numbers = [int(argument) for argument in sys.argv[1:] if argument.isdigit()]
    sys.exit(main(*(numbers or [2]), cpu_time="--cpu-time" in sys.argv[1:]))
