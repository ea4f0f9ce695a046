"""Every objective at the optimum of its discriminator, against closed forms, and the gradients its name promises."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from divergences import InputError
from toygen.objectives import OBJECTIVES, flipped, flipped_half, minimax, non_saturating, objective_by_name, wasserstein

# Two unit Gaussians a distance 1 apart, on a grid fine enough for 1e-9: the test's own integrals, sharing no code.
X = np.linspace(-12.0, 13.0, 20_001)
P, Q = stats.norm(0, 1).pdf(X), stats.norm(1, 1).pdf(X)
LOG_RATIO = stats.norm(0, 1).logpdf(X) - stats.norm(1, 1).logpdf(X)
M = (P + Q) / 2
JSD = 0.5 * np.trapezoid(P * np.log(P / M) + Q * np.log(Q / M), X)


def value(objective, logit):
    """−discriminator loss under P and Q by the trapezoid rule: one point per 'member', so that nothing is averaged."""
    real = torch.tensor(logit)[:, None]
    never = torch.zeros_like(real)
    at_zero = objective.discriminator_loss(never, never)
    of_real = objective.discriminator_loss(real, never) - at_zero
    of_fake = objective.discriminator_loss(never, real) - at_zero
    total = np.trapezoid(P * of_real.numpy() + Q * of_fake.numpy(), X) + float(at_zero[0])
    return -total


@pytest.mark.parametrize(
    ("objective", "sign", "optimum"),
    [
        (minimax, 1, 2 * JSD - math.log(4)),
        (non_saturating, 1, 2 * JSD - math.log(4)),
        (flipped, -1, 2 * JSD - math.log(4)),
        (flipped_half, -1, JSD - math.log(2)),
    ],
    ids=lambda case: getattr(case, "name", None),
)
def test_the_best_discriminator_attains_the_divergence(objective, sign, optimum):
    assert value(objective, sign * LOG_RATIO) == pytest.approx(optimum, abs=1e-8)
    # ... and it is the best one: any other logit scores less.
    for other in (0.9 * LOG_RATIO, LOG_RATIO + 0.1, -LOG_RATIO, np.zeros_like(X)):
        assert value(objective, sign * other) < optimum - 1e-6


def test_an_undecided_discriminator_scores_minus_log_four():
    logits = torch.zeros(3, 5, dtype=torch.float64)
    for objective, expected in ((minimax, 4), (non_saturating, 4), (flipped, 4), (flipped_half, 2)):
        loss = objective.discriminator_loss(logits, logits)
        assert loss.shape == (3,)
        assert loss.numpy() == pytest.approx(np.full(3, math.log(expected)), abs=1e-15)


def generator_gradient(objective, logit):
    a = torch.tensor([[logit]], dtype=torch.float64, requires_grad=True)
    objective.generator_loss(a).sum().backward()
    return float(a.grad)


@pytest.mark.parametrize("logit", [-30.0, -7.0, -1.0, 0.0, 2.0, 30.0])
def test_minimax_saturates_where_the_generator_is_worst_and_non_saturating_does_not(logit):
    sure = 1 / (1 + math.exp(-logit))
    doubt = 1 / (1 + math.exp(logit))
    assert generator_gradient(minimax, logit) == pytest.approx(-sure, rel=1e-12)
    assert generator_gradient(non_saturating, logit) == pytest.approx(-doubt, rel=1e-12)
    # Under the flipped labels a sure discriminator has a large positive logit.
    assert generator_gradient(flipped, logit) == pytest.approx(doubt, rel=1e-12)
    assert generator_gradient(flipped_half, logit) == pytest.approx(doubt / 2, rel=1e-12)


def test_at_one_in_a_thousand_the_two_gradients_differ_by_999():
    logit = math.log(0.001 / 0.999)
    ratio = generator_gradient(non_saturating, logit) / generator_gradient(minimax, logit)
    assert ratio == pytest.approx(999, rel=1e-9)


def test_flipped_is_the_mirror_image_of_minimax():
    rng = np.random.default_rng(0)
    real, fake = (torch.tensor(rng.normal(size=(4, 9))) for _ in range(2))
    assert torch.equal(flipped.discriminator_loss(-real, -fake), minimax.discriminator_loss(real, fake))
    assert torch.equal(flipped.generator_loss(-fake), minimax.generator_loss(fake))
    assert torch.equal(2 * flipped_half.discriminator_loss(real, fake), flipped.discriminator_loss(real, fake))
    assert torch.equal(2 * flipped_half.generator_loss(fake), flipped.generator_loss(fake))


def test_zero_sum_games_are_zero_sum_and_non_saturating_is_not():
    fake = torch.tensor(np.random.default_rng(1).normal(size=(2, 50)))
    for objective in (minimax, flipped, flipped_half, wasserstein):
        a = fake.clone().requires_grad_()
        b = fake.clone().requires_grad_()
        objective.discriminator_loss(torch.zeros_like(fake), a).sum().backward()
        objective.generator_loss(b).sum().backward()
        assert torch.allclose(a.grad, -b.grad, atol=1e-15), objective.name
    c = fake.clone().requires_grad_()
    non_saturating.generator_loss(c).sum().backward()
    assert not torch.allclose(c.grad, b.grad, atol=1e-3)


def test_the_kantorovich_potential_attains_the_distance():
    # Between two shifted copies of one law, W1 is the shift and f(x) = -x attains it.
    assert value(wasserstein, -X) == pytest.approx(1.0, abs=1e-8)


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES.keys())
def test_losses_stay_finite_and_per_member_for_absurd_logits(objective):
    logits = torch.tensor([[-1e4, 1e4], [3.0, -200.0]])
    assert torch.isfinite(objective.discriminator_loss(logits, logits)).all()
    assert torch.isfinite(objective.generator_loss(logits)).all()
    alone = objective.discriminator_loss(logits[1:], logits[1:])
    assert torch.equal(objective.discriminator_loss(logits, logits)[1:], alone)


@pytest.mark.parametrize("shape", [(4,), (2, 4, 1), (2, 0)])
def test_logits_of_another_shape_are_refused(shape):
    with pytest.raises(InputError, match="fake_logits must have shape"):
        minimax.generator_loss(torch.zeros(shape))
    with pytest.raises(InputError, match="real_logits must have shape"):
        minimax.discriminator_loss(torch.zeros(shape), torch.zeros(2, 4))


def test_members_of_real_and_fake_must_agree():
    with pytest.raises(InputError, match="same members; they have 2 and 3"):
        minimax.discriminator_loss(torch.zeros(2, 4), torch.zeros(3, 4))


def test_an_unknown_objective_names_the_known_ones():
    with pytest.raises(InputError, match="minimax, non_saturating, flipped, flipped_half, wasserstein"):
        objective_by_name("hinge loss")
    for name, objective in OBJECTIVES.items():
        assert objective_by_name(name) is objective
        assert objective.formula
        assert "http" in objective.reference
