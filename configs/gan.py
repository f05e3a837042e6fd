"""Discriminators that respond: two games of one number each, and a ring of eight Gaussians.

Expect simultaneous steps of a bilinear game and of the Dirac-GAN to leave the equilibrium at the
rate that `experiments/_gan_games.py` has in closed form, and a leader who learned its follower's
response to come to it. On the ring (Metz et al., 2017, arXiv:1611.02163) alternating steps are said
to lose modes and unrolled ones to keep them; which of it shows depends on step sizes and length.
With a response that is learned and heeded, 7.2 of 8 modes are covered at the end, and 6.4 by
alternating steps, of whose samples more are good.

    python -m experiments.gan --config=configs/gan.py --workdir=DIR

takes five minutes of one core; it needs no data. `:quick` takes seconds, and judges no claim.

Metz et al. train for 25,000 rounds, with 256 latent numbers and batches of 512. Here it is 16 and
128, and 15,000 gradients for every contender: 7,500 rounds of alternating steps and 870 of
unrolled ones, which get as many rounds with

    --config.contenders='("unrolled",)' --config.gradients=127_500

The discriminator's step size was chosen between 3e-4 and 1e-3 by the modes, and then the good
samples, of seed 100 after 15,000 gradients.
"""

from ml_collections import ConfigDict

from configs import common

CONTENDERS = (
    "alternating",
    "unrolled",
    "hyper-trained",
    "hyper-trained, response unheeded",
)


def get_config(size: str = "full") -> ConfigDict:
    """The games, the ring, and settings of all players."""
    quick = common.is_quick("gan", size)
    return ConfigDict(
        {
            "judged": not quick,
            "seeds": (0, 1) if quick else (0, 1, 2, 3, 4),
            # The games.
            "step_size": 0.1,  # η of both players: SGD
            "decay": 0.6,  # of the follower, γ/(ηc²); simultaneous steps diverge below 1
            "start": 0.1,  # the leader's number; the follower's is 0
            "game_rounds": 20 if quick else 1_500,
            "game_unrolled_steps": 5,
            "game_inner_steps": 10,  # updates of the learned response in a round
            "hypernet_learning_rate": 0.02,  # Adam on a cosine
            # The Dirac-GAN's response is linear only close by: with 0.3 both players stay at half
            # of the distance that they started from, and with 0.05 at 5 %.
            "game_sampling_scale": 0.01,
            # The ring.
            "deviation": 0.02,  # of each mode
            "latent": 16,  # numbers that a sample is made from
            "units": 8 if quick else 128,  # of each hidden layer, of both networks
            "layers": 2,  # hidden ones
            "batch": 16 if quick else 128,  # points of the ring, and as many samples
            "contenders": CONTENDERS,
            "gradients": 340 if quick else 15_000,  # of each contender and seed
            "checkpoints": 2 if quick else 15,
            "judged_samples": 100 if quick else 2_500,
            "momentum": 0.5,  # β₁ of Adam, for both networks
            "generator_rate": 1e-3,  # Adam
            "rates": {  # Adam, of the discriminator or its hypernet
                "alternating": 1e-3,
                "unrolled": 1e-3,
                "responding": 1e-3,
            },
            "unrolled_steps": 5,
            "sampling_noise": 0.003,  # of the generator's weights, where the hypernet is trained
            "read_samples": 16 if quick else 128,  # that the hypernet reads
            "features": 8 if quick else 64,  # of their embedding
            "feature_width": 1.0,  # as far apart as what features tell apart
            "hypernet_seed": 0,  # of latent points and features
        }
    )
