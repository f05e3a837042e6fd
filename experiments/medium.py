"""Hyper-training of one decay a class: `experiments.large` with its other config.

python -m experiments.medium --config=configs/medium.py --workdir=DIR
"""

from experiments import launch
from experiments.large import run

if __name__ == "__main__":
    launch.main(run)
