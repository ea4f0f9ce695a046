r"""All pairs of two sets, tile by tile: a lower and an upper bound of every squared distance, from one matrix product.

With the points moved to a common centre and divided by a power of two, |x−y|² = |x|² + |y|² − 2x·y is the product of
(x, 1, |x|²) and (−2y, |y|², 1). In arithmetic of unit roundoff u a sum of n products is off by at most γₙ = nu/(1−nu)
times the sum of their magnitudes, in whatever order it is added up; with the rounding of the points themselves,

    | computed − |x−y|² | ≤ c (|x|² + |y|²),    c = 2γ + 6u < (2n + 16) u.

Replacing |x|² by (1−c)|x|² makes the product itself a *lower bound*; adding 2c(|x|² + |y|²) makes it an upper one. A
search therefore keeps whatever its bounds cannot exclude, and computes the distance of those few by direct difference
in float64: the answer is that of the naive float64 computation, at the price of a float32 product. A tile is all that
is ever held; points may be mapped from disk and are converted a tile at a time.

Reference:
    Accuracy and stability of numerical algorithms, 2nd ed., ch. 3 (Higham, 2002),
    https://doi.org/10.1137/1.9780898718027.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64

from divergences import InputError
from divergences.checks import as_array, as_points, describe_rows, one_of
from divergences.plain_arrays import plain_array

__all__ = ["Blocks", "Cloud", "NumpyBlocks", "Product", "TorchBlocks", "as_cloud", "blocks_for", "pair_distances"]

# Floats in one of the arrays of a direct difference (16 MB in float64).
_DIRECT = 2_000_000
# Coordinates per partial product: the error bound grows with the length of a sum, and so does a tile of points.
_LENGTH = 4096
# Squares of larger coordinates would leave the range of float64.
_LARGEST = 1e150
# Below this the product may have lost everything to underflow (points are scaled to about 1).
_TINY = 1e-30
# From here on (multiplications) it pays to import torch and ask it for a GPU.
_WORTH_A_GPU = 1e12


class Cloud:
    """Points (n, d) as they came: any real dtype, in memory or mapped from disk; read by blocks only."""

    def __init__(self, raw: np.ndarray, name: str) -> None:
        self.raw, self.name = raw, name
        self.largest = max(float(np.abs(self.rows(part)).max()) for part in self.parts())

    def __len__(self) -> int:
        return len(self.raw)

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return int(self.raw.shape[1])

    def parts(self) -> Iterator[slice]:
        """Slices that together are all rows, each of bounded size."""
        step = max(1, _DIRECT // self.dim)
        return (slice(start, min(start + step, len(self))) for start in range(0, len(self), step))

    def rows(self, index: Any) -> Float64[np.ndarray, "n d"]:
        """Rows in float64."""
        return np.asarray(self.raw[index], dtype=np.float64)

    def center(self) -> Float64[np.ndarray, " d"]:
        """About their mean; float32 numbers, so that float32 points are moved with one rounding."""
        some = self.rows(np.unique(np.linspace(0, len(self) - 1, min(len(self), 1024)).astype(np.int64)))
        return some.mean(axis=0).astype(np.float32).astype(np.float64) if self.largest < 1e30 else some.mean(axis=0)

    def moved(
        self, index: Any, columns: slice, center: Float64[np.ndarray, " d"], scale: float
    ) -> Float32[np.ndarray, "n c"]:
        """(x − center) · scale in float32, each coordinate within two roundings of the truth."""
        block = self.raw[index, columns]
        if block.dtype == np.float32 and self.largest < 1e30:
            return (block - center[columns].astype(np.float32)) * np.float32(scale)
        return ((block.astype(np.float64) - center[columns]) * scale).astype(np.float32)


def as_cloud(value: Any, name: str, *, dim: int | None = None, minimum: int = 1) -> Cloud:
    """What ``divergences.checks.as_points`` accepts, checked by blocks and never copied as a whole.

    Raises:
        InputError: as ``as_points``; or coordinates whose squares float64 cannot hold.
    """
    raw = plain_array(value, name)
    if raw.dtype.kind not in "biuf" or raw.dtype.itemsize > 8:
        raw = as_array(raw, name)
    if raw.ndim == 1:
        raw = raw[:, None]
    if raw.ndim != 2 or len(raw) < minimum or raw.shape[1] == 0 or dim not in (None, raw.shape[1]):
        # The same words as everywhere; a shape can be refused without touching the numbers.
        as_points(np.broadcast_to(np.zeros(()), raw.shape), name, dim=dim, minimum=minimum)
    step = max(1, _DIRECT // raw.shape[1])
    finite = np.concatenate([np.isfinite(raw[i : i + step]).all(axis=1) for i in range(0, len(raw), step)])
    if not finite.all():
        first = raw[np.flatnonzero(~finite)]
        what = "NaN" if np.isnan(first).any() else "infinite values"
        raise InputError(
            f"{name} holds {what} in {describe_rows(~finite)}. Drop these rows or find out where they come from."
        )
    cloud = Cloud(raw, name)
    if cloud.largest > _LARGEST:
        raise InputError(f"{name} holds coordinates up to {cloud.largest:.1e}; divide it by a constant first.")
    return cloud


def pair_distances(
    left: Cloud, right: Cloud, rows: Int64[np.ndarray, " p"], others: Int64[np.ndarray, " p"]
) -> Float64[np.ndarray, " p"]:
    """|left[rows] − right[others]| by direct difference in float64.

    Every distance that is reported or that decides a comparison comes from here, and depends on its two points alone:
    equal pairs have equal distances to the last bit, and d(x, y) = d(y, x).
    """
    distances = np.empty(len(rows))
    step = max(1, _DIRECT // left.dim)
    for start in range(0, len(rows), step):
        here = slice(start, start + step)
        gap = left.rows(rows[here])
        gap -= right.rows(others[here])
        distances[here] = np.sqrt(np.einsum("nd,nd->n", gap, gap))
    return distances


class Blocks(ABC):
    """Who multiplies the matrices, and looks through the tile that comes out."""

    side: int
    roundoff: float

    @abstractmethod
    def product(self, left: np.ndarray, right: np.ndarray, total: Any) -> Any:
        """``left @ right.T``, added to ``total`` unless that is None."""

    @abstractmethod
    def hide_diagonal(self, tile: Any) -> None:
        """A point is not its own neighbour."""

    @abstractmethod
    def kth(self, tile: Any, k: int) -> Float32[np.ndarray, " n"]:
        """The k-th smallest entry of each row."""

    @abstractmethod
    def at_most(self, tile: Any, row_bounds: np.ndarray, column_bounds: np.ndarray | None) -> Any:
        """Mask of the entries that do not exceed the bound of their row *or* that of their column."""

    @abstractmethod
    def share(self, mask: Any) -> float:
        """Of true entries."""

    @abstractmethod
    def pairs(self, tile: Any, mask: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(rows, columns, entries) where the mask is true."""

    @abstractmethod
    def split(self, tile: Any, slack: tuple[np.ndarray, np.ndarray], low: np.ndarray, high: np.ndarray) -> Any:
        """For each row its count of entries surely below ``low`` of their column, and a mask of the doubtful ones."""

    @abstractmethod
    def transposed(self, tile: Any) -> Any:
        """Rows for columns."""

    @abstractmethod
    def plain(self, tile: Any) -> Float32[np.ndarray, "n m"]:
        """The tile as an array, wherever it lies."""


class NumpyBlocks(Blocks):
    """float32 products by numpy's BLAS."""

    def __init__(self, side: int = 1024) -> None:
        self.side, self.roundoff = side, 2.0**-24

    def product(self, left: np.ndarray, right: np.ndarray, total: Any) -> Any:
        """See ``Blocks``."""
        tile = left @ right.T
        return tile if total is None else np.add(total, tile, out=total)

    def hide_diagonal(self, tile: Any) -> None:
        """See ``Blocks``."""
        np.fill_diagonal(tile, np.inf)

    def kth(self, tile: Any, k: int) -> Float32[np.ndarray, " n"]:
        """See ``Blocks``."""
        return np.partition(tile, k - 1, axis=1)[:, k - 1]

    def at_most(self, tile: Any, row_bounds: np.ndarray, column_bounds: np.ndarray | None) -> Any:
        """See ``Blocks``."""
        mask = tile <= row_bounds[:, None]
        if column_bounds is not None:
            mask |= tile <= column_bounds
        return mask

    def share(self, mask: Any) -> float:
        """See ``Blocks``."""
        return float(np.count_nonzero(mask)) / mask.size

    def pairs(self, tile: Any, mask: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See ``Blocks``."""
        rows, columns = np.divmod(np.flatnonzero(mask), tile.shape[1])
        return rows, columns, tile[rows, columns]

    def split(self, tile: Any, slack: tuple[np.ndarray, np.ndarray], low: np.ndarray, high: np.ndarray) -> Any:
        """See ``Blocks``."""
        upper = tile + slack[0][:, None]
        upper += slack[1]
        sure = upper < low
        return np.count_nonzero(sure, axis=1), (tile <= high) & ~sure

    def transposed(self, tile: Any) -> Any:
        """See ``Blocks``."""
        return np.ascontiguousarray(tile.T)

    def plain(self, tile: Any) -> Float32[np.ndarray, "n m"]:
        """See ``Blocks``."""
        return np.asarray(tile)


class TorchBlocks(Blocks):
    """The same on a device of torch; only what the bounds leave over comes back."""

    def __init__(self, device: str, side: int = 8192) -> None:
        import torch

        self.torch, self.device, self.side = torch, torch.device(device), side
        self.roundoff = 2.0**-24
        # Where somebody has allowed "float32" products of 10 bits, float64 gives the precision that is counted on.
        self.exact = self.device.type == "cpu" or torch.get_float32_matmul_precision() == "highest"

    def _there(self, array: np.ndarray) -> Any:
        return self.torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def product(self, left: np.ndarray, right: np.ndarray, total: Any) -> Any:
        """See ``Blocks``."""
        first, second = self._there(left), self._there(right)
        tile = first @ second.T if self.exact else (first.double() @ second.double().T).float()
        return tile if total is None else total.add_(tile)

    def hide_diagonal(self, tile: Any) -> None:
        """See ``Blocks``."""
        tile.fill_diagonal_(float("inf"))

    def kth(self, tile: Any, k: int) -> Float32[np.ndarray, " n"]:
        """See ``Blocks``."""
        return np.asarray(tile.kthvalue(k, dim=1).values.cpu().numpy())

    def at_most(self, tile: Any, row_bounds: np.ndarray, column_bounds: np.ndarray | None) -> Any:
        """See ``Blocks``."""
        mask = tile <= self._there(row_bounds)[:, None]
        if column_bounds is not None:
            mask |= tile <= self._there(column_bounds)
        return mask

    def share(self, mask: Any) -> float:
        """See ``Blocks``."""
        return float(self.torch.count_nonzero(mask)) / mask.numel()

    def pairs(self, tile: Any, mask: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See ``Blocks``."""
        rows, columns = mask.nonzero(as_tuple=True)
        return rows.cpu().numpy(), columns.cpu().numpy(), tile[rows, columns].cpu().numpy()

    def split(self, tile: Any, slack: tuple[np.ndarray, np.ndarray], low: np.ndarray, high: np.ndarray) -> Any:
        """See ``Blocks``."""
        sure = tile + self._there(slack[0])[:, None] + self._there(slack[1]) < self._there(low)
        return sure.sum(dim=1).cpu().numpy(), (tile <= self._there(high)) & ~sure

    def transposed(self, tile: Any) -> Any:
        """See ``Blocks``."""
        return tile.T.contiguous()

    def plain(self, tile: Any) -> Float32[np.ndarray, "n m"]:
        """See ``Blocks``."""
        return np.asarray(tile.cpu().numpy())


def blocks_for(device: Any, work: float) -> Blocks:
    """The numpy blocks, or those of torch's CUDA device where asked for, or where there is one and it is worth it.

    Args:
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        work: multiplications to be done.

    Raises:
        InputError: another name; CUDA asked for and not there.
    """
    if one_of(device, "device", ("auto", "cpu", "cuda")) == "cpu" or (device == "auto" and work < _WORTH_A_GPU):
        return NumpyBlocks()
    try:
        import torch

        found = torch.cuda.is_available()
    except ImportError:
        found = False
    if found:
        return TorchBlocks("cuda")
    if device == "cuda":
        raise InputError('device="cuda" needs torch with a CUDA device, and finds none. Use device="auto".')
    return NumpyBlocks()


class Product:
    """Lower and upper bounds of all squared distances between two clouds, in units of ``1/scale²``."""

    def __init__(self, left: Cloud, right: Cloud, blocks: Blocks) -> None:
        self.left, self.right, self.blocks = left, right, blocks
        self.center = right.center()
        largest = max(left.largest, right.largest)
        self.scale = 2.0 ** -math.ceil(math.log2(largest)) if largest > 0 else 1.0
        self.columns = [slice(i, min(i + _LENGTH, left.dim)) for i in range(0, left.dim, _LENGTH)]
        length = min(left.dim, _LENGTH) + len(self.columns) + 2
        self.loss = 1.01 * (2 * length + 16) * blocks.roundoff
        self.left_norms = self._norms(left)
        self.right_norms = self.left_norms if left is right else self._norms(right)

    def turned(self) -> Product:
        """Left for right."""
        other = copy.copy(self)
        other.left, other.right = self.right, self.left
        other.left_norms, other.right_norms = self.right_norms, self.left_norms
        return other

    def _norms(self, cloud: Cloud) -> Float64[np.ndarray, " n"]:
        total = np.zeros(len(cloud))
        for part in cloud.parts():
            for columns in self.columns:
                block = cloud.moved(part, columns, self.center, self.scale).astype(np.float64)
                total[part] += np.einsum("nd,nd->n", block, block)
        return total

    def lower(self, rows: Any, others: Any, *, apart: bool = False) -> Any:
        """Lower bounds of the squared distances of a tile; ``apart`` hides its diagonal (the points themselves)."""
        tile = None
        for columns in self.columns:
            left = self.left.moved(rows, columns, self.center, self.scale)
            right = -2 * self.right.moved(others, columns, self.center, self.scale)
            if columns.stop == self.left.dim:
                left = _with(left, 1.0, (1 - self.loss) * self.left_norms[rows] - _TINY)
                right = _with(right, (1 - self.loss) * self.right_norms[others] - _TINY, 1.0)
            tile = self.blocks.product(left, right, tile)
        if apart:
            self.blocks.hide_diagonal(tile)
        return tile

    def slack(self, rows: Any, others: Any) -> tuple[Float32[np.ndarray, " n"], Float32[np.ndarray, " m"]]:
        """What must be added to a lower bound, for its row and for its column, to make it an upper one."""
        return (
            (2 * self.loss * self.left_norms[rows] + 4 * _TINY).astype(np.float32),
            (2 * self.loss * self.right_norms[others] + 4 * _TINY).astype(np.float32),
        )


def _with(block: Float32[np.ndarray, "n c"], first: Any, second: Any) -> Float32[np.ndarray, "n c2"]:
    """Two columns more."""
    wide = np.empty((len(block), block.shape[1] + 2), dtype=np.float32)
    wide[:, :-2], wide[:, -2], wide[:, -1] = block, first, second
    return wide
