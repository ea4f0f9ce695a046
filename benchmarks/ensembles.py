"""Ensembles of GANs against the ways one would otherwise train many: ``python benchmarks/ensembles.py``.

The game is one move of D and one of G, non-saturating, G 2-H-H-2, D 2-H-H-1, LeakyReLU, Adam. Counted are model-steps
per second of CPU time, one thread, all lanes in one run and in turn. A ratio is the median of the ratios within a
round, so that a machine that gets slower or faster on the way favours nobody.

    here          K members in one pass, each with random streams of its own (``toygen.gan`` and ``train``)
    eager loop    one model after the other, as anybody would write it: nn.Sequential, torch.optim.Adam
    fused loop    the same with fused Adam
    torch.func    K stacked models, functional_call + grad + vmap, one Adam over the stack
    compiled      with ``--compiled``: here, but both networks through torch.compile
    jax           a vmapped lax.scan, compiled whole, in the Python of ``--other`` if JAX is there: the ceiling

and beside ours the share of the measured float32 GEMM rate that the products of the game take. With ``--device cuda``
wall time is counted, K is 512, and the loop runs on the same GPU. With ``--coverage`` it measures instead how long the
quick recipe takes until every one of 32 members covers all modes of the ring and of the grid.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import numpy as np
import torch
from scanned import BETAS, DATA, LENGTH, RATE
from torch import Tensor, nn
from torch.nn.functional import softplus

from divergences import Gaussian
from evaluation.modes import mode_coverage
from toygen import MLP, GanRun, Recipe, gan, grid, minibatches, ring, train
from toygen.objectives import OBJECTIVES

Burst = Callable[[int], None]
# From a number of steps to the seconds they took.
Lane = Callable[[int], float]
# Width, batch, and how many times the rate of the eager loop is asked for.
SHAPES = ((32, 64, 6.5), (64, 128, 2.0), (128, 256, 1.0))


def ours(width: int, batch: int, members: int, device: torch.device, *, compiled: bool = False) -> Burst:
    """The library's own loop."""

    def rngs(stream: int) -> list[np.random.Generator]:
        return [np.random.default_rng([stream, member]) for member in range(members)]

    generator: Any = MLP([2, width, width, 2], rngs(1)).to(device)
    discriminator: Any = MLP([2, width, width, 1], rngs(2)).to(device)
    if compiled:
        generator, discriminator = torch.compile(generator), torch.compile(discriminator)
    latent = Gaussian(np.zeros(2), np.eye(2))
    recipe = Recipe(penalty="none", learning_rate=RATE, betas=BETAS)
    objective = OBJECTIVES["non_saturating"]
    turns = gan(generator, discriminator, objective=objective, latent=latent, optimizer=recipe.optimizer, rng=rngs(3))
    batches = minibatches(DATA, size=batch, rng=rngs(4), members=members, device=device)

    def burst(steps: int) -> None:
        for _ in train(turns, batches, steps):
            pass

    return burst


def eager(width: int, batch: int, device: torch.device, *, fused: bool) -> Burst:
    """One model, the way it is usually written."""
    torch.manual_seed(0)
    generator, discriminator = (_network(width, out).to(device) for out in (2, 1))
    of_g, of_d = (
        torch.optim.Adam(net.parameters(), lr=RATE, betas=BETAS, fused=fused or None)
        for net in (generator, discriminator)
    )
    data = torch.tensor(DATA, dtype=torch.float32, device=device)

    def burst(steps: int) -> None:
        for _ in range(steps):
            real = data[torch.randint(len(data), (batch,), device=device)]
            with torch.no_grad():
                fake = generator(torch.randn(batch, 2, device=device))
            loss = softplus(-discriminator(real)).mean() + softplus(discriminator(fake)).mean()
            of_d.zero_grad()
            loss.backward()
            of_d.step()
            loss = softplus(-discriminator(generator(torch.randn(batch, 2, device=device)))).mean()
            of_g.zero_grad()
            loss.backward()
            of_g.step()

    return burst


def _network(width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(2, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, outputs)
    )


def stacked(width: int, batch: int, members: int, device: torch.device) -> Burst:
    """K models stacked by torch.func."""
    from torch.func import functional_call, grad, stack_module_state, vmap

    torch.manual_seed(0)
    bases = [_network(width, out).to(device) for out in (2, 1)]
    stacks = []
    for out in (2, 1):
        weights, _ = stack_module_state([_network(width, out).to(device) for _ in range(members)])
        stacks.append({name: tensor.detach() for name, tensor in weights.items()})
    of_g, of_d = stacks
    adams = [torch.optim.Adam(list(stack.values()), lr=RATE, betas=BETAS, fused=True) for stack in stacks]
    data = torch.tensor(DATA, dtype=torch.float32, device=device)

    def d_loss(d: dict[str, Tensor], g: dict[str, Tensor], real: Tensor, z: Tensor) -> Tensor:
        fake = functional_call(bases[0], g, (z,))
        logits = functional_call(bases[1], d, (torch.cat([real, fake]),))
        return softplus(-logits[:batch]).mean() + softplus(logits[batch:]).mean()

    def g_loss(g: dict[str, Tensor], d: dict[str, Tensor], z: Tensor) -> Tensor:
        return softplus(-functional_call(bases[1], d, (functional_call(bases[0], g, (z,)),))).mean()

    slopes_d, slopes_g = vmap(grad(d_loss)), vmap(grad(g_loss))

    def move(stack: dict[str, Tensor], slopes: dict[str, Tensor], adam: torch.optim.Optimizer) -> None:
        for name, weight in stack.items():
            weight.grad = slopes[name].contiguous()
        adam.step()

    def burst(steps: int) -> None:
        for _ in range(steps):
            real = data[torch.randint(len(data), (members, batch), device=device)]
            move(of_d, slopes_d(of_d, of_g, real, torch.randn(members, batch, 2, device=device)), adams[1])
            move(of_g, slopes_g(of_g, of_d, torch.randn(members, batch, 2, device=device)), adams[0])

    return burst


@contextlib.contextmanager
def elsewhere(python: str, width: int, batch: int, members: int) -> Iterator[Lane]:
    """JAX, in a process of its own.

    Raises:
        ImportError: that Python cannot run it.
    """
    command = [python, str(Path(__file__).with_name("scanned.py")), *map(str, (width, batch, members))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        asked, answers, complaints = process.stdin, process.stdout, process.stderr
        if asked is None or answers is None or complaints is None:
            raise ImportError("no pipes to the other process")

        def lane(steps: int) -> float:
            with contextlib.suppress(BrokenPipeError):
                print(steps, file=asked, flush=True)
            told = answers.readline()
            if not told:
                raise ImportError((complaints.read().strip().splitlines() or ["it was killed"])[-1])
            return float(told)

        try:
            lane(LENGTH)
            yield lane
        finally:
            process.kill()
            with contextlib.suppress(BrokenPipeError):
                asked.close()


def flops(width: int, batch: int) -> float:
    """Of the products that one model-step cannot do without."""
    g, d = width * (2 + width + 2), width * (2 + width + 1)
    inner_g, inner_d = g - 2 * width, d - 2 * width
    of_d = g + 2 * (d + d + inner_d)  # G forward; on twice the batch: D forward, to the weights, to the activations
    of_g = g + d + d + g + inner_g  # forward; through D to the points; to G's weights and activations
    return 2.0 * batch * (of_d + of_g)


def gemm_rate() -> float:
    """Float32 operations per second of one large product, the best of several."""
    a, b = torch.randn(2, 1024, 1024)
    torch.mm(a, b)
    best = min(_seconds(lambda _: torch.mm(a, b), 1) for _ in range(10))
    return float(2 * 1024**3 / best)


def _seconds(burst: Callable[[int], Any], steps: int, clock: Callable[[], float] = time.process_time) -> float:
    start = clock()
    burst(steps)
    return clock() - start


def on_gpu() -> float:
    """A clock that waits for the GPU."""
    torch.cuda.synchronize()
    return time.perf_counter()


def compare(options: argparse.Namespace, width: int, batch: int, device: torch.device) -> dict[str, np.ndarray]:
    """Model-steps per second of every lane, round by round."""
    clock = on_gpu if device.type == "cuda" else time.process_time
    members = options.members
    bursts: dict[str, tuple[Burst, int]] = {
        "here": (ours(width, batch, members, device), members),
        "eager loop": (eager(width, batch, device, fused=False), 1),
        "fused loop": (eager(width, batch, device, fused=True), 1),
        "torch.func": (stacked(width, batch, members, device), members),
    }
    if options.compiled:
        bursts["compiled"] = (ours(width, batch, members, device, compiled=True), members)

    def timed(burst: Burst) -> Lane:
        return lambda steps: _seconds(burst, steps, clock)

    lanes: dict[str, tuple[Lane, int]] = {name: (timed(burst), count) for name, (burst, count) in bursts.items()}
    with contextlib.ExitStack() as stack:
        if device.type == "cpu":
            try:
                lanes["jax"] = (stack.enter_context(elsewhere(options.other, width, batch, members)), members)
            except (ImportError, OSError) as error:
                print(f"  jax skipped: {error}")
        steps = {}
        for name, (lane, _) in lanes.items():
            lane(LENGTH)  # warm up
            steps[name] = LENGTH * max(1, round(options.seconds / lane(LENGTH)))
        rounds = [
            {name: count * steps[name] / lane(steps[name]) for name, (lane, count) in lanes.items()}
            for _ in range(options.rounds)
        ]
    return {name: np.array([found[name] for found in rounds]) for name in lanes}


def show(rates: dict[str, np.ndarray], bar: float) -> None:
    """The table of one shape."""
    for name, rate in rates.items():
        to_loop, to_ours = (np.median(rate / rates[other]) for other in ("eager loop", "here"))
        print(f"  {name:<12}{np.median(rate):10.0f}   ×{to_loop:<6.2f} of the eager loop   ×{to_ours:.2f} of ours")
    ratios = rates["here"] / rates["eager loop"]
    verdict = "reached" if np.median(ratios) >= bar else "MISSED"
    print(f"  asked for: ×{bar:g} of the eager loop; {verdict}, rounds from ×{ratios.min():.2f} to ×{ratios.max():.2f}")


def coverage() -> Iterator[str]:
    """CPU seconds until every member of the quick recipe covers all modes."""
    for name, target, every in (("ring", ring(), 250), ("grid", grid(), 1000)):
        data = target.sample(10_000, np.random.default_rng(1))
        run = GanRun(data, recipe=Recipe().quick(), members=32, steps=12_000, seed=1)
        z, total = torch.randn(10_000, 2, generator=torch.Generator().manual_seed(0)), len(target.components)
        start = time.process_time()
        for progress in run:
            if progress.done % every:
                continue
            with torch.no_grad():
                clouds = progress.generator(z.expand(32, -1, -1)).double().numpy()
            captured = [mode_coverage(generated=cloud, modes=target).captured for cloud in clouds]
            complete = sum(count == total for count in captured)
            if complete == 32 or progress.done == progress.total:
                seconds = time.process_time() - start
                yield f"{name}: {complete} of 32 cover {total}/{total} after {progress.done} steps, {seconds:.0f} s"
                break


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--members", type=int, help="K; default 32, on a GPU 512")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each burst")
    parser.add_argument("--other", default=sys.executable, metavar="PYTHON", help="a Python with JAX in it")
    parser.add_argument("--compiled", action="store_true", help="try torch.compile, too")
    parser.add_argument("--coverage", action="store_true", help="time to 8/8 and 25/25 instead")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.coverage:
        for line in coverage():
            print(line, flush=True)
        return
    device = torch.device(options.device)
    options.members = options.members or (512 if device.type == "cuda" else 32)
    print(f"torch {torch.__version__}, {device}, one thread, K = {options.members}: model-steps per second")
    for width, batch, bar in SHAPES:
        print(f"\nwidth {width}, batch {batch}", flush=True)
        rates = compare(options, width, batch, device)
        show(rates, bar)
        if device.type == "cpu":
            peak = gemm_rate()
            share = flops(width, batch) * float(np.median(rates["here"])) / peak
            print(
                f"  ours does {share:.0%} of the float32 GEMM rate of this machine ({peak / 1e9:.0f} GF/s)", flush=True
            )


if __name__ == "__main__":
    main()
