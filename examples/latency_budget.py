"""A budget of milliseconds: measure a latency table on this machine, then search under it.

    python examples/latency_budget.py --budget 70% --threads 2
    python examples/latency_budget.py --budget 15

A budget is a share of the parent's latency, or milliseconds of its image encoder for one picture.
The table predicts what a subnet takes, so that one which is too slow is never evaluated.
"""

import argparse
from pathlib import Path

from automl import Study, load_config

CONFIG = Path(__file__).parent.parent / "configs" / "quickstart.yaml"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--budget", default="70%")
    parser.add_argument("--threads", type=int, help="of the CPU; as many as torch has if not given")
    parser.add_argument("--output", type=Path, default=Path("runs/latency_budget"))
    given = parser.parse_args()

    # The table has a directory of its own: a study's configuration names it.
    table = given.output / "table" / "latency.json"
    if not table.is_file():
        machine = Study(load_config(CONFIG, given.overrides), table.parent)
        check = machine.latency(given.threads)["check"]
        print(f"predictions are off by {check['mean_error']:.1%} on average")

    bounded = [f"latency_table={table}", f"constraints.latency_ms={given.budget}"]
    study = Study(load_config(CONFIG, [*given.overrides, *bounded]), given.output / "study")
    result = study.run()
    print(f"budget {given.budget} of latency; mIoU of the parent {result.parent['miou_test']:.3f}")
    for row in result.front:
        print(f"{row['subnet']}: {row['latency_predicted_ms']:.1f} ms, mIoU {row['miou_test']:.3f}")


if __name__ == "__main__":
    main()
