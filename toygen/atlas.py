r"""The collapse atlas: how often does a GAN lose a mode, and which of its parts decides?

A *cell* is one setting: target, objective, penalty, capacity, recipe, steps. Each is trained as an ensemble of at least
64 members, and every member is asked which modes it reaches (``evaluation.mode_coverage``). What a cell says has an
interval over the members: the share of them that cover every mode (Wilson), and means of modes, high-quality share and
reverse KL (bootstrap over members).

**One cell, one file.** A finished cell is written whole under a name that holds a digest of everything that defines it,
recipe included. Starting again computes what is missing and nothing else; two processes on one folder at worst do the
same cell twice, with the same result. What a cell's numbers are depends on the cell alone: each is trained on one
thread, from streams of its own, so they are the same for every number of workers.

**In parallel over cells** by joblib, whose backend may be another one: inside
``joblib.parallel_config(backend="dask")`` the cells go to a Dask cluster. A worker writes its own result; where the
workers do not see the folder, the caller writes what they return.

    python -m toygen atlas                      the table that comes with the library
    python -m toygen atlas --out DIR            its cells, computed again
    python -m toygen atlas --out DIR --full     objective × penalty × target × capacity: days; stop and resume at will
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from divergences import InputError
from divergences.checks import as_count, one_of
from evaluation.files import write_atomically
from evaluation.mode_geometry import expected_hits, gaussian_parts
from evaluation.modes import mode_coverage
from toygen.coins import SHARP, CoinRecipe, CoinRun
from toygen.objectives import OBJECTIVES
from toygen.penalties import PENALTIES
from toygen.recipes import Recipe, recipe_for
from toygen.runs import GanRun
from toygen.targets import target_by_name
from toygen.variants import variant

__all__ = ["Cell", "Outcome", "ablation", "atlas", "committed", "full", "run_cell", "tupled"]

if TYPE_CHECKING:
    _Text: TypeAlias = str
    _Count: TypeAlias = int
else:
    _Text = _Count = Any

RECIPE_NAMES = ("quick", "standard", "sharp")
PROTOCOL_SIZE = 2500  # samples per model in the tables of VEEGAN and PacGAN
_FORMAT = "mintmark atlas 1"
_DRAW_KEY = 2**31 + 1  # data and samples come from a spawn key that no member index uses
_CHUNK = 32
_SHARP_STEPS = {"ring": 3000, "grid": 8000}


@dataclass(frozen=True)
class Cell:
    """One setting of the atlas.

    Attributes:
        target: name of a target whose modes are Gaussians of the plane or the line.
        objective: name of one of ``OBJECTIVES``.
        penalty: name of one of ``PENALTIES``.
        recipe: "standard" (``recipe_for``), "quick" (its ``quick()``) or "sharp" (``toygen.coins.SHARP``, for another
            game with what ``toygen.variants`` says).
        width: of every hidden layer: the capacity.
        steps: moves of the generator.
        members: of the ensemble.
        changes: what else differs from the named recipe, as pairs (attribute, value): the rows of an ablation.
        seed: of data, members and samples.
        train_size: training points, shared by all members.
        samples: drawn of each member for scoring.

    Raises:
        InputError: a name that is not known, a count below 1, a target without Gaussian modes, or a change of something
            that the recipe does not have or that the cell names itself.
    """

    target: _Text
    objective: _Text = "non_saturating"
    penalty: _Text = "r1_r2"
    recipe: _Text = "quick"
    width: _Count = 32
    steps: _Count = 3000
    members: _Count = 64
    changes: tuple[tuple[str, Any], ...] = ()
    seed: _Count = 0
    train_size: _Count = 50_000
    samples: _Count = 10_000

    def __post_init__(self) -> None:
        one_of(self.objective, "objective", list(OBJECTIVES))
        one_of(self.penalty, "penalty", list(PENALTIES))
        one_of(self.recipe, "recipe", RECIPE_NAMES)
        for name in ("width", "steps", "members", "samples", "train_size"):
            least = 2 if name == "train_size" else 1
            object.__setattr__(self, name, as_count(getattr(self, name), name, minimum=least))
        object.__setattr__(self, "seed", as_count(self.seed, "seed", minimum=0))
        _need_modes(self.target)
        self.trained_by()

    def trained_by(self) -> Recipe:
        """The recipe: chunks of 32, the cell's width, and its changes."""
        own = {f.name for f in dataclasses.fields(self)}
        if said := [name for name, _ in self.changes if name in own]:
            raise InputError(f"changes name {said[0]!r}, which the cell has itself: give it there.")
        if self.recipe == "sharp":
            recipe = variant(SHARP, objective=self.objective, penalty=self.penalty)
        else:
            recipe = recipe_for(self.objective, self.penalty)
            recipe = recipe.quick() if self.recipe == "quick" else recipe
        unknown = [name for name, _ in self.changes if not hasattr(recipe, name)]
        if unknown:
            raise InputError(f"changes name {unknown[0]!r}, which the recipe {self.recipe!r} does not have.")
        return replace(recipe, **{"width": self.width, "chunk": _CHUNK, **dict(self.changes)})

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits of everything that defines the cell's numbers."""
        recipe = self.trained_by()
        # Without what stands at its default: an attribute that recipes learn later changes no cell that lacks it.
        turned = {f.name: getattr(recipe, f.name) for f in dataclasses.fields(recipe) if _turned(recipe, f)}
        text = json.dumps([_FORMAT, _plain(self), type(recipe).__name__, turned], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def file_name(self) -> str:
        """Where the outcome stands in its folder."""
        return f"{self.target}-{self.objective}-{self.penalty}-{self.recipe}-{self.width}-{self.digest}.json"

    @property
    def label(self) -> str:
        """Objective, penalty and what else is not usual, in a few words."""
        parts = [self.objective, self.penalty] + [f"{name}={value}" for name, value in self.changes]
        return ", ".join(parts)


@dataclass(frozen=True)
class Outcome:
    """What the members of a cell did: one entry each, in the order of their indices.

    Attributes:
        cell: the setting.
        total: modes of the target.
        captured: modes with at least one high-quality sample, of ``samples``; 0 for a member that diverged.
        high_quality: share of high-quality samples; 0 for a member that diverged.
        reverse_kl: of the histogram of hits from the fair shares, bias removed; None without any hit.
        captured_2500: modes by the protocol of VEEGAN and PacGAN: the first 2500 samples alone (all, if fewer).
        high_quality_2500: the share among these.
        diverged: whether the member holds numbers that are not finite.
        high_quality_null: the share of a perfect generator.
        seconds: of processor time for training and scoring, all on one core.
        versions: of torch, numpy and Python, and the processor.
    """

    cell: Cell
    total: int
    captured: tuple[int, ...]
    high_quality: tuple[float, ...]
    reverse_kl: tuple[float | None, ...]
    captured_2500: tuple[int, ...]
    high_quality_2500: tuple[float, ...]
    diverged: tuple[bool, ...]
    high_quality_null: float
    seconds: float = field(compare=False)
    versions: dict[str, str] = field(compare=False)

    def to_json(self) -> str:
        """All of it."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "cell"}
        return json.dumps({"format": _FORMAT, "cell": _plain(self.cell), **values}, allow_nan=False, indent=1)

    @classmethod
    def from_json(cls, text: str, name: str) -> Outcome:
        """Read what ``to_json`` wrote.

        Raises:
            InputError: something else; ``name`` says what was read.
        """
        try:
            values = json.loads(text)
            if values.pop("format") != _FORMAT:
                raise ValueError("another format")
            settings = values.pop("cell")
            settings["changes"] = tuple((key, tupled(value)) for key, value in settings["changes"])
            outcome = cls(cell=Cell(**settings), **{key: tupled(value) for key, value in values.items()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{name} is not an outcome of the atlas ({error}). Remove it to compute it again."
            ) from error
        lengths = {len(getattr(outcome, key)) for key in ("captured", "high_quality", "reverse_kl", "diverged")}
        if lengths != {outcome.cell.members}:
            raise InputError(f"{name} does not hold one entry per member. Remove it to compute it again.")
        return outcome


def committed() -> list[Cell]:
    """The cells whose results come with the library: two targets, five quick games each, and the sharp recipe."""
    games = [
        ("minimax", "none"),
        ("non_saturating", "none"),
        ("non_saturating", "r1_r2"),
        ("relativistic", "none"),
        ("wasserstein", "gradient_penalty"),
    ]
    quick = [Cell(target, *game) for target in ("ring", "grid") for game in games]
    return [*quick, *(_sharp(target) for target in ("ring", "grid"))]


def full(*, steps: int = 3000, members: int = 64) -> list[Cell]:
    """Every objective of its own (f-GANs are named by hand) × every penalty × target × capacity."""
    # A penalty in the slope of MMD's features is one of their witness; the others know scores only.
    fitting = ("none", "clip", "gradient_penalty", "one_sided", "zero_centred")
    return [
        Cell(target, objective, penalty, width=width, steps=steps, members=members)
        for target in ("ring", "grid")
        for width in (16, 32, 64)
        for objective in OBJECTIVES
        if not objective.startswith("f_gan")
        for penalty in PENALTIES
        if objective != "mmd" or penalty in fitting
    ]


def ablation(members: int = 32, *, steps: int = 1500) -> list[Cell]:
    """The sharp recipe on the grid, and the same with one part of it taken away or turned.

    The training is short on purpose: there the parts differ in coverage, too.
    """
    whole = replace(_sharp("grid"), members=members, steps=steps)
    changes: list[tuple[tuple[str, Any], ...]] = [
        (("negatives", 0.0),),
        (("coins", 0), ("scatter", 0.0)),
        (("scatter", 0.0),),
        (("shift_gain", 1.0),),
        (("weights", (0.1, 0.1)),),
        (("schedule", "constant"),),
        (("decay", 0.0),),
        (("input_gain", 1.0),),
    ]
    return [whole, replace(whole, penalty="none"), *(replace(whole, changes=own) for own in changes)]


def run_cell(cell: Cell, folder: Path | None = None) -> Outcome:
    """Train and score one cell, unless ``folder`` already holds it; what is computed is written there.

    Raises:
        InputError: a file of the cell's name that does not hold its outcome.
        OSError: the folder cannot be written.
    """
    path = None if folder is None else folder / cell.file_name
    if path is not None and path.exists():
        found = Outcome.from_json(path.read_text(encoding="utf-8"), str(path))
        if found.cell != cell:
            raise InputError(f"{path} holds the outcome of another cell. Remove it to compute this one.")
        return found
    outcome = _compute(cell)
    if path is not None:
        _write(path, outcome)
    return outcome


def atlas(cells: Sequence[Cell], folder: Path | str, *, jobs: int | None = None) -> list[Outcome]:
    """The outcomes of many cells, those that ``folder`` lacks computed side by side.

    Args:
        cells: different ones.
        folder: where outcomes are kept.
        jobs: processes; None leaves it to ``joblib.parallel_config`` (one process without it).

    Returns:
        In the order of the cells.

    Raises:
        InputError: no cells, or a cell twice.
    """
    from joblib import Parallel, delayed

    if not cells or len(set(cells)) < len(cells):
        raise InputError("cells must be different settings, at least one.")
    home = Path(folder)
    home.mkdir(parents=True, exist_ok=True)
    outcomes: list[Outcome] = Parallel(n_jobs=jobs)(delayed(run_cell)(cell, home) for cell in cells)
    for outcome in outcomes:
        path = home / outcome.cell.file_name
        if not path.exists():  # a worker on another machine wrote to a folder of its own
            _write(path, outcome)
    return outcomes


def _sharp(target: str) -> Cell:
    return Cell(target, recipe="sharp", width=SHARP.width, steps=_SHARP_STEPS[target])


def _compute(cell: Cell) -> Outcome:
    start = time.process_time()
    target = target_by_name(cell.target)
    own = np.random.SeedSequence(cell.seed, spawn_key=(_DRAW_KEY,)).spawn(2)
    train = target.sample(cell.train_size, np.random.default_rng(own[0]))
    recipe = cell.trained_by()
    run: GanRun
    if isinstance(recipe, CoinRecipe):
        run = CoinRun(train, recipe=recipe, members=cell.members, steps=cell.steps, seed=cell.seed)
    else:
        run = GanRun(train, recipe=recipe, members=cell.members, steps=cell.steps, seed=cell.seed)
    for _ in run:
        pass
    ensemble = run.result()
    scores = _Scores(cell.members, target)
    for place, stream in enumerate(np.random.default_rng(own[1]).spawn(cell.members)):
        if not ensemble.diverged[place]:
            scores.take(place, ensemble.sampler(place)(cell.samples, stream))
    return Outcome(
        cell=cell,
        total=scores.total,
        captured=tuple(int(count) for count in scores.captured[0]),
        high_quality=tuple(float(share) for share in scores.quality[0]),
        reverse_kl=tuple(scores.reverse_kl),
        captured_2500=tuple(int(count) for count in scores.captured[1]),
        high_quality_2500=tuple(float(share) for share in scores.quality[1]),
        diverged=tuple(bool(lost) for lost in ensemble.diverged),
        high_quality_null=scores.null,
        seconds=round(time.process_time() - start, 1),
        versions={
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
    )


@functools.lru_cache(maxsize=64)
def _need_modes(name: str) -> None:
    gaussian_parts(target_by_name(name))


class _Scores:
    """What the members of a cell score, by the protocol of this library and by that of the published tables."""

    def __init__(self, members: int, target: Any) -> None:
        self._target, parts = target, gaussian_parts(target)
        self.total = len(parts.weights)
        self.null = min(float(expected_hits(parts, 1).rates.sum()), 1.0)
        self.captured = np.zeros((2, members), dtype=np.int64)
        self.quality = np.zeros((2, members))
        self.reverse_kl: list[float | None] = [None] * members

    def take(self, place: int, points: np.ndarray) -> None:
        """Score one member."""
        for row, cloud in enumerate((points, points[:PROTOCOL_SIZE])):
            coverage = mode_coverage(generated=cloud, modes=self._target)
            self.captured[row, place] = coverage.captured
            self.quality[row, place] = coverage.high_quality.value
            if row == 0 and coverage.captured:
                self.reverse_kl[place] = float(coverage.reverse_kl.value)


def _write(path: Path, outcome: Outcome) -> None:
    text = outcome.to_json()
    write_atomically(path, lambda file: file.write(text.encode("utf-8")))


def _plain(cell: Cell) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(cell)))
    return plain


def _turned(recipe: Recipe, attribute: dataclasses.Field[Any]) -> bool:
    return bool(getattr(recipe, attribute.name) != attribute.default)


def tupled(value: Any) -> Any:
    """Lists of JSON as tuples."""
    return tuple(tupled(one) for one in value) if isinstance(value, list) else value
