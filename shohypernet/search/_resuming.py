"""Folder of a search: a log of all losses, and checkpoints of the weights that are still needed.

A search is a function of its keys and of the losses that it is told. So a resumed one goes through
the log: it asks again, and is told the losses of then, without training. What it can't ask for
again, the trials of a study that outlives it, is looked up there. Weights of the best trial and of
those that may go on come from the newest checkpoint, up to which the log counts.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from shohypernet.fitting._run_directory import RunDirectory
from shohypernet.inner_loop import TrainState
from shohypernet.search._populations import Outcome
from shohypernet.search._seed import SeedSearch
from shohypernet.search._static import VariantPopulations

BLANK = TrainState(None, None, None)  # weights that a checkpoint brings later


class SearchDirectory:
    """Folder of a search, for this process alone until it is closed; see `RunDirectory`.

    Args:
      path: the folder, made when missing.
      identity: what must be the same for a resumed search to be the same.
      resume: whether to continue the search that the folder holds.
      every: turns between checkpoints.
      searches: the search of each seed.
      populations: that train their trials.

    Raises:
      What `RunDirectory` raises, and ValueError for a log that these searches don't follow.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        identity: Mapping[str, Any],
        resume: bool,
        every: int,
        searches: Sequence[SeedSearch],
        populations: VariantPopulations,
    ) -> None:
        """Claim the folder."""
        self._directory = RunDirectory(path, identity, resume=resume)
        self._every, self._searches, self._populations = every, searches, populations
        self.path, self.close = self._directory.path, self._directory.close
        self._turn = self.saved

    def replay(self) -> float:
        """Bring the searches to the newest checkpoint; the seconds that they had taken by then."""
        lines = list(self._lines())
        there = {(line["turn"], line["seed"]): line for line in lines}
        for turn in range(1, self._turn + 1):
            for seed, search in enumerate(self._searches):
                self._retell(search, there.get((turn, seed)), turn)
        if self._turn:
            self._populations.expect(lines[-1]["programs"])
            like = [search.weights(self._populations.like) for search in self._searches]
            like = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
            stacks = self._directory.restore(_stacked(like))
            for search, weights in zip(self._searches, _unstacked(stacks, like), strict=True):
                search.restore(weights)
        self._directory.begin(lines)
        return max((line["seconds"] for line in lines), default=0.0)

    @property
    def saved(self) -> int:
        """Turns up to the newest checkpoint."""
        return self._directory.latest_step or 0

    def log(self, told: Sequence[SeedSearch], *, save: bool) -> None:
        """Log what was told in a turn, and write a checkpoint if it is time, or if asked to."""
        self._turn += 1
        for seed, search in enumerate(self._searches):
            if search in told:
                line = {"turn": self._turn, "seed": seed, **search.last}
                self._directory.log({**line, "programs": self._populations.widths()})
        if save or self._turn % self._every == 0:
            self.save()

    def save(self) -> None:
        """Write a checkpoint, if there is none of this turn."""
        if self._turn > self.saved:
            tree = [search.weights() for search in self._searches]
            self._directory.save(self._turn, jax.tree.map(np.asarray, _stacked(tree)))

    def _lines(self) -> Iterator[dict[str, Any]]:
        log = self.path / "metrics.jsonl"
        for text in log.read_text().splitlines() if self._turn else ():
            line = json.loads(text)
            if line["turn"] > self._turn:
                return
            yield line

    def _retell(self, search: SeedSearch, line: dict[str, Any] | None, turn: int) -> None:
        if line and search.recalls:
            search.recall(line["trials"], line["steps"])
        elif not search.recalls and search.ask() != bool(line):
            self._refuse(turn)
        if line:
            if not search.recalls:  # a smaller budget may have cut it, and the rest comes next
                search.shorten(len(line["trials"]))
            losses = (np.asarray(line[name]) for name in ("valid_loss", "test_loss"))
            search.tell(Outcome([BLANK] * len(line["trials"]), *losses), line["seconds"])
            # As text, in which a loss that is no number equals itself.
            if any(json.dumps(line[name]) != json.dumps(at) for name, at in search.last.items()):
                self._refuse(turn)

    def _refuse(self, turn: int) -> None:
        raise ValueError(
            f"{self.path} holds another search: in turn {turn} its log has other trials than this "
            "one asks for. Make the search with the same arguments and sampler, or choose another "
            "folder; nothing was changed."
        )


def _stacked(tree: Any) -> dict[str, Any]:
    """Its arrays of the same shape and dtype in one, for fewer files."""
    groups: dict[str, list[Any]] = {"bool[]": [np.zeros((), bool)]}  # Orbax refuses an empty tree
    for leaf in jax.tree.leaves(tree):
        groups.setdefault(f"{leaf.dtype}{list(leaf.shape)}", []).append(leaf)
    return {name: np.stack(group) for name, group in groups.items()}


def _unstacked(stacks: Mapping[str, Any], like: Any) -> Any:
    """The inverse of `_stacked`."""
    rows = {name: iter(stack) for name, stack in stacks.items()}
    next(rows["bool[]"])
    return jax.tree.map(lambda leaf: next(rows[f"{leaf.dtype}{list(leaf.shape)}"]), like)
