"""Games whose equilibria are known (Fudenberg and Levine, 1998, "The Theory of Learning in Games").

Expect, in a duopoly of demand intercept a, slope b and unit cost c, every method that learns or
differentiates the follower's best response to end at Stackelberg's (a − c)/(2b) and (a − c)/(4b),
and gradient play at Cournot's and Nash's (a − c)/(3b), each within 1 %. In matching pennies and in
rock-paper-scissors, expect the frequencies of fictitious play to come to ½ and ⅓ while
best-response dynamics go round for ever, and a leader who learned its follower's response to play
½ and ⅓ itself.

    python -m experiments.games --config=configs/games.py --workdir=DIR

takes about a minute; it needs no data. With `:quick` it takes seconds, and judges no claim.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(size: str = "full") -> ConfigDict:
    """The games, and settings of their players, all ours."""
    quick = common.is_quick("games", size)
    return ConfigDict(
        {
            "judged": not quick,
            "seeds": (0, 1) if quick else (0, 1, 2, 3, 4),
            # The duopoly. Quantities have no unit; prices and costs share one.
            "intercept": 10.0,  # a, the price at which nobody buys
            "slope": 1.0,  # b, by which the price falls with each unit on the market
            "cost": 1.0,  # c of a unit
            "start": 0.5,  # quantity of the leader
            "rounds": 5 if quick else 600,  # updates of the leader
            "inner_steps": 10,  # updates of the follower in a round
            "hypernet_rounds": 2 if quick else 300,  # of global_response
            "hypernet_learning_rate": 0.02,  # Adam
            "learning_rate": 0.1,  # of the follower's quantity: SGD
            "hyper_learning_rate": 0.05,  # of the leader's quantity: SGD
            "sampling_scale": 1.0,  # of local_response
            "unrolled_steps": 30,
            # The two zero-sum games.
            "plays": 20 if quick else 10_000,  # of fictitious play and of best-response dynamics
            "leader_rounds": 5 if quick else 1_500,  # of the leader who learned a response
            "temperature": 0.5,  # of the follower's choice, in units of a win
            "leader_sampling_scale": 0.1,
            "leader_learning_rate": 0.1,  # SGD
        }
    )
