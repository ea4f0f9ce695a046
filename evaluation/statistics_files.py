r"""Statistics of features in ``.npz`` files: written so that other tools read them, read from other tools.

==================  ==========================  =============================================
file                arrays                      denominator of the covariance
==================  ==========================  =============================================
here                mu, sigma, n, fingerprint   n − 1
pytorch-fid, TTUR   mu, sigma                   n − 1
clean-fid           mu, sigma                   n − 1
ADM                 mu, sigma, mu_s, sigma_s    n − 1
StyleGAN 2 and 3    mean and covariance         n: pass ``ddof=0``
==================  ==========================  =============================================

Only ours say of how many samples they are. A distance without that number has no known bias and no error, so the
number must be given. ``fingerprint`` is a JSON object as bytes in UTF-8. Nothing is unpickled.
"""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from divergences.checks import as_count
from divergences.errors import InputError
from evaluation.files import write_atomically
from evaluation.readers import open_archive, read_member, stored_keys

if TYPE_CHECKING:
    from evaluation.moments import Moments

__all__ = ["load_moments", "save_moments"]

# Names under which tools keep the features themselves.
_FEATURES = ("feats", "real_feats", "reps", "features")


def save_moments(moments: Moments, path: str | os.PathLike[str]) -> Path:
    """Write ``mu, sigma, n`` and, if known, the fingerprint; whole or not at all.

    Raises:
        OSError: the place cannot be written.
    """
    arrays = {"mu": moments.mean, "sigma": moments.covariance, "n": np.asarray(moments.n, dtype=np.int64)}
    if moments.fingerprint is not None:
        text = json.dumps(moments.fingerprint, ensure_ascii=False, sort_keys=True)
        arrays["fingerprint"] = np.frombuffer(text.encode("utf-8"), dtype=np.uint8)
    return write_atomically(path, lambda file: np.savez(file, **arrays))


def load_moments(
    path: str | os.PathLike[str], *, n: Any = None, ddof: Any = 1, keys: tuple[str, str] = ("mu", "sigma")
) -> Moments:
    """Moments from a statistics file; ``Moments.load`` describes the arguments.

    Raises:
        InputError: a file that cannot be read or lacks these arrays, or an unknown n.
    """
    from evaluation.moments import Moments

    source = Path(path)
    if isinstance(ddof, bool) or ddof not in (0, 1):
        raise InputError(f"ddof must be 1 (covariance divided by n − 1) or 0 (by n); it is {ddof!r}.")
    if source.suffix.lower() in (".pkl", ".pickle"):
        raise InputError(
            f"{source} is a pickle, and reading one runs the code in it. Write its mean and covariance to an .npz file "
            "where you trust it: numpy.savez(path, mu=mean, sigma=covariance, n=n)."
        )
    mean_key, covariance_key = keys
    with open_archive(source) as archive:
        _require(archive, source, keys)
        mean, covariance = (read_member(archive, key, source) for key in keys)
        stored = stored_keys(archive)
        recorded = _count(read_member(archive, "n", source), source) if "n" in stored else None
        fingerprint = (
            _fingerprint(read_member(archive, "fingerprint", source), source) if "fingerprint" in stored else None
        )
    count = _agreed(n, recorded, source)
    mean, covariance = np.asarray(mean), np.asarray(covariance, dtype=np.float64)
    if mean.ndim != 1 or covariance.shape != (mean.size, mean.size):
        raise InputError(
            f"{source}: {mean_key} and {covariance_key} must be (d,) and (d, d); they are {mean.shape} and "
            f"{covariance.shape}."
        )
    if ddof == 0:
        covariance = covariance * (count / (count - 1))
    try:
        return Moments(mean, covariance, count, None, fingerprint)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def _require(archive: zipfile.ZipFile, source: Path, keys: tuple[str, str]) -> None:
    stored = stored_keys(archive)
    missing = [key for key in keys if key not in stored]
    if not missing:
        return
    held = [key for key in _FEATURES if key in stored]
    hint = (
        f" {held[0]} looks like the features themselves: load that array and use Moments.of."
        if held
        else " Name mean and covariance with keys=(…, …), on the command line --stats-keys."
    )
    raise InputError(f"{source} has no array {' and '.join(missing)}; it holds {', '.join(stored)}.{hint}")


def _agreed(given: Any, recorded: int | None, source: Path) -> int:
    if given is None and recorded is None:
        raise InputError(
            f"{source} does not say of how many samples its statistics are, and without that number neither the bias "
            "nor the error of a distance is known. Pass n=, such as n=50000 (--stats-n on the command line)."
        )
    if given is None:
        return as_count(recorded, f"n of {source}", minimum=2)
    count = as_count(given, "n=", minimum=2)
    if recorded is not None and recorded != count:
        raise InputError(f"{source} says that its statistics are of {recorded} samples; n= says {count}.")
    return count


def _count(stored: Any, source: Path) -> int:
    array = np.asarray(stored)
    if array.size != 1 or array.dtype.kind not in "iuf" or not float(array.reshape(())) == int(array.reshape(())):
        raise InputError(f"{source}: n must be one whole number; it is {array!r}.")
    return int(array.reshape(()))


def _fingerprint(stored: Any, source: Path) -> Any:
    array = np.asarray(stored)
    try:
        return json.loads(array.astype(np.uint8, casting="safe").tobytes().decode("utf-8"))
    except (TypeError, ValueError) as error:
        raise InputError(f"{source}: its fingerprint is no JSON object ({error}).") from error
