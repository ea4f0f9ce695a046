"""Fréchet and kernel distances beside the field's packages, features given: time, memory, agreement, in one run.

``python benchmarks/frechet_and_kernel.py [--other PYTHON]``: the other's interpreter may be one in which pytorch-fid,
clean-fid, torch-fidelity and torchmetrics are installed; those that are not are skipped, and said to be. ``--large``
takes features of 2048 coordinates, not only statistics of them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import apart
import numpy as np

_SUBSETS = {"subsets": 100, "subset_size": 1000}


def _arrays(folder: str, *names: str) -> list[np.ndarray]:
    return [np.load(f"{folder}/{name}.npy") for name in names]


def _statistics(folder: str) -> list[np.ndarray]:
    return _arrays(folder, "mean_p", "cov_p", "mean_q", "cov_q")


def _value(call: Callable[[], Any]) -> apart.Call:
    return lambda: {"value": float(call())}


def _statistics_here(folder: str) -> apart.Call:
    from evaluation import Moments, fid

    mean_p, p, mean_q, q = _statistics(folder)
    small = Moments(np.zeros(3), np.eye(3), 100)
    fid(generated=small, reference=small)
    return _value(lambda: fid(generated=Moments(mean_q, q, 50_000), reference=Moments(mean_p, p, 50_000)).raw)


def _square_root(folder: str) -> apart.Call:
    from scipy.linalg import sqrtm

    mean_p, p, mean_q, q = _statistics(folder)
    gap = mean_p - mean_q
    return _value(lambda: gap @ gap + np.trace(p) + np.trace(q) - 2 * np.trace(sqrtm(p @ q)).real)


def _statistics_pytorch_fid(folder: str) -> apart.Call:
    module, given = apart.rival("pytorch_fid.fid_score"), _statistics(folder)
    return _value(lambda: module.calculate_frechet_distance(*given))


def _statistics_clean_fid(folder: str) -> apart.Call:
    module, given = apart.rival("cleanfid.fid"), _statistics(folder)
    return _value(lambda: module.frechet_distance(*given))


def _statistics_torch_fidelity(folder: str) -> apart.Call:
    module, given = apart.rival("torch_fidelity.metric_fid"), _statistics(folder)
    both = [{"mu": given[i], "sigma": given[i + 1]} for i in (0, 2)]
    return _value(lambda: next(iter(module.fid_statistics_to_metric(*both, verbose=False).values())))


def _statistics_torchmetrics(folder: str) -> apart.Call:
    module = apart.rival("torchmetrics.image.fid")
    import torch

    given = [torch.from_numpy(array) for array in _statistics(folder)]
    return _value(lambda: module._compute_fid(*given))


def _features_here(folder: str) -> apart.Call:
    from evaluation import fid

    x, y = _arrays(folder, "x", "y")
    fid(generated=y[:40, :4], reference=x[:40, :4])
    return _value(lambda: fid(generated=y, reference=x).raw)


def _features_streamed(folder: str) -> apart.Call:
    """The rows in batches that are not kept, as a training loop has them."""
    from evaluation import Moments, fid

    x, y = _arrays(folder, "x", "y")

    def moments(rows: np.ndarray) -> Moments:
        return Moments.from_batches(np.array_split(rows, -(-len(rows) // 1000)))

    fid(generated=moments(y[:40, :4]), reference=moments(x[:40, :4]))
    return _value(lambda: fid(generated=moments(y), reference=moments(x)).raw)


def _features_pytorch_fid(folder: str) -> apart.Call:
    module = apart.rival("pytorch_fid.fid_score")
    x, y = _arrays(folder, "x", "y")
    of = [lambda a=a: (np.mean(a, axis=0), np.cov(a, rowvar=False)) for a in (x, y)]
    return _value(lambda: module.calculate_frechet_distance(*of[0](), *of[1]()))


def _features_clean_fid(folder: str) -> apart.Call:
    module = apart.rival("cleanfid.fid")
    x, y = _arrays(folder, "x", "y")
    return _value(lambda: module.fid_from_feats(x, y))


def _features_torch_fidelity(folder: str) -> apart.Call:
    module = apart.rival("torch_fidelity.metric_fid")
    import torch

    sets = [torch.from_numpy(array) for array in _arrays(folder, "x", "y")]

    def call() -> Any:
        both = [module.fid_features_to_statistics(features) for features in sets]
        return next(iter(module.fid_statistics_to_metric(*both, verbose=False).values()))

    return _value(call)


def _torchmetrics(metric: str, folder: str, options: dict[str, Any]) -> Callable[[], Any]:
    """Features instead of images, through a network that passes them on."""
    module = getattr(apart.rival("torchmetrics.image"), metric)
    import torch

    x, y = (torch.from_numpy(array) for array in _arrays(folder, "x", "y"))
    passing = torch.nn.Identity()
    passing.num_features = x.shape[1]  # type: ignore[assignment]

    def call() -> Any:
        score = module(feature=passing, **options)
        score.set_dtype(torch.float64)
        score.update(x, real=True)
        score.update(y, real=False)
        return score.compute()

    return call


def _features_torchmetrics(folder: str) -> apart.Call:
    return _value(_torchmetrics("FrechetInceptionDistance", folder, {}))


def _kid_protocol(folder: str) -> apart.Call:
    from evaluation import kid

    x, y = _arrays(folder, "x", "y")

    def call() -> dict[str, float]:
        found = kid(generated=y, reference=x, subsets=(_SUBSETS["subsets"], _SUBSETS["subset_size"]))
        return {"value": found.value, "error": found.error}

    return call


def _kid_pairs(folder: str) -> apart.Call:
    from evaluation import kid

    x, y = _arrays(folder, "x", "y")
    return _value(lambda: kid(generated=y, reference=x).value)


def _kid_relabelled(folder: str) -> apart.Call:
    from evaluation import kid

    x, y = _arrays(folder, "x", "y")
    return _value(lambda: kid(generated=y, reference=x, rng=np.random.default_rng(0)).value)


def _kid_torch_fidelity(folder: str) -> apart.Call:
    module = apart.rival("torch_fidelity.metric_kid")
    import torch

    x, y = (torch.from_numpy(array) for array in _arrays(folder, "x", "y"))
    options = {f"kid_{key}": value for key, value in _SUBSETS.items()} | {"verbose": False, "rng_seed": 2020}
    return _value(lambda: module.kid_features_to_metric(y, x, **options)["kernel_inception_distance_mean"])


def _kid_torchmetrics(folder: str) -> apart.Call:
    call = _torchmetrics("KernelInceptionDistance", folder, dict(_SUBSETS))

    def seeded() -> dict[str, float]:
        import torch

        torch.manual_seed(0)  # its subsets come from the global stream; this process has no other use for it
        mean, spread = call()
        return {"value": float(mean), "error": float(spread)}

    return seeded


def _kid_pairs_torchmetrics(folder: str) -> apart.Call:
    module = apart.rival("torchmetrics.image.kid")
    import torch

    x, y = (torch.from_numpy(array) for array in _arrays(folder, "x", "y"))
    return _value(lambda: module.poly_mmd(x, y))


ROWS: dict[str, Callable[..., apart.Call]] = {
    function.__name__[1:]: function
    for function in (
        *(_statistics_here, _square_root, _statistics_pytorch_fid, _statistics_clean_fid, _statistics_torch_fidelity),
        *(_statistics_torchmetrics, _features_here, _features_streamed, _features_pytorch_fid, _features_clean_fid),
        *(_features_torch_fidelity, _features_torchmetrics, _kid_protocol, _kid_pairs, _kid_relabelled),
        *(_kid_torch_fidelity, _kid_torchmetrics, _kid_pairs_torchmetrics),
    )
}


def _table(folder: str, other: str, ours: str, what: str, rows: dict[str, str]) -> None:
    here = apart.measured(__file__, ours, folder)
    apart.show(what, here)
    for row, name in rows.items():
        python = sys.executable if name.startswith(("here", "scipy")) else other
        found = apart.measured(__file__, row, folder, python=python)
        gap = None
        if "error" in found and "error" in here and "value" in found:
            gap = f"{abs(found['value'] - here['value']) / here['error']:.1f} of our errors (other subsets)"
        apart.show(name, found, here, gap)


def _frechet(other: str, d: int) -> None:
    """The distance of two sets of statistics, with our interval, against the square root of the product."""
    rng = np.random.default_rng(0)
    mix = np.eye(d) + 0.3 / np.sqrt(d) * rng.standard_normal((d, d))
    with tempfile.TemporaryDirectory() as folder:
        for name, x in (("p", rng.standard_normal((3 * d, d))), ("q", rng.standard_normal((3 * d, d)) @ mix)):
            np.save(f"{folder}/mean_{name}.npy", x.mean(axis=0))
            np.save(f"{folder}/cov_{name}.npy", np.cov(x.T))
        print(f"\nFréchet distance of statistics, d = {d}")
        rivals = {"square_root": "scipy.linalg.sqrtm", "statistics_pytorch_fid": "pytorch-fid"}
        rivals |= {"statistics_clean_fid": "clean-fid", "statistics_torch_fidelity": "torch-fidelity"}
        rivals |= {"statistics_torchmetrics": "torchmetrics"}
        _table(folder, other, "statistics_here", "here, debiased, with its interval", rivals)


def _of_features(other: str, n: int, d: int) -> None:
    """The distance from features on: moments included."""
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/x.npy", rng.standard_normal((n, d)))
        np.save(f"{folder}/y.npy", 1.05 * rng.standard_normal((n, d)) + 0.02)
        print(f"\nFréchet distance of features, n = m = {n}, d = {d}")
        names = {"pytorch_fid": "pytorch-fid", "clean_fid": "clean-fid", "torch_fidelity": "torch-fidelity"}
        rivals = {"features_streamed": "here, from batches of 1000, with its interval"}
        rivals |= {f"features_{key}": name for key, name in (names | {"torchmetrics": "torchmetrics"}).items()}
        _table(folder, other, "features_here", "here, debiased, with its interval", rivals)


def _kernel(other: str, n: int, d: int) -> None:
    """KID by the published protocol, and over all pairs."""
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((2, n, d)) * 0.5
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/x.npy", x)
        np.save(f"{folder}/y.npy", y + 0.02)
        print(f"\nKID, n = m = {n}, d = {d}: 100 subsets of 1000")
        rivals = {"kid_torch_fidelity": "torch-fidelity", "kid_torchmetrics": "torchmetrics"}
        _table(folder, other, "kid_protocol", "here", rivals)
        print(f"\nKID, n = m = {n}, d = {d}: all pairs")
        rivals = {"kid_pairs_torchmetrics": "torchmetrics", "kid_relabelled": "here, with 199 relabellings"}
        _table(folder, other, "kid_pairs", "here, with its standard error", rivals)


def _beside_infinity(trials: int = 60) -> None:
    """Root-mean-square error beside FID-infinity: 15 sizes, a line in 1/n, at equal data."""
    from evaluation import Moments, fid
    from evaluation.bures import Pair

    rng = np.random.default_rng(3)
    print("\nRoot-mean-square error at equal data, Gaussian features")
    for d, n, shift, scale in ((12, 400, 0.3, 1.2), (16, 240, 0.1, 1.1), (32, 480, 0.1, 1.0), (32, 480, 0.0, 1.0)):
        target = d * (shift**2 + (scale - 1) ** 2)
        sizes = np.linspace(n // 10, n, 15).astype(int)
        errors = []
        for _ in range(trials):
            x, y = rng.standard_normal((n, d)), scale * rng.standard_normal((n, d)) + shift
            plain = []
            for size in sizes:
                one, other = (a[rng.choice(n, size, replace=False)] for a in (x, y))
                plain.append(Pair(Moments.of(one), Moments.of(other)).raw)
            line = float(np.polyfit(1 / sizes, plain, 1)[1])
            errors.append((fid(generated=y, reference=x).value - target, line - target, plain[-1] - target))
        ours, theirs, raw = np.sqrt(np.mean(np.square(errors), axis=0))
        print(f"  d = {d}, n = {n}, truth {target:<6.3g} here {ours:.4f}   FID-infinity {theirs:.4f}   plain {raw:.4f}")


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--other", default=sys.executable, help="a Python with the other packages in it")
    parser.add_argument("--d", type=int, default=2048, help="coordinates of the statistics (default 2048)")
    parser.add_argument("--large", action="store_true", help="also 10 000 features of 2048 coordinates")
    chosen = parser.parse_args()
    print(apart.LEGEND)
    _frechet(chosen.other, chosen.d)
    _of_features(chosen.other, 5000, 512)
    if chosen.large:
        _of_features(chosen.other, 10_000, 2048)
    _kernel(chosen.other, 5000, 256)
    _beside_infinity()


if __name__ == "__main__" and not apart.serve(ROWS, sys.argv):
    main()
