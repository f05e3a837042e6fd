"""Flax models: the paper's, and layers whose weights a small network generates."""

from shohypernet.models._generated_conv import GeneratedConv, KernelGenerator
from shohypernet.models._mlp import MLP

__all__ = ["MLP", "GeneratedConv", "KernelGenerator"]
