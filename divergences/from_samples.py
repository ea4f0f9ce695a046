r"""Divergences of laws known by their samples only: which number, how sure, and what equal laws would have scored.

| function | estimates | its 95 % interval covers | regime | P = Q |
|---|---|---|---|---|
| ``knn_kl`` | KL(P‖Q) | the KL (wider than nominal) | d ≤ 3, KL ≤ 1.5, n ≥ 500 | covered |
| ``knn_jsd`` | JSD | the JSD (wider than nominal) | d ≤ 3, n ≥ 300 | covered |
| ``dv_bound``, ``nwj_bound`` | a lower bound on KL | the *bound* | effective sample size ≥ 100 | covered |
| ``mmd`` | MMD², kernel named | MMD² of that kernel | n ≥ 100 | wider |
| ``energy_distance`` | 2E|X−Y| − E|X−X'| − E|Y−Y'| | the energy distance | n ≥ 100 | wider |
| ``sliced_wasserstein`` | SW₁ or SW₂ | SW_p (wider when near) | d ≤ 5, n ≥ 200 | wider |
| ``sinkhorn_divergence`` | S_ε, cost and ε named | S_ε | n ≥ 200, ε ≥ mean cost / 10 | wider |

Regimes are those in which coverage was simulated; outside them the k-NN estimates and the bounds refuse
(``UnderResolved``, which carries the number). All compare laws through i.i.d. points: rows that repeat or depend on
each other make every interval too short. Whether P = Q at all is a question for ``null``, the scores of relabelled
samples, whose p-value has exact level; ``permutation_test`` gives it for any statistic.

KL and JSD of laws with *known* densities are ``divergences.kl`` and ``divergences.jsd``; the exact transport cost of
two point sets is ``divergences.wasserstein``.
"""

from divergences.bounds import LogRatio, dv_bound, fit_log_ratio, nwj_bound
from divergences.kernels import energy_distance, median_bandwidth, mmd
from divergences.nearest import knn_jsd, knn_kl
from divergences.sinkhorn import sinkhorn_divergence
from divergences.sliced import sliced_wasserstein
from divergences.two_sample import Null, TwoSampleEstimate, permutation_test

__all__ = [
    "LogRatio",
    "Null",
    "TwoSampleEstimate",
    "dv_bound",
    "energy_distance",
    "fit_log_ratio",
    "knn_jsd",
    "knn_kl",
    "median_bandwidth",
    "mmd",
    "nwj_bound",
    "permutation_test",
    "sinkhorn_divergence",
    "sliced_wasserstein",
]
