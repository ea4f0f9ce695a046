"""``python -m figures [NAME ...] --out DIR``: every lecture figure as SVG and PNG, and a gallery page."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
import zlib
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parent
GALLERY = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; img-src 'self' file:">
<title>mintmark: lecture figures</title>
<style>
body { font: 17px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a;
  background: #fff; }
figure { margin: 0 0 3rem; }
img { max-width: 100%; height: auto; }
figcaption { max-width: 46rem; }
h1, h2 { line-height: 1.25; }
h2 { margin-bottom: .6rem; }
</style>
</head>
<body>
<h1>Lecture figures</h1>
<p>Made by <code>python -m figures</code>, seed {{ seed }}{% if quick %}, quick (shorter trainings){% endif %}.
Each also as PNG.</p>
{% for entry in entries %}
<figure id="{{ entry.name }}">
<h2>{{ entry.title }}</h2>
<img src="{{ entry.name }}.svg" alt="{{ entry.title }}">
<figcaption>{% for paragraph in entry.caption %}<p>{{ paragraph }}</p>{% endfor %}
<p><a href="{{ entry.name }}.svg">SVG</a> · <a href="{{ entry.name }}.png">PNG</a></p></figcaption>
</figure>
{% endfor %}
</body>
</html>
"""


def names() -> list[str]:
    """All figures, by file name."""
    return sorted(path.stem.removeprefix("fig_") for path in FOLDER.glob("fig_*.py"))


def load(name: str) -> ModuleType:
    """The module of a figure."""
    return importlib.import_module(f"figures.fig_{name}")


def caption_of(module: ModuleType) -> tuple[str, list[str]]:
    """Title and paragraphs, from the docstring."""
    title, *rest = (module.__doc__ or "").strip().split("\n\n")
    return title.rstrip("."), [" ".join(paragraph.split()) for paragraph in rest]


def make(name: str, folder: Path, seed: int, *, quick: bool) -> list[Path]:
    """Compute and draw one figure; its picture depends on the seed and on nothing else that is drawn."""
    import numpy as np

    from figures.canvas import lecture_style, save

    module = load(name)
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    data = module.compute(rng, quick=quick)
    with lecture_style():
        figure = module.draw(data)
    return save(figure, folder / name)


def main(argv: list[str] | None = None) -> int:
    """Draw the figures named, or all of them, and write the gallery page.

    Args:
        argv: arguments, ``sys.argv[1:]`` by default.

    Returns:
        0, or 2 for misuse.
    """
    parser = argparse.ArgumentParser(prog="python -m figures", description="Draw the lecture figures.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(names())} (default: all)")
    parser.add_argument("--out", type=Path, default=Path("figures-out"), metavar="DIR", help="default: figures-out")
    parser.add_argument("--seed", type=int, default=0, help="0 to 4294967295 (default 0)")
    parser.add_argument("--quick", action="store_true", help="train shorter")
    arguments = parser.parse_args(argv)
    unknown = sorted(set(arguments.names) - set(names()))
    if unknown:
        parser.error(f"no figure is named {', '.join(unknown)}; there are: {', '.join(names())}")
    if not 0 <= arguments.seed < 2**32:
        parser.error(f"--seed must lie between 0 and 4294967295; it is {arguments.seed}")
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {arguments.out} cannot be made: {error.strerror}")
    for backend in ("PYTORCH", "JAX", "CUPY", "TENSORFLOW"):
        os.environ.setdefault(f"POT_BACKEND_DISABLE_{backend}", "1")
    chosen = arguments.names or names()
    entries = []
    for name in chosen:
        start = time.perf_counter()
        if sys.stderr.isatty():
            print(f"{name} ...", end="\r", file=sys.stderr, flush=True)
        paths = make(name, arguments.out, arguments.seed, quick=arguments.quick)
        title, caption = caption_of(load(name))
        entries.append({"name": name, "title": title, "caption": caption})
        print(f"{name:<20} {time.perf_counter() - start:5.1f} s  {', '.join(str(path) for path in paths)}")
    print(f"gallery: {write_gallery(arguments.out, entries, arguments.seed, quick=arguments.quick)}")
    return 0


def write_gallery(folder: Path, entries: list[dict[str, object]], seed: int, *, quick: bool) -> Path:
    """The page that shows all figures with their captions."""
    from jinja2 import Environment, StrictUndefined

    from evaluation.files import write_atomically

    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True).from_string(GALLERY)
    page = template.render(entries=entries, seed=seed, quick=quick)
    return write_atomically(folder / "index.html", lambda file: file.write(page.encode()))


if __name__ == "__main__":
    sys.exit(main())
