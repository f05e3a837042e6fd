"""Why some methods don't arrive in some worlds of `every_method`, as far as we know.

Refusals are not among them: the library says them itself.
"""

from experiments._every_method_methods import METHODS
from experiments._every_method_verdicts import Reason
from experiments._every_method_worlds import TRAINING

_NOT_OF_A_TRAINING = tuple(name for name, each in METHODS.items() if each.answers != TRAINING)

REASONS = (
    Reason(
        _NOT_OF_A_TRAINING,
        ("MAML",),
        elsewhere=True,
        why="It differentiates a minimum, and at the minimum of each task, which is its center, no "
        "θ is better than another; λ goes where noise takes it.",
    ),
    Reason(
        ("simultaneous, no response",),
        ("duopoly",),
        elsewhere=True,
        why="It ends at Nash's quantities: who takes the rival for fixed doesn't lead.",
    ),
    Reason(
        ("simultaneous, no response",),
        ("prediction",),
        elsewhere=True,
        why="It takes the data for fixed where they have moved to, as who trains again and again.",
    ),
    Reason(
        ("implicit, identity",),
        ("duopoly",),
        elsewhere=True,
        why="With 1 in place of the curvature 2b it rests at (a − c)/(3b − 2b²).",
    ),
    Reason(
        ("implicit, identity",),
        (),
        elsewhere=False,
        why="The curvature isn't the identity: flat weights are taken to respond as steep ones do.",
    ),
    Reason(
        ("simultaneous",),
        (),
        elsewhere=False,
        why="φ sees no λ but λ̂, and has only its movement to learn from how the weights respond.",
    ),
    Reason(
        ("local_response", "global_response", "exploring_response"),
        ("elastic net",),
        elsewhere=False,
        why="A hypernet's weights are smooth in λ, and nearly 0 where they should be 0.",
    ),
    Reason(
        ("reversible",),
        ("elastic net",),
        elsewhere=False,
        why="Its steps are plain ones of its own, which set no weight to 0.",
    ),
    Reason(
        ("self_tuning", "self_tuning, not linearized"),
        ("distillation",),
        elsewhere=False,
        why="The response of a layer with one output is of rank one, and λ has six numbers.",
    ),
    Reason(
        ("local_response", "self_tuning", "self_tuning, not linearized"),
        ("prediction",),
        elsewhere=False,
        why="Its response is linear over samples at a distance of 0.3, and the data's is not: with "
        "0.03 what is left is 0.006, 0.01 and 0.04.",
    ),
    Reason(
        ("implicit, nystrom",),
        ("prediction",),
        elsewhere=False,
        why="What its 10 columns don't span counts as the damping alone; with all 12 it arrives.",
    ),
    Reason(
        ("forward",),
        ("distillation",),
        elsewhere=False,
        why="With n numbers in λ a step costs 1 + 2n gradients: 30 rounds in the budget.",
    ),
    Reason(
        ("global_response", "exploring_response", "grid_search", "random_search", "bayesian"),
        ("distillation", "prediction"),
        elsewhere=False,
        why="It has to cover the box of λ, which has more than two sides.",
    ),
    Reason(
        ("bayesian",),
        (),
        elsewhere=False,
        why="Its trials are limited to some tens, for its own cost grows with their cube.",
    ),
)
