"""The quick start in Python: from a SAM and pictures to a front of smaller SAMs, which is printed.

    python examples/quick_start.py
    python examples/quick_start.py --output runs/points seed=1 final.steps=80

Run again with the same directory, it goes on where it was cut off.
"""

import argparse
from pathlib import Path

from automl import Study, load_config

CONFIG = Path(__file__).parent.parent / "configs" / "quickstart.yaml"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--output", default="runs/quick_start")
    given = parser.parse_args()

    study = Study(load_config(CONFIG, given.overrides), given.output)
    result = study.run()

    parent = result.parent
    print(f"parent: {parent['encoder_params']:,} parameters, mIoU {parent['miou_test']:.3f}")
    for row in result.front:
        smaller = 1 - row["encoder_params"] / parent["encoder_params"]
        print(
            f"{row['subnet']}: {len(row['layers'])} layers, {smaller:.0%} smaller, "
            f"{row['latency_ms']:.1f} ms, mIoU {row['miou_test']:.3f}"
        )
    best = max(result.front, key=lambda row: row["miou_val"])
    encoder = study.standalone(best["subnet"]).sam.image_encoder
    print(f"the best one is an ordinary SAM with {len(encoder.blocks)} blocks")
    print(f"report: {study.output / 'report.html'}")


if __name__ == "__main__":
    main()
