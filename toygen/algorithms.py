r"""The first algorithms of two papers, line by line.

Everywhere else a GAN is players taking turns (``toygen.train``), and a recipe says with what. Here the two algorithms
that everybody draws on a blackboard stand as they are printed, each line above the code that does it, update rules
included; nothing of the library's loop, objectives, penalties or optimisers is used. They train ensembles like
everything else: parameters carry a leading member axis, and all members move at once.

The recipes "gan_algorithm_1" and "wgan_algorithm_1" of ``toygen.recipes.RECIPES`` do the same by the library's own
parts, and the tests hold the two routes against each other.

References:
    Generative adversarial nets (Goodfellow et al., 2014), https://arxiv.org/abs/1406.2661, algorithm 1
    Wasserstein GAN (Arjovsky, Chintala, Bottou, 2017), https://arxiv.org/abs/1701.07875, algorithm 1
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from divergences.checks import as_count, as_number
from divergences.errors import InputError

__all__ = ["GanSettings", "WganSettings", "gan_algorithm_1", "wgan_algorithm_1"]

_EPS = 1e-8
# The limit of what may be 0 itself.
_BELOW_0 = -5e-324


class GanSettings(NamedTuple):
    """Of algorithm 1 of the GAN paper. It names no rate, and of momentum only that it was used: these two are ours.

    Attributes:
        m: minibatch size.
        k: steps of the discriminator per step of the generator; 1 is the paper's own choice.
        rate: of both players.
        momentum: of both players.
    """

    m: int = 64
    k: int = 1
    rate: float = 0.05
    momentum: float = 0.5


class WganSettings(NamedTuple):
    """Of algorithm 1 of the WGAN paper, with its defaults.

    Attributes:
        alpha: the learning rate.
        c: the clipping parameter.
        m: the batch size.
        n_critic: the number of iterations of the critic per generator iteration.
        decay: of RMSProp's mean square; the paper does not say, 0.99 is what its code uses.
    """

    alpha: float = 5e-5
    c: float = 0.01
    m: int = 64
    n_critic: int = 5
    decay: float = 0.99


def gan_algorithm_1(
    generator: nn.Module,
    discriminator: nn.Module,
    *,
    data: Iterable[Tensor],
    noise: Callable[[int], Tensor],
    iterations: Any,
    settings: GanSettings = GanSettings(),  # noqa: B008 (a tuple of numbers)
) -> Iterator[int]:
    """Minibatch stochastic gradient descent training of generative adversarial nets, by momentum SGD.

    Args:
        generator: G, (K, m, k) → (K, m, d).
        discriminator: the logit of D, (K, m, d) → (K, m, 1).
        data: minibatches of data, (K, m, d).
        noise: m ↦ latents (K, m, k).
        iterations: of training.
        settings: m, k, and the learning rule.

    Yields:
        The number of iterations done.

    Raises:
        InputError: settings out of their range, batches of another size than m, or data that run out; all raised by
            the first step that meets them.
    """
    _check_gan(settings)
    batches = iter(data)
    theta_d, theta_g = list(discriminator.parameters()), list(generator.parameters())
    velocity_d, velocity_g = [torch.zeros_like(w) for w in theta_d], [torch.zeros_like(w) for w in theta_g]

    def log_d(x: Tensor) -> Tensor:
        return logsigmoid(discriminator(x)[..., 0])

    def log_one_minus_d(x: Tensor) -> Tensor:
        return logsigmoid(-discriminator(x)[..., 0])

    def follow(gradient: Sequence[Tensor], velocity: list[Tensor], theta: list[nn.Parameter], rate: float) -> None:
        with torch.no_grad():
            for g, v, w in zip(gradient, velocity, theta, strict=True):
                v.mul_(settings.momentum).add_(g)
                w.add_(rate * v)

    # for number of training iterations do
    for iteration in range(as_count(iterations, "iterations", minimum=0)):
        # for k steps do
        for _ in range(settings.k):
            # Sample minibatch of m noise samples {z⁽¹⁾, …, z⁽ᵐ⁾} from noise prior p_g(z).
            z = _of_size(noise(settings.m), settings.m, "noise")
            # Sample minibatch of m examples {x⁽¹⁾, …, x⁽ᵐ⁾} from data generating distribution p_data(x).
            x = _next(batches, settings.m)
            # Update the discriminator by ascending its stochastic gradient
            # ∇_θd (1/m) Σᵢ [log D(x⁽ⁱ⁾) + log(1 − D(G(z⁽ⁱ⁾)))].
            value = (log_d(x) + log_one_minus_d(generator(z))).mean(dim=1)
            follow(torch.autograd.grad(value.sum(), theta_d), velocity_d, theta_d, settings.rate)
        # end for
        # Sample minibatch of m noise samples {z⁽¹⁾, …, z⁽ᵐ⁾} from noise prior p_g(z).
        z = _of_size(noise(settings.m), settings.m, "noise")
        # Update the generator by descending its stochastic gradient ∇_θg (1/m) Σᵢ log(1 − D(G(z⁽ⁱ⁾))).
        value = log_one_minus_d(generator(z)).mean(dim=1)
        follow(torch.autograd.grad(value.sum(), theta_g), velocity_g, theta_g, -settings.rate)
        yield iteration + 1
    # end for


def wgan_algorithm_1(
    generator: nn.Module,
    critic: nn.Module,
    *,
    data: Iterable[Tensor],
    noise: Callable[[int], Tensor],
    iterations: Any,
    settings: WganSettings = WganSettings(),  # noqa: B008 (a tuple of numbers)
) -> Iterator[int]:
    """WGAN with weight clipping, by RMSProp.

    Args:
        generator: g_θ, (K, m, k) → (K, m, d).
        critic: f_w, (K, m, d) → (K, m, 1).
        data: minibatches of data, (K, m, d).
        noise: m ↦ latents (K, m, k).
        iterations: of the generator. (The paper says "while θ has not converged"; the caller may stop at any time.)
        settings: α, c, m, n_critic.

    Yields:
        The number of iterations done.

    Raises:
        InputError: settings out of their range, batches of another size than m, or data that run out; all raised by
            the first step that meets them.
    """
    _check_wgan(settings)
    alpha, c, m, n_critic, decay = settings
    batches = iter(data)
    w, theta = list(critic.parameters()), list(generator.parameters())
    square_w, square_theta = [torch.zeros_like(p) for p in w], [torch.zeros_like(p) for p in theta]

    def f(x: Tensor) -> Tensor:
        return critic(x)[..., 0]

    def rmsprop(square: list[Tensor], gradient: Sequence[Tensor]) -> list[Tensor]:
        for s, g in zip(square, gradient, strict=True):
            s.mul_(decay).add_((1 - decay) * g**2)
        return [g / (s.sqrt() + _EPS) for s, g in zip(square, gradient, strict=True)]

    # while θ has not converged do
    for iteration in range(as_count(iterations, "iterations", minimum=0)):
        # for t = 0, …, n_critic do
        for _ in range(n_critic):
            # Sample {x⁽ⁱ⁾} ~ P_r a batch from the real data.
            x = _next(batches, m)
            # Sample {z⁽ⁱ⁾} ~ p(z) a batch of prior samples.
            z = _of_size(noise(m), m, "noise")
            # g_w ← ∇_w [(1/m) Σᵢ f_w(x⁽ⁱ⁾) − (1/m) Σᵢ f_w(g_θ(z⁽ⁱ⁾))]
            g_w = torch.autograd.grad((f(x).mean(dim=1) - f(generator(z)).mean(dim=1)).sum(), w)
            with torch.no_grad():
                for p, step in zip(w, rmsprop(square_w, g_w), strict=True):
                    # w ← w + α · RMSProp(w, g_w)
                    p.add_(alpha * step)
                    # w ← clip(w, −c, c)
                    p.clamp_(-c, c)
        # end for
        # Sample {z⁽ⁱ⁾} ~ p(z) a batch of prior samples.
        z = _of_size(noise(m), m, "noise")
        # g_θ ← −∇_θ (1/m) Σᵢ f_w(g_θ(z⁽ⁱ⁾))
        g_theta = torch.autograd.grad(-f(generator(z)).mean(dim=1).sum(), theta)
        # θ ← θ − α · RMSProp(θ, g_θ)
        with torch.no_grad():
            for p, step in zip(theta, rmsprop(square_theta, g_theta), strict=True):
                p.sub_(alpha * step)
        yield iteration + 1
    # end while


def _check_gan(settings: GanSettings) -> None:
    as_count(settings.m, "settings.m")
    as_count(settings.k, "settings.k")
    as_number(settings.rate, "settings.rate", above=0.0)
    as_number(settings.momentum, "settings.momentum", above=_BELOW_0, below=1.0)


def _check_wgan(settings: WganSettings) -> None:
    as_number(settings.alpha, "settings.alpha", above=0.0)
    as_number(settings.c, "settings.c", above=0.0)
    as_count(settings.m, "settings.m")
    as_count(settings.n_critic, "settings.n_critic")
    as_number(settings.decay, "settings.decay", above=_BELOW_0, below=1.0)


def _of_size(batch: Tensor, m: int, name: str) -> Tensor:
    if batch.ndim != 3 or batch.shape[1] != m:
        raise InputError(
            f"{name} must come in minibatches of settings.m = {m} points, shape (K, {m}, d); it has shape "
            f"{tuple(batch.shape)}. Set m to the size of the batches."
        )
    return batch


def _next(batches: Iterator[Tensor], m: int) -> Tensor:
    batch = next(batches, None)
    if batch is None:
        raise InputError("data ran out before the last iteration; hand over an endless iterator, such as minibatches.")
    return _of_size(batch, m, "data")
