"""How the members of an ensemble learn, as a film: the clouds of points they generate, step by step.

Every frame shows the same latents, so what moves is the generator. Early steps change most and get most frames: frame i
of n is taken at step (i/(n − 1))²·steps.
"""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float64

from divergences import InputError, Mixture
from divergences.checks import as_count, as_points
from evaluation.files import write_atomically
from toygen.train import single_thread

if TYPE_CHECKING:
    from toygen.runs import Progress

__all__ = ["Film"]

_FRAME_MS, _LAST_MS = 100, 2500
_DPI = 75
# All that reading a damaged archive of arrays may end with.
_DAMAGES = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)


class Film:
    """A film of the first members of a run in the plane or on the line.

    Args:
        steps: of the run, for each member.
        latent_dim: of the generators.
        data: points (n, d) that fix the section shown, d = 1 or 2.
        members: how many members are filmed.
        points: how many points of each.
        frames: how many at most.
        seed: of the latents.

    Raises:
        InputError: data of three dimensions or more, or a count below 1.
    """

    def __init__(
        self,
        steps: Any,
        *,
        latent_dim: Any,
        data: Any,
        members: Any = 8,
        points: Any = 800,
        frames: Any = 48,
        seed: Any = 0,
    ) -> None:
        self._data = as_points(data, "data")
        if self._data.shape[1] > 2:
            raise InputError(f"data must lie on the line or in the plane to be filmed; it has {self._data.shape[1]} "
                             "dimensions.")  # fmt: skip
        steps, self._members = as_count(steps, "steps"), as_count(members, "members")
        shares = np.linspace(0, 1, as_count(frames, "frames")) ** 2
        self._wanted = frozenset(int(step) for step in np.maximum(1, np.round(shares * steps)))
        rng = np.random.default_rng(as_count(seed, "seed", minimum=0))
        self._latents = rng.standard_normal((as_count(points, "points"), as_count(latent_dim, "latent_dim")))
        self._frames: dict[int, Float64[np.ndarray, "k n d"]] = {}
        self._names: tuple[int, ...] = ()

    @property
    def steps(self) -> tuple[int, ...]:
        """After how many steps each frame was taken."""
        return tuple(sorted(self._frames))

    def look(self, progress: Progress) -> None:
        """Take a frame if it is time for one: call it after every step. Only the first chunk of members is filmed."""
        step = progress.step.index + 1
        if step != progress.done or step not in self._wanted:
            return
        network = progress.generator
        self._names = progress.members[: self._members]
        z = torch.tensor(self._latents, dtype=network.dtype).to(network.device)
        with torch.no_grad(), single_thread():
            clouds = network(z.expand(network.members, *z.shape))[: self._members]
        self._frames[step] = clouds.double().cpu().numpy()

    def keep(self, path: str | os.PathLike[str]) -> Path:
        """Write the frames taken so far, so that a resumed run can ``recall`` them."""
        steps = np.array(self.steps, dtype=np.int64)
        clouds = np.stack([self._frames[step] for step in self.steps]) if self._frames else np.empty(0)
        arrays = {"steps": steps, "clouds": clouds, "members": np.array(self._names, dtype=np.int64)}
        return write_atomically(path, lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]

    def recall(self, path: str | os.PathLike[str], *, until: Any) -> None:
        """Take over the frames that ``keep`` wrote, up to step ``until``: later ones will be taken again.

        Raises:
            InputError: no such file, or none that ``keep`` wrote.
        """
        try:
            # Anything that is no archive, a pickle or a lone array, has no such members.
            with Path(path).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                steps, clouds, names = (np.asarray(file[name]) for name in ("steps", "clouds", "members"))
            if len(steps) and (clouds.ndim != 4 or clouds.shape[1::2] != (len(names), self._data.shape[1])):
                raise ValueError(f"{len(names)} names for clouds of shape {clouds.shape}")
            found = {int(step): cloud for step, cloud in zip(steps, clouds, strict=True)}
            self._names = tuple(int(name) for name in names)
        except FileNotFoundError as error:
            raise InputError(f"{path} does not exist.") from error
        except _DAMAGES as error:
            raise InputError(
                f"{path} cannot be read as the frames of a film ({type(error).__name__}). Remove it, and the film "
                "begins where the run goes on; or go on without a film."
            ) from error
        self._frames = {step: cloud for step, cloud in found.items() if step <= until}

    def save(self, path: str | os.PathLike[str], *, modes: Mixture | None = None, title: str = "") -> Path:
        """Write the film as a GIF that repeats for ever.

        Args:
            path: where to; ends in .gif.
            modes: the mixture of Gaussians that should be found, or None.
            title: over every frame, before the number of the step.

        Raises:
            InputError: another suffix, or no frames.
            OSError: the place cannot be written.
        """
        if Path(path).suffix.lower() != ".gif":
            raise InputError(f"a film is saved as .gif, not as {Path(path).name!r}.")
        if not self._frames:
            raise InputError("the film has no frames: call look after each step of a run.")
        from PIL import Image

        pictures = [Image.open(io.BytesIO(page)).convert("RGB") for page in self._pages(modes, title)]
        # One palette for all, or colours would flicker; the last frame has them all.
        palette = pictures[-1].quantize(64, dither=Image.Dither.NONE)
        pages = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
        times = [_FRAME_MS] * (len(pages) - 1) + [_LAST_MS]

        def write(file: Any) -> None:
            pages[0].save(file, format="GIF", save_all=True, append_images=pages[1:], duration=times, loop=0)

        return write_atomically(path, write)

    def _pages(self, modes: Mixture | None, title: str) -> list[bytes]:
        from evaluation.pictures import contact_sheet, style

        figures = []
        for step in self.steps:
            panels = [(f"member {name}", cloud) for name, cloud in zip(self._names, self._frames[step], strict=True)]
            figures.append(contact_sheet(panels, modes=modes, title=f"{title}, step {step}".lstrip(", ")))
        flat = self._data.shape[1] == 1
        # On the line heights are densities, up to the highest of the second half: a generator that begins on one spot
        # would make everything after it look flat.
        late = [axes.get_ylim()[1] for figure in figures[len(figures) // 2 :] for axes in figure.axes]
        low, high = self._data.min(axis=0), self._data.max(axis=0)
        margin = 0.2 * float((high - low).max())
        pages = []
        for figure in figures:
            for axes in figure.axes:
                if flat:
                    axes.set_ylim(0.0, max(late))
                if modes is None:
                    # The same section in every frame: that of the data.
                    axes.set_xlim(low[0] - margin, high[0] + margin)
                    if not flat:
                        axes.set_ylim(low[1] - margin, high[1] + margin)
            page = io.BytesIO()
            with style():
                figure.savefig(page, format="png", dpi=_DPI, facecolor="white")
            pages.append(page.getvalue())
        return pages
