"""All three jobs of mintmark on data that come with it: theory verified, GANs trained and audited, figures drawn.

``make demo``, or ``python examples/demo.py --out DIR``. Needs no network and no GPU; the report pages are left in DIR.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

# One thread each: the matrices are small, and threads would fight over the cores.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
for _backend in ("PYTORCH", "JAX", "CUPY", "TENSORFLOW"):
    os.environ.setdefault(f"POT_BACKEND_DISABLE_{_backend}", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # figures/ lives in the repository, not in the wheel

import numpy as np

import divergences.__main__ as theory
from evaluation import AuditReport, Verdict, audit, clopper_pearson, mode_coverage

SEED = 0
MEMBERS, STEPS = 8, 10_000
DROPPED = (3, 8)


def main(argv: list[str] | None = None) -> int:
    """Run the demo.

    Args:
        argv: arguments, ``sys.argv[1:]`` by default.

    Returns:
        0 if theory holds and every audit reached the verdict that was planted, else 1.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the pages (default: demo)")
    out = parser.parse_args(argv).out
    out.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    wrong = [*_verify_theory(), *_train_and_audit(out), *_audit_digits(out), *_draw_figures(out)]
    print(f"\n{'─' * 100}\nDone in {time.perf_counter() - start:.0f} s. Open these:")
    for page in sorted(out.rglob("*.html")):
        print(f"  {page}")
    for line in wrong:
        print(f"UNEXPECTED: {line}")
    return 1 if wrong else 0


def _verify_theory() -> list[str]:
    """Job 1: every claim by two computations."""
    _headline("1. Verify theory: python -m divergences")
    captured = io.StringIO()
    with contextlib.redirect_stdout(captured):
        failed = theory.main([])
    lines = captured.getvalue().splitlines()
    for line in lines:
        if line.startswith(("ok", "FAIL")):
            print(f"  {line}")
    print(f"  {lines[-1]}")
    return ["a claim does not hold"] if failed else []


def _train_and_audit(out: Path) -> list[str]:
    """Job 3 on a known target: one ensemble that covers the grid, one that does not; a member of each is audited."""
    from evaluation.pictures import contact_sheet, save
    from toygen import Recipe, fit_gan, targets

    rng = np.random.default_rng(SEED)
    target = targets.grid()
    train, test = target.sample(10_000, rng), target.sample(10_000, rng)
    wrong = []
    for number, (name, penalty) in enumerate((("with penalties", "r1_r2"), ("without", "none"))):
        _headline(f"{2 + number}. Train {MEMBERS} GANs on the 25-mode grid, {name} (non-saturating, {STEPS} steps)")
        begin = time.perf_counter()
        ensemble = fit_gan(
            train,
            # Quick: every mode is covered within a minute; sharpness would take longer.
            recipe=Recipe(penalty=penalty, chunk=MEMBERS).quick(),
            members=MEMBERS,
            steps=STEPS,
            seed=SEED,
            progress=_progress(name),
        )
        clouds = ensemble.sample(2500, np.random.default_rng(SEED))
        counts = [mode_coverage(generated=cloud, modes=target) for cloud in clouds]
        complete = sum(count.captured == count.total for count in counts)
        share = clopper_pearson(complete, len(counts))
        print(f"  modes covered: {', '.join(str(count.captured) for count in counts)} of 25")
        print(f"  members that cover all: {complete} of {len(counts)}, share {share}")
        quality = np.mean([count.high_quality.value for count in counts])
        print(
            f"  high-quality samples: {quality:.1%} on average (a perfect generator: {counts[0].high_quality_null:.1%})"
        )
        print(f"  {time.perf_counter() - begin:.0f} s")
        folder = out / ("grid-penalised" if penalty != "none" else "grid-plain")
        sheet = [(f"seed {member}", cloud) for member, cloud in zip(ensemble.healthy, clouds, strict=True)]
        save(contact_sheet(sheet, modes=target, title=f"25-mode grid, {name}"), folder / "contact-sheet.png")
        # Each ensemble at its best: the member with most modes of a fair share, the sharpest among equals.
        best = max(
            range(len(counts)),
            key=lambda k: (counts[k].captured - len(counts[k].starved), counts[k].high_quality.value),
        )
        place = ensemble.healthy[best]
        report = audit(
            generated=ensemble.sampler(place),
            train=train,
            test=test,
            modes=target,
            rng=np.random.default_rng(SEED),
        )
        _show(report, f"member {ensemble.members[place]}, the best of them", folder / "audit.html")
        missing = len(report["mode loss"].evidence["missing"])
        if (missing == 0) != (penalty != "none") or (penalty != "none" and complete < len(counts)):
            wrong.append(f"{missing} modes missing {name}, {complete} of {len(counts)} members complete")
    return wrong


def _audit_digits(out: Path) -> list[str]:
    """Job 3 on real images: scikit-learn's handwritten digits, and three generators whose defects are planted."""
    from sklearn.datasets import load_digits

    _headline("4. Audit three generators of handwritten digits (real images, 1000 to train on, 797 held out)")
    rng = np.random.default_rng(SEED)
    digits = load_digits()
    images, labels = (digits.images * 15).astype(np.uint8), digits.target
    order = rng.permutation(len(images))
    train, test, train_labels = images[order[:1000]], images[order[1000:]], labels[order[:1000]]
    mixture = _mixture_of(train)
    without = _mixture_of(train[~np.isin(train_labels, DROPPED)])

    def copier(n: int, rng: np.random.Generator) -> np.ndarray:
        made = mixture(n, rng)
        copies = rng.choice(n, 3 * n // 10, replace=False)
        originals = train[rng.choice(len(train), len(copies), replace=False)].astype(int)
        noise = 15 * rng.integers(-1, 2, originals.shape)
        made[copies] = np.clip(originals + noise, 0, 240).astype(np.uint8)
        return made

    cases: list[tuple[str, str, Callable[[int, np.random.Generator], np.ndarray], dict[str, Verdict]]] = [
        (
            "digits-mixture",
            "a mixture model fitted to train",
            mixture,
            {"class loss": Verdict.CLEAR, "memorization": Verdict.CLEAR},
        ),
        (
            "digits-dropped",
            f"the same, never drawing {DROPPED[0]} and {DROPPED[1]}",
            without,
            {"class loss": Verdict.FLAGGED, "memorization": Verdict.CLEAR},
        ),
        (
            "digits-copier",
            "30 % lightly perturbed training images",
            copier,
            {"class loss": Verdict.CLEAR, "memorization": Verdict.FLAGGED},
        ),
    ]
    wrong = []
    for name, description, sampler, expected in cases:
        report = audit(
            generated=sampler(1000, np.random.default_rng([SEED, 1])),
            train=train,
            test=test,
            labels=train_labels,
            rng=np.random.default_rng(SEED),
        )
        _show(report, description, out / name / "audit.html")
        wrong += [
            f"{finding} of {name} is {report[finding].verdict.name}"
            for finding, verdict in expected.items()
            if report[finding].verdict is not verdict
        ]
    return wrong


def _mixture_of(images: np.ndarray) -> Callable[[int, np.random.Generator], np.ndarray]:
    """A generator without a network: 10 Gaussians in the first 16 principal components, rounded to 17 grey levels.

    One covariance for all of them: with one each, 1000 images are few enough to be learned by heart, and the audit
    says so.
    """
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    flat = images.reshape(len(images), -1) / 15.0
    pca = PCA(16, random_state=SEED).fit(flat)
    model = GaussianMixture(10, covariance_type="tied", random_state=SEED).fit(pca.transform(flat))

    def sample(n: int, rng: np.random.Generator) -> np.ndarray:
        model.random_state = int(rng.integers(2**31))
        codes = rng.permutation(model.sample(n)[0])
        grey = np.clip(np.rint(pca.inverse_transform(codes)), 0, 16)
        return (15 * grey).astype(np.uint8).reshape(n, *images.shape[1:])

    return sample


def _draw_figures(out: Path) -> list[str]:
    """Job 2: the lecture figures, with shorter trainings."""
    from figures.__main__ import main as draw

    _headline("5. Draw lecture figures: python -m figures --quick")
    return ["a figure failed"] if draw(["--quick", "--out", str(out / "figures"), "--seed", str(SEED)]) else []


def _show(report: AuditReport, what: str, page: Path) -> None:
    report.to_html(page)
    print(f"\n  Audit of {what}: {report.verdict.name}  ({page})")
    for finding in report.findings:
        print(f"    {finding.verdict.name:<12} {finding.question}")
        if finding.verdict is Verdict.FLAGGED:
            null = f"{finding.null:.4g}" if isinstance(finding.null, float | int) else finding.null
            print(f"    {'':<12} {finding.quantity}: {finding.estimate}; a perfect generator: {null}")
            if finding.name != "fidelity":
                print(
                    textwrap.fill(
                        finding.meaning.split(". ")[0] + ".", 100, initial_indent=" " * 17, subsequent_indent=" " * 17
                    )
                )


def _progress(name: str) -> Callable[[object], None] | None:
    """A counter on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        return None

    def tell(state: object) -> None:
        done, total = getattr(state, "done", 0), getattr(state, "total", 1)
        if done % 50 == 0 or done == total:
            print(f"  {name}: {done} of {total}", end="\r" if done < total else "\n", file=sys.stderr, flush=True)

    return tell


def _headline(text: str) -> None:
    print(f"\n{'─' * 100}\n{text}\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
