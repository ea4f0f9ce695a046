"""``python -m toygen atlas``: the table of the collapse atlas, and the cells that are still missing from it.

Exit status: 0 done, 2 misuse, 130 interrupted (cells that are done stay; the same command goes on).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from divergences.checks import as_count, one_of
from divergences.errors import InputError
from toygen import atlas_rows, atlas_table
from toygen.atlas import ablation, atlas, committed, full
from toygen.command_line import Parser, guarded

__all__ = ["main"]

_EXAMPLES = """\
examples:
  python -m toygen atlas
      the table that comes with the library: nothing is trained.
  python -m toygen atlas --out runs/atlas --list
      names the cells (objective, penalty, target, capacity), and says which of them are there.
  python -m toygen atlas --out runs/atlas --targets ring --members 8 --steps 500
      a small one of one's own; interrupted and started again, it computes the cells that are missing.
"""


def _parser() -> Parser:
    parser = Parser(
        prog="python -m toygen atlas",
        description="How often does a GAN lose a mode, and which part of the recipe decides?",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where cells are kept; what is missing is computed")
    parser.add_argument("--full", action="store_true", help="objective × penalty × target × capacity (days)")
    parser.add_argument("--ablation", action="store_true", help="the sharp recipe without each of its parts")
    parser.add_argument("--targets", metavar="NAMES", help="only these, with commas between them")
    parser.add_argument("--members", type=int, metavar="K", help="of every cell (default 64, of an ablation 32)")
    parser.add_argument("--steps", type=int, metavar="N", help="of every cell (default: its own)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="cells at once (default 1; -1: all cores)")
    parser.add_argument("--list", action="store_true", help="name the cells and what is there of them; compute nothing")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0 done, 2 misuse."""
    return guarded(lambda: _run(_parser().parse_args(arguments)))


def _run(options: argparse.Namespace) -> int:
    if options.out is None:
        changed = [
            name
            for name in ("full", "ablation", "targets", "members", "steps", "list")
            if getattr(options, name) is not None and getattr(options, name) is not False
        ]
        if changed:
            raise InputError(f"--{changed[0]} needs --out DIR, a folder for the cells.")
        print(atlas_table.text(atlas_rows.shipped()))  # noqa: T201
        return 0
    if options.full and options.ablation:
        raise InputError("--full and --ablation are two plans; choose one.")
    cells = full() if options.full else ablation() if options.ablation else committed()
    if options.targets:
        wanted = [one_of(name, "--targets", sorted({c.target for c in cells})) for name in options.targets.split(",")]
        cells = [cell for cell in cells if cell.target in wanted]
    asked = {"members": options.members, "steps": options.steps}
    own: dict[str, Any] = {name: as_count(value, f"--{name}") for name, value in asked.items() if value is not None}
    cells = [replace(cell, **own) for cell in cells]
    if options.list:
        done = [(options.out / cell.file_name).exists() for cell in cells]
        lines = [f"{'done   ' if ok else 'missing'} {cell.file_name}" for ok, cell in zip(done, cells, strict=True)]
        print("\n".join([*lines, f"{sum(done)} of {len(cells)} cells are there"]))  # noqa: T201
        return 0
    if options.jobs == 0:
        raise InputError("--jobs must be a number of processes, or -1 for one per core; it is 0.")
    rows = [atlas_rows.Row.of(outcome) for outcome in atlas(cells, options.out, jobs=options.jobs)]
    atlas_rows.write_csv(rows, options.out / "atlas.csv")
    pictures = atlas_table.write_pictures(rows, options.out)
    print(atlas_table.text(rows))  # noqa: T201
    print(f"written to {options.out}: atlas.csv, {', '.join(path.name for path in pictures)}")  # noqa: T201
    return 0
