"""The game of ``ensembles.py`` in JAX: a vmapped lax.scan, compiled whole. Needs numpy and jax, nothing else.

``python benchmarks/scanned.py WIDTH BATCH MEMBERS`` reads numbers of steps, one a line, and answers each with the CPU
seconds they took; the first answer comes once everything is compiled.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import numpy as np

DATA = np.random.default_rng(0).normal(size=(10_000, 2))
RATE, BETAS = 1e-3, (0.0, 0.99)
LENGTH = 8  # steps in one scan


def scanned(width: int, batch: int, members: int) -> Callable[[int], None]:
    """Trains K models by so many steps, rounded up to whole scans."""
    # By name: this environment need not have it.
    jax, jnp = (importlib.import_module(name) for name in ("jax", "jax.numpy"))

    data = jnp.asarray(DATA, dtype=jnp.float32)

    def start(key: Any, outputs: int) -> list[Any]:
        layers = []
        for inputs, out in ((2, width), (width, width), (width, outputs)):
            key, own, other = jax.random.split(key, 3)
            bound = 1 / np.sqrt(inputs)
            layers.append(jax.random.uniform(own, (inputs, out), minval=-bound, maxval=bound))
            layers.append(jax.random.uniform(other, (out,), minval=-bound, maxval=bound))
        return layers

    def run(weights: Any, x: Any) -> Any:
        for i in (0, 2):
            x = x @ weights[i] + weights[i + 1]
            x = jnp.where(x > 0, x, 0.2 * x)
        return x @ weights[4] + weights[5]

    def adam(weights: Any, squares: Any, slopes: Any, t: Any) -> tuple[Any, Any]:
        squares = [BETAS[1] * s + (1 - BETAS[1]) * g * g for s, g in zip(squares, slopes, strict=True)]
        scale = jnp.sqrt(1 - BETAS[1] ** t)
        moved = [w - RATE * g / (jnp.sqrt(s) / scale + 1e-8) for w, s, g in zip(weights, squares, slopes, strict=True)]
        return moved, squares

    def d_loss(d: Any, fake: Any, real: Any) -> Any:
        return jax.nn.softplus(-run(d, real)).mean() + jax.nn.softplus(run(d, fake)).mean()

    def g_loss(g: Any, d: Any, z: Any) -> Any:
        return jax.nn.softplus(-run(d, run(g, z))).mean()

    def step(state: Any, _: Any) -> tuple[Any, None]:
        g, d, squares_g, squares_d, key, t = state
        key, *keys = jax.random.split(key, 4)
        real = data[jax.random.randint(keys[0], (batch,), 0, len(data))]
        fake = run(g, jax.random.normal(keys[1], (batch, 2)))
        d, squares_d = adam(d, squares_d, jax.grad(d_loss)(d, fake, real), t)
        g, squares_g = adam(g, squares_g, jax.grad(g_loss)(g, d, jax.random.normal(keys[2], (batch, 2))), t)
        return (g, d, squares_g, squares_d, key, t + 1), None

    @jax.jit
    @jax.vmap
    def play(state: Any) -> Any:
        return jax.lax.scan(step, state, None, length=LENGTH)[0]

    @jax.vmap
    def begin(key: Any) -> Any:
        first, second, rest = jax.random.split(key, 3)
        g, d = start(first, 2), start(second, 1)
        return g, d, [jnp.zeros_like(w) for w in g], [jnp.zeros_like(w) for w in d], rest, jnp.float32(1)

    state = [begin(jax.random.split(jax.random.key(0), members))]

    def burst(steps: int) -> None:
        for _ in range(-(-steps // LENGTH)):
            state[0] = jax.block_until_ready(play(state[0]))

    return burst


def main() -> None:
    """Answer until nothing more is asked."""
    burst = scanned(*map(int, sys.argv[1:4]))
    burst(LENGTH)
    for line in sys.stdin:
        start = time.process_time()
        burst(int(line))
        print(time.process_time() - start, flush=True)


if __name__ == "__main__":
    main()
