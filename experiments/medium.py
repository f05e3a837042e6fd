"""Hyper-training of one decay per class (paper, section 4.2).

python -m experiments.medium --config=configs/medium.py --workdir=DIR
"""

from experiments import _launch
from experiments._linear_decays import run

if __name__ == "__main__":
    _launch.main(run)
