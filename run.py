"""The job: `python run.py [--config configs/NAME.yaml] [--output DIR] [KEY=VALUE …]`.

Without arguments it is the quick start. The same file runs on a cluster:
`ray submit ray_cluster.yaml run.py -- --config configs/NAME.yaml`.
"""

import sys

from automl.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
