r"""One sweep over all pairs of train, generated and held-out points, for every score that needs distances.

What precision, recall, density, coverage, authenticity, C_T, the 1-NN test and the search for copies ask of the pairs
is little: **lists** of the nearest few of each point within its own set and in the others, and **counts**: how many
*balls* hold a point, where the ball of a train point reaches as far as its k-th nearest other train point. Realism and
rarity ask for **extremes** over these balls, which are taken on the way (``evaluation.judged``).

* d ≤ 10: k-d trees, O(n log n).
* else tiles of float32 products (``evaluation.tiles``), each used for the lists and the counts of both of its sides,
  and only half of them within one set. A candidate stays until its lower bound exceeds the k-th smallest upper bound;
  a pair is in a ball, out of it, or in doubt.

Every distance reported, and every comparison that the bounds leave in doubt, is by direct difference in float64:
counts *equal* those of the naive computation. Ties: of equally near points the one of lowest index comes first; a
ball is open (d < r, as prdc counts) or closed (d ≤ r, as improved precision does), as its ``Rule`` says.

Memory: the points as they came (mapped from disk if you like), a few tiles, and O(n k) for the lists.

References:
    Reliable fidelity and diversity metrics for generative models (Naeem, Oh, Uh, Choi, Yoo, 2020),
    https://arxiv.org/abs/2002.09797. Improved precision and recall metric for assessing generative models
    (Kynkäänniemi, Karras, Laine, Lehtinen, Aila, 2019), https://arxiv.org/abs/1904.06991.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from divergences import InputError
from divergences.checks import ArrayLike, as_count
from evaluation.gather import Balls, Lists, gather, tree_counts
from evaluation.judged import Judge, Judged, judge
from evaluation.neighbors import TREE_DIM, Neighbors, nearest, nearest_others
from evaluation.tiles import Blocks, Cloud, Product, as_cloud, blocks_for

__all__ = ["Counts", "Rule", "Sweep", "sweep"]


@dataclass(frozen=True)
class Rule:
    """Which balls are counted: as far as the ``k``-th nearest other point of the own set, with or without the rim."""

    k: int
    closed: bool = False


@dataclass(frozen=True)
class Counts:
    """In how many balls each point lies.

    Attributes:
        generated_in_train: for each generated point, the train balls that hold it; shape (m,).
        train_in_generated: for each train point, the generated balls that hold it; shape (n,).
        test_in_train: for each held-out point, the train balls that hold it; None without held-out points.
        train_in_test: for each train point, the held-out balls that hold it; None without.
    """

    generated_in_train: Int64[np.ndarray, " m"]
    train_in_generated: Int64[np.ndarray, " n"]
    test_in_train: Int64[np.ndarray, " t"] | None = None
    train_in_test: Int64[np.ndarray, " n"] | None = None


@dataclass(frozen=True)
class Sweep:
    """What all pairs of points have to say. ``Neighbors`` are (distances, indices), nearest first; others within a set.

    Attributes:
        train_train: of each train point, the nearest *other* train points.
        generated_generated: of each generated point, the nearest other generated points.
        generated_train: of each generated point, the nearest train points.
        train_generated: of each train point, the nearest generated points.
        counts: per rule, the points in balls.
        test_test: of each held-out point, the nearest other held-out points; None without them, like all below.
        test_train: of each held-out point, the nearest train points.
        train_test: of each train point, the nearest held-out points.
        generated_test: of each generated point, the nearest held-out points.
        test_generated: of each held-out point, the nearest generated points.
        judged: of ``"generated"`` and ``"test"``, the realism and the rarity of each point; empty unless asked for.
        judged_by: the k of the train balls that these rest on.
    """

    train_train: Neighbors
    generated_generated: Neighbors
    generated_train: Neighbors
    train_generated: Neighbors
    counts: Mapping[Rule, Counts]
    test_test: Neighbors | None = None
    test_train: Neighbors | None = None
    train_test: Neighbors | None = None
    generated_test: Neighbors | None = None
    test_generated: Neighbors | None = None
    judged: Mapping[str, Judged] = field(default_factory=dict)
    judged_by: int | None = None

    def radii(self, rule: Rule, which: str = "train") -> Float64[np.ndarray, " n"]:
        """Radii of the balls of ``rule`` around the points of ``which``: ``train``, ``generated`` or ``test``."""
        found: Neighbors = getattr(self, f"{which}_{which}")
        return found.distances[:, rule.k - 1]


def sweep(
    *,
    generated: ArrayLike,
    train: ArrayLike,
    test: Any = None,
    k: int = 5,
    rules: Sequence[Rule] | None = None,
    judged_by: int | None = None,
    device: str = "auto",
) -> Sweep:
    """Neighbour lists and ball counts of two or three sets of points, exactly, in bounded memory.

    Args:
        generated: shape (m, d), any real dtype; a ``numpy.memmap`` is read by blocks and never copied.
        train: shape (n, d), likewise.
        test: held-out points, shape (t, d), or None.
        k: how many neighbours a list holds; shorter where a set has fewer. At least the k of each rule.
        rules: which balls to count in; by default those of prdc, ``Rule(k)``. Empty for lists alone.
        judged_by: the k of the train balls that realism and rarity of each point rest on; None to leave them out.
        device: ``"auto"`` takes a CUDA device through torch where there is one and it pays; ``"cpu"``, ``"cuda"``.

    Raises:
        InputError: NaN, empty or mismatched sets; a set of k points or fewer, whose balls have no radius.

    >>> found = sweep(generated=[0.4, 9.0], train=[0.0, 1.0, 2.0], k=1)
    >>> found.counts[Rule(1)].generated_in_train
    array([2, 0])
    >>> found.generated_train
    Neighbors(distances=array([[0.4],
           [7. ]]), indices=array([[0],
           [2]]))
    """
    wanted = as_count(k, "k")
    chosen = (Rule(wanted),) if rules is None else tuple(rules)
    clouds = {"train": as_cloud(train, "train=", minimum=2)}
    clouds["generated"] = as_cloud(generated, "generated=", dim=clouds["train"].dim, minimum=2)
    if test is not None:
        clouds["test"] = as_cloud(test, "test=", dim=clouds["train"].dim, minimum=2)
    _check_rules(chosen, clouds, wanted)
    if judged_by is not None:
        _check_rules([Rule(judged_by)], {"train": clouds["train"]}, wanted)
    work = float(sum(len(c) for c in clouds.values())) ** 2 * clouds["train"].dim
    runner = _Runner(clouds, wanted, chosen, blocks_for(device, work))
    own = {name: runner.within(name) for name in clouds}
    balls = {name: [own[name].distances[:, rule.k - 1] for rule in chosen] for name in clouds}
    radii = None if judged_by is None else own["train"].distances[:, judged_by - 1]
    generated_train, train_generated, inside, inside_back = runner.across("generated", "train", balls, radii)
    if test is None:
        counts = {rule: Counts(a, b) for rule, a, b in zip(chosen, inside, inside_back, strict=True)}
        return Sweep(
            own["train"], own["generated"], generated_train, train_generated, counts,
            judged=runner.judged, judged_by=judged_by,
        )  # fmt: skip
    test_train, train_test, held_out, held_out_back = runner.across("test", "train", balls, radii)
    generated_test, test_generated, _, _ = runner.across("generated", "test", None)
    both = zip(chosen, inside, inside_back, held_out, held_out_back, strict=True)
    return Sweep(
        own["train"], own["generated"], generated_train, train_generated, {rule: Counts(*rest) for rule, *rest in both},
        own["test"], test_train, train_test, generated_test, test_generated, runner.judged, judged_by,
    )  # fmt: skip


def _check_rules(rules: Sequence[Rule], clouds: Mapping[str, Cloud], k: int) -> None:
    for rule in rules:
        if as_count(rule.k, "k of a rule") > k:
            raise InputError(f"k must be at least that of each rule; it is {k}, and a rule has k={rule.k}.")
        for cloud in clouds.values():
            if len(cloud) <= rule.k:
                raise InputError(
                    f"{cloud.name} needs more than k={rule.k} points, so that each has a k-th nearest other; "
                    f"it has {len(cloud)}. Bring more points or lower k."
                )


class _Runner:
    """The passes of one sweep, by trees or by tiles."""

    def __init__(self, clouds: Mapping[str, Cloud], k: int, rules: Sequence[Rule], blocks: Blocks) -> None:
        self.clouds, self.k, self.rules, self.blocks = clouds, k, rules, blocks
        self.by_tree = clouds["train"].dim <= TREE_DIM
        self.judged: dict[str, Judged] = {}

    def within(self, name: str) -> Neighbors:
        """Nearest others of each point of a set."""
        cloud = self.clouds[name]
        k = min(self.k, len(cloud) - 1)
        if self.by_tree:
            return nearest_others(cloud.rows(slice(None)), k)
        lists = Lists(cloud, cloud, k, apart=True)
        gather(Product(cloud, cloud, self.blocks), lists, None, [])
        return lists.result()

    def across(
        self,
        left: str,
        right: str,
        balls: Mapping[str, list[Float64[np.ndarray, " _"]]] | None,
        radii: Float64[np.ndarray, " _"] | None = None,
    ) -> tuple[Neighbors, Neighbors, list[Int64[np.ndarray, " _"]], list[Int64[np.ndarray, " _"]]]:
        """Lists of both sides of a pair; per rule, how many balls of ``right`` hold a point of ``left``, and back.

        With ``radii`` of balls around the points of ``right``, ``judged`` of ``left`` is taken as well.
        """
        one, two = self.clouds[left], self.clouds[right]
        k_there, k_back = min(self.k, len(two)), min(self.k, len(one))
        rules = [] if balls is None else list(zip(self.rules, balls[right], balls[left], strict=True))
        if self.by_tree:
            points, others = one.rows(slice(None)), two.rows(slice(None))
            there, back = nearest(points, others, k_there), nearest(others, points, k_back)
            inside = [tree_counts(one, two, reach, closed=rule.closed) for rule, reach, _ in rules]
            outside = [tree_counts(two, one, reach, closed=rule.closed) for rule, _, reach in rules]
            if radii is not None:
                self.judged[left] = judge(one, two, radii)
            return there, back, inside, outside
        rows, columns = Lists(one, two, k_there), Lists(two, one, k_back)
        to_left = [Balls(one, two, reach, closed=rule.closed, owners_are_columns=True) for rule, reach, _ in rules]
        to_right = [Balls(two, one, reach, closed=rule.closed, owners_are_columns=False) for rule, _, reach in rules]
        judging = None if radii is None else Judge(one, two, radii)
        gather(Product(one, two, self.blocks), rows, columns, [*to_left, *to_right], judging)
        if judging is not None:
            self.judged[left] = judging.result()
        return rows.result(), columns.result(), [b.result() for b in to_left], [b.result() for b in to_right]
