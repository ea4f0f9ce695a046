r"""What was seen of an ensemble, and the record of it: plain arrays, and CSV.

A ``Truth`` is one look at all members (``toygen.monitor`` makes it), a ``History`` a list of them that becomes arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from divergences import Estimate, InputError
from evaluation.files import write_atomically
from toygen.probes import Readings

__all__ = ["History", "Truth"]


@dataclass(frozen=True, eq=False)
class Truth:
    """What ``monitor`` saw: K numbers each, NaN for a member that diverged; None where ``absent`` says why.

    Attributes:
        step: index of the round.
        members: indices of the members.
        modes: modes with at least one high-quality sample, shape (K,); None without modes.
        modes_total: how many there are.
        modes_null: how many a perfect generator reaches on average with as many samples.
        high_quality: share of samples within 3σ of a mode (above three dimensions: between two χ² quantiles).
        high_quality_null: that of a perfect generator.
        transport: W₁ between n generated and n fresh target samples.
        transport_null: the same between fresh and fresh samples, an interval for one such pair.
        jsd: JSD(p, p_g), nats.
        singular_mass: share of p_g that has no density, shape (K,).
        value: V(D, G) in the objective's convention, on samples.
        best: V(D*, G), from the JSD.
        regret: V(D*, G) − V(D, G) ≥ 0.
        critic: E_p f − E_q f.
        slope: mean |∇D| between data and generated points.
        steepest: largest |∇D| found there, shape (K,): a lower bound of the Lipschitz constant.
        discriminator_gradient: |∇_φ L_D|, without the penalty; the error is the norm of its noise.
        generator_gradient: |∇_θ L_G|, likewise.
        absent: why something is None or NaN, by name.
        seconds: what looking took.
    """

    step: int
    members: tuple[int, ...]
    transport: Readings
    transport_null: Estimate
    slope: Readings
    steepest: Float64[np.ndarray, " k"]
    modes: Int64[np.ndarray, " k"] | None = None
    modes_total: int = 0
    modes_null: float = np.nan
    high_quality: Readings | None = None
    high_quality_null: float = np.nan
    jsd: Readings | None = None
    singular_mass: Float64[np.ndarray, " k"] | None = None
    value: Readings | None = None
    best: Readings | None = None
    regret: Readings | None = None
    critic: Readings | None = None
    discriminator_gradient: Readings | None = None
    generator_gradient: Readings | None = None
    absent: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def columns(self) -> dict[str, Float64[np.ndarray, " k"]]:
        """Everything that is one number per member, as arrays (K,): "jsd" and its error "jsd_error", and so on."""
        found: dict[str, np.ndarray] = {}
        for entry in fields(self):
            reading = getattr(self, entry.name)
            if isinstance(reading, Readings):
                found[entry.name], found[f"{entry.name}_error"] = reading
            elif isinstance(reading, np.ndarray):
                found[entry.name] = reading.astype(np.float64)
        return found


class History:
    """Truths, one after the other, as arrays and as CSV.

    Attributes:
        truths: in the order in which they were added.
    """

    def __init__(self) -> None:
        self.truths: list[Truth] = []

    def add(self, truth: Any) -> Truth:
        """Keep a truth, and give it back.

        Raises:
            InputError: it is none.
        """
        if not isinstance(truth, Truth):
            raise InputError(f"truth must be what monitor gives; it is {type(truth).__name__}.")
        self.truths.append(truth)
        return truth

    def rows(self) -> dict[str, np.ndarray]:
        """One entry per look and member: ``step``, ``member``, and every column; NaN where one is absent."""
        names = list(dict.fromkeys(name for truth in self.truths for name in truth.columns()))
        table: dict[str, list[np.ndarray]] = {name: [] for name in ("step", "member", *names)}
        for truth in self.truths:
            size, own = len(truth.members), truth.columns()
            table["step"].append(np.full(size, truth.step))
            table["member"].append(np.array(truth.members))
            for name in names:
                table[name].append(own.get(name, np.full(size, np.nan)))
        return {name: np.concatenate(parts) if parts else np.empty(0) for name, parts in table.items()}

    def arrays(self, members: Sequence[int] | None = None) -> dict[str, np.ndarray]:
        """Columns as arrays (looks, K), with ``step`` (looks,) and ``member`` (K,), for looks at the same members.

        Args:
            members: whose; needed where chunks of different members were looked at.

        Raises:
            InputError: nothing was added, or the looks are at different members and none are named.
        """
        groups = {truth.members for truth in self.truths}
        if not groups or (members is None and len(groups) > 1):
            raise InputError(
                "history holds no truths yet."
                if not groups
                else f"members must be one of {sorted(groups)}: the looks are at different chunks."
            )
        chosen = next(iter(groups)) if members is None else tuple(members)
        looks = [truth for truth in self.truths if truth.members == chosen]
        if not looks:
            raise InputError(f"members must be one of {sorted(groups)}; it is {chosen}.")
        names = dict.fromkeys(name for truth in looks for name in truth.columns())
        nothing = np.full(len(chosen), np.nan)
        columns = {name: np.stack([truth.columns().get(name, nothing) for truth in looks]) for name in names}
        return {"step": np.array([truth.step for truth in looks]), "member": np.array(chosen), **columns}

    def to_csv(self, path: str | PathLike[str]) -> Path:
        """One line per look and member, whole or not at all; what is absent is an empty cell."""
        rows = self.rows()
        lines = [",".join(rows)]
        lines += [",".join(_cell(value) for value in line) for line in zip(*rows.values(), strict=True)]
        text = ("\n".join(lines) + "\n").encode()
        return write_atomically(path, lambda file: file.write(text))


def _cell(value: Any) -> str:
    number = float(value)
    return "" if np.isnan(number) else repr(int(number) if number.is_integer() else number)
