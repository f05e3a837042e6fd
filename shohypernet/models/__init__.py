"""Flax models: the paper's, and layers and cells whose weights a small network generates."""

from shohypernet.models._generated_conv import GeneratedConv, KernelGenerator
from shohypernet.models._hyper_lstm import HyperLSTMCell
from shohypernet.models._lstm import LayerNormLSTMCell
from shohypernet.models._mlp import MLP

__all__ = ["MLP", "GeneratedConv", "HyperLSTMCell", "KernelGenerator", "LayerNormLSTMCell"]
