"""Every objective at the optimum of its discriminator, against closed forms, and the gradients its name promises."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import cdist

from divergences import (
    GENERATORS,
    Gaussian,
    InputError,
    Quadrature,
    f_divergence,
    jsd,
    optimal_discriminator,
    total_variation,
)
from divergences import mmd as squared_mmd_of
from toygen.fgan import VARIATIONAL
from toygen.mmd import SIGMAS, witness
from toygen.objectives import (
    OBJECTIVES,
    flipped,
    flipped_half,
    hinge,
    least_squares,
    minimax,
    mmd,
    non_saturating,
    objective_by_name,
    relativistic,
    relativistic_average,
    wasserstein,
)

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


EXPONENTIAL = {f"f_gan_{name}" for name in ("kl", "reverse_kl", "neyman_chi2", "squared_hellinger")}


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES.keys())
def test_losses_are_per_member_and_finite_for_absurd_logits(objective):
    # An unbounded divergence has an exponential in its loss: e^700 is as far as float64 goes.
    far = 600.0 if objective.name in EXPONENTIAL else 1e4
    logits = torch.tensor([[-far, far], [3.0, -20.0]], dtype=torch.float64)
    if objective.outputs > 1:
        logits = logits[..., None].expand(-1, -1, objective.outputs)
    of_d, of_g = objective.discriminator_loss(logits, logits), objective.generator_loss(logits, logits)
    assert torch.isfinite(of_d).all()
    assert torch.isfinite(of_g).all()
    assert torch.equal(of_d[1:], objective.discriminator_loss(logits[1:], logits[1:]))
    assert torch.equal(of_g[1:], objective.generator_loss(logits[1:], logits[1:]))


# --- the best discriminator attains what the table says, by divergences and by the test's own integrals -------------

LAW_P, LAW_Q = Gaussian(0.0, 1.0), Gaussian(1.0, 1.0)


def best_outputs():
    d = LOG_RATIO
    return {
        "f_gan_kl": 1 + d,
        "f_gan_reverse_kl": -d,
        "f_gan_pearson_chi2": 2 * np.expm1(d),
        "f_gan_neyman_chi2": -2 * d,
        "f_gan_squared_hellinger": -d / 2,
        "f_gan_jensen_shannon": d,
        "f_gan_gan": d,
        "f_gan_total_variation": 40 * np.sign(d),
    }


@pytest.mark.parametrize("name", GENERATORS)
def test_every_f_gan_attains_its_divergence(name):
    objective, best = OBJECTIVES[f"f_gan_{name}"], best_outputs()[f"f_gan_{name}"]
    exact = float(f_divergence(LAW_P, LAW_Q, name))
    # TV's integrand jumps where p = q; the others are smooth.
    assert value(objective, best) == pytest.approx(exact, abs=1e-3 if name == "total_variation" else 1e-8)
    for other in (0.9 * best, best + 0.1, np.zeros_like(X)):
        assert value(objective, other) < exact + (1e-6 if name == "total_variation" else -1e-6)


@pytest.mark.parametrize("name", GENERATORS)
def test_f_gan_losses_are_the_tables_uncancelled(name):
    v, table, ours = np.linspace(-6, 4, 201), GENERATORS[name], VARIATIONAL[name]
    activation = ours.activation(torch.tensor(v)).numpy()
    assert activation == pytest.approx(table.activation(v), rel=1e-12, abs=1e-15)
    assert ours.conjugate(torch.tensor(v)).numpy() == pytest.approx(table.conjugate(table.activation(v)), rel=1e-9)


def test_the_gan_of_the_table_is_minimax_and_its_neighbour_is_shifted():
    rng = np.random.default_rng(0)
    real, fake = (torch.tensor(rng.normal(size=(4, 9))) for _ in range(2))
    gan, shifted = OBJECTIVES["f_gan_gan"], OBJECTIVES["f_gan_jensen_shannon"]
    assert torch.equal(gan.discriminator_loss(real, fake), minimax.discriminator_loss(real, fake))
    assert torch.equal(gan.generator_loss(fake), minimax.generator_loss(fake))
    ours, theirs = shifted.discriminator_loss(real, fake), minimax.discriminator_loss(real, fake)
    assert (theirs - ours).numpy() == pytest.approx(np.full(4, math.log(4)), abs=1e-14)


def test_the_best_hinge_is_the_sign_and_shows_the_total_variation():
    best = 2 * float(total_variation(LAW_P, LAW_Q)) - 2
    assert value(hinge, np.sign(LOG_RATIO)) == pytest.approx(best, abs=1e-3)
    for other in (np.tanh(LOG_RATIO), 2 * np.sign(LOG_RATIO), np.zeros_like(X)):
        assert value(hinge, other) < best - 1e-2


def test_the_best_least_squares_is_the_optimal_discriminator():
    exact = Quadrature()((-0.5, lambda x: optimal_discriminator(LAW_Q, LAW_P)(x), LAW_P))
    best = P / (P + Q)
    assert value(least_squares, best) == pytest.approx(float(exact), abs=1e-8)
    for other in (best + 0.01, 0.9 * best, np.full_like(X, 0.5)):
        assert value(least_squares, other) < float(exact) - 1e-6


def paired_value(objective, logit):
    """−loss under p ⊗ q: one pair of nodes per 'member', weighted; a coarse grid, since there are pairs of nodes."""
    x, step = np.linspace(-8.0, 9.0, 401, retstep=True)
    p, q, a = stats.norm(0, 1).pdf(x) * step, stats.norm(1, 1).pdf(x) * step, logit(x)
    real, fake = (torch.tensor(part.ravel())[:, None] for part in np.meshgrid(a, a, indexing="ij"))
    return -float((objective.discriminator_loss(real, fake).numpy().reshape(401, 401) * np.outer(p, q)).sum())


def test_the_best_relativistic_critic_attains_the_jsd_of_pairs():
    # p ⊗ q against q ⊗ p: two Gaussians in the plane, √2 apart.
    exact = float(jsd(Gaussian([0.0, 1.0], np.eye(2)), Gaussian([1.0, 0.0], np.eye(2)))) - math.log(2)
    for shift in (0.0, 3.0):
        assert paired_value(relativistic, lambda x, c=shift: 0.5 - x + c) == pytest.approx(exact, abs=1e-8)
    for slope in (0.8, 1.2, 0.0):
        assert paired_value(relativistic, lambda x, s=slope: -s * x) < exact - 1e-3


def test_relativistic_losses_see_differences_only():
    rng = np.random.default_rng(0)
    real, fake = (torch.tensor(rng.normal(size=(3, 8))) for _ in range(2))
    for objective in (relativistic, relativistic_average):
        for loss in (objective.discriminator_loss(real, fake), objective.discriminator_loss(real + 5, fake + 5)):
            assert loss.numpy() == pytest.approx(objective.discriminator_loss(real, fake).numpy(), rel=1e-12)
        # An undecided critic; and G wants what D wants with the roles exchanged.
        undecided = objective.discriminator_loss(0 * real, 0 * fake)[0]
        assert float(undecided) == pytest.approx(math.log(2 if objective is relativistic else 4), abs=1e-15)
        assert torch.equal(objective.generator_loss(fake, real), objective.discriminator_loss(fake, real))
    # Against data that all score the same, the average's critic is the plain discriminator with that zero.
    flat = torch.zeros(3, 8, dtype=torch.float64)
    average = relativistic_average.discriminator_loss(flat, fake)
    plain = torch.nn.functional.softplus(fake).mean(1) + torch.nn.functional.softplus(fake.mean(1))
    assert average.numpy() == pytest.approx(plain.numpy(), rel=1e-12)


def test_mmd_is_the_estimate_of_divergences():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 40, 3)), rng.normal(0.5, 1, size=(2, 30, 3))

    def mixed(a, b):
        return np.mean([np.exp(-cdist(a, b, "sqeuclidean") / (2 * s**2)) for s in SIGMAS], axis=0)

    ours = mmd.generator_loss(torch.tensor(y), torch.tensor(x))
    for member in range(2):
        theirs = squared_mmd_of(x[member], y[member], kernel=mixed)
        assert float(ours[member]) == pytest.approx(theirs.value, abs=1e-12)
    assert torch.equal(mmd.discriminator_loss(torch.tensor(x), torch.tensor(y)), -ours)
    scores = witness(*(torch.tensor(part) for part in (x, x, y)))
    assert float(scores[0, 3]) == pytest.approx(mixed(x[0][3:4], x[0]).mean() - mixed(x[0][3:4], y[0]).mean())


def test_mmd_is_unbiased_for_its_closed_form():
    # E exp(−(x−y)²/2σ²) of x − y ~ N(δ, 2) is √(σ²/(σ²+2))·exp(−δ²/2(σ²+2)).
    def between(gap):
        return np.mean([math.sqrt(s**2 / (s**2 + 2)) * math.exp(-(gap**2) / (2 * (s**2 + 2))) for s in SIGMAS])

    rng = np.random.default_rng(1)
    real, fake = rng.normal(size=(20_000, 6, 1)), rng.normal(1.0, 1.0, size=(20_000, 6, 1))
    estimates = mmd.generator_loss(torch.tensor(fake), torch.tensor(real)).numpy()
    error = estimates.std() / math.sqrt(len(estimates))
    assert abs(estimates.mean() - 2 * (between(0.0) - between(1.0))) < 4 * error
    # The biased estimate would be off by a hundred times that.
    assert 2 * (1 - between(0.0)) / 6 > 50 * error


# --- which way the generator is pushed ------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES.keys())
def test_the_generator_pushes_its_logits_where_those_of_data_are_pushed(objective):
    if objective.outputs > 1:
        real = torch.zeros(1, 4, 8, dtype=torch.float64)
        fake = torch.ones(1, 4, 8, dtype=torch.float64, requires_grad=True)
        objective.generator_loss(fake, real).sum().backward()
        assert (fake.grad > 0).all()  # descent moves the generated features towards those of data
        return
    for level in (-0.7, 0.3):
        real, fake, own = (torch.full((1, 4), level, dtype=torch.float64, requires_grad=True) for _ in range(3))
        objective.discriminator_loss(real, fake).sum().backward()
        objective.generator_loss(own, real.detach()).sum().backward()
        assert (torch.sign(own.grad) == torch.sign(real.grad)).all()
        assert (own.grad != 0).all()


ZERO_SUM = [
    "minimax",
    "flipped",
    "flipped_half",
    *(f"f_gan_{name}" for name in GENERATORS if name != "total_variation"),
]


@pytest.mark.parametrize("name", ZERO_SUM)
def test_against_the_best_discriminator_the_generator_descends_the_divergence(name):
    # q = N(θ, 1): with D held at its best, d/dθ of G's loss is d/dθ of the divergence (the envelope theorem).
    objective = OBJECTIVES[name]
    outputs = best_outputs() | {"minimax": LOG_RATIO, "flipped": -LOG_RATIO, "flipped_half": -LOG_RATIO}
    a = torch.tensor(outputs[name])[:, None]
    loss = objective.generator_loss(a).numpy()
    ours = np.trapezoid(Q * (X - 1) * loss, X)  # ∂q/∂θ = q·(x − θ)
    kind = {"minimax": "gan", "flipped": "gan", "flipped_half": "gan"}.get(name, name.removeprefix("f_gan_"))
    ends = [float(f_divergence(LAW_P, Gaussian(1.0 + h, 1.0), kind)) for h in (1e-4, -1e-4)]
    exact = (ends[0] - ends[1]) / 2e-4 * (0.5 if name == "flipped_half" else 1.0)
    assert exact > 0
    assert ours == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("shape", [(4,), (2, 4, 1), (2, 0)])
def test_logits_of_another_shape_are_refused(shape):
    with pytest.raises(InputError, match="fake_logits must have shape"):
        minimax.generator_loss(torch.zeros(shape))
    with pytest.raises(InputError, match="real_logits must have shape"):
        minimax.discriminator_loss(torch.zeros(shape), torch.zeros(2, 4))


def test_members_of_real_and_fake_must_agree():
    with pytest.raises(InputError, match="same members; they have 2 and 3"):
        minimax.discriminator_loss(torch.zeros(2, 4), torch.zeros(3, 4))


def test_an_objective_without_what_it_needs_says_so():
    logits = torch.zeros(2, 4)
    with pytest.raises(InputError, match="relativistic compares with data: give real_logits"):
        relativistic.generator_loss(logits)
    with pytest.raises(InputError, match="as many generated points as data"):
        relativistic.discriminator_loss(logits, torch.zeros(2, 3))
    with pytest.raises(InputError, match=r"real_logits must have shape \(members, batch, features\)"):
        mmd.discriminator_loss(logits, logits)
    with pytest.raises(InputError, match="two points of each kind"):
        mmd.discriminator_loss(torch.zeros(2, 1, 8), torch.zeros(2, 4, 8))
    with pytest.raises(InputError, match="no loss for the generator"):
        replace(hinge, of_fake=None).generator_loss(logits)


def test_an_unknown_objective_names_the_known_ones():
    with pytest.raises(InputError, match="minimax, non_saturating, flipped, flipped_half, wasserstein, hinge"):
        objective_by_name("hinge loss")
    for name, objective in OBJECTIVES.items():
        assert objective_by_name(name) is objective
        assert objective.formula
        assert "http" in objective.reference
