"""Zero-sum games of two players with a few actions each, and how they may be learned.

The row player's payoff is pᵀAq, the column player's −pᵀAq, for mixed strategies p and q.

    fictitious play         p ← p + (BR(q) − p)/(t + 1),   q likewise, at once
    best-response dynamics  p ← BR(q),                     q likewise, at once

Brown (1951), "Iterative Solution of Games by Fictitious Play"; that the frequencies of a zero-sum
game converge: Robinson (1951), "An Iterative Method of Solving a Game".
"""

import jax
import jax.numpy as jnp
import numpy as np

import shohypernet as shn
from shohypernet.problem import Problem

GAMES = {
    "matching pennies": np.array([[1.0, -1.0], [-1.0, 1.0]]),
    "rock-paper-scissors": np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]),
}
"""A, in units of a win, by name. In both, the only equilibrium plays every action alike."""


def fictitious_play(payoffs: np.ndarray, plays: int) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies of each player's actions, who both respond to the other's frequencies.

    Args:
      payoffs: A, whole numbers, shape (n, m).
      plays: T. In the first, the row player takes action 0 and the column player action 1; of
        actions that are equally good, players take the first.

    Returns:
      Frequencies after 1 … T plays, shapes (T, n) and (T, m).
    """
    counts = [np.cumsum(actions, axis=0) for actions in _played(payoffs, plays, memory=True)]
    numbers = np.arange(1, plays + 1)[:, None]
    return counts[0] / numbers, counts[1] / numbers


def best_response_dynamics(payoffs: np.ndarray, plays: int) -> tuple[np.ndarray, np.ndarray]:
    """The same of players who respond to the other's last action: their actions, one-hot."""
    return _played(payoffs, plays, memory=False)


def _played(payoffs: np.ndarray, plays: int, *, memory: bool) -> tuple[np.ndarray, np.ndarray]:
    """Both players' actions, as responses to all of the other's, or to the last.

    Payoffs are added up over plays, not averaged: of whole numbers the sums are exact, and so are
    ties.
    """
    rows, columns = np.eye(payoffs.shape[0]), np.eye(payoffs.shape[1])
    mine, theirs = [0], [1]
    gains, losses = np.zeros(len(rows)), np.zeros(len(columns))
    for _ in range(plays - 1):
        gains = memory * gains + payoffs[:, theirs[-1]]
        losses = memory * losses + payoffs[mine[-1]]
        mine.append(int(np.argmax(gains)))
        theirs.append(int(np.argmin(losses)))
    return rows[mine], columns[theirs]


def period(actions: tuple[np.ndarray, np.ndarray]) -> int | None:
    """Plays until both players' last actions come again; None if they never did before."""
    profile = np.concatenate(actions, axis=1)
    again = np.flatnonzero(np.all(profile[:-1] == profile[-1], axis=1))
    return int(len(profile) - 1 - again[-1]) if again.size else None


def leader_problem(payoffs: np.ndarray, temperature: float) -> Problem:
    """The row player as a leader, whose follower's choice is smooth enough to be learned.

        L_train(w, λ) = pᵀAq + τ Σ_j q_j log q_j,    L_valid(w, λ) = −pᵀAq

    with p = softmax(λ), q = softmax(w), so that q*(p) = softmax(−Aᵀp/τ). Where the values of A's
    columns sum to the same for all p, as in both games, the leader's best is where they are equal.
    """
    matrix = jnp.asarray(payoffs, jnp.float32)

    def payoff(params: jax.Array, hyperparams: jax.Array) -> jax.Array:
        return jax.nn.softmax(hyperparams) @ matrix @ jax.nn.softmax(params)

    def train_loss(
        params: jax.Array, hyperparams: jax.Array, batch: jax.Array, key: jax.Array
    ) -> jax.Array:
        disorder = jnp.sum(jax.nn.softmax(params) * jax.nn.log_softmax(params))
        return payoff(params, hyperparams) + temperature * disorder

    return Problem(
        init=lambda key: jnp.zeros(payoffs.shape[1]),
        train_loss=train_loss,
        valid_loss=lambda params, hyperparams, batch: -payoff(params, hyperparams),
        space=shn.hyperparameters.real(),
    )
