"""Hyper-training of one decay for each of 7,850 weights (paper, section 4.3).

python -m experiments.large --config=configs/large.py --workdir=DIR
"""

from experiments import _launch
from experiments._linear_decays import run

if __name__ == "__main__":
    _launch.main(run)
