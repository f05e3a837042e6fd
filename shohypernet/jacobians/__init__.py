"""Models of the response Jacobian ∂w*/∂λ, for centered hypernets, one a file."""

from shohypernet._internal.layers import LayerType
from shohypernet.jacobians._base import Point, ResponseJacobian
from shohypernet.jacobians._describe import describe
from shohypernet.jacobians._kronecker import kronecker
from shohypernet.jacobians._linearized import linearized

__all__ = ["LayerType", "Point", "ResponseJacobian", "describe", "kronecker", "linearized"]
