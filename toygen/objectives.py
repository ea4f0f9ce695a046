r"""What the players want: pure functions of the discriminator's output, one loss per member.

A discriminator gives its own logit ``a``, D = σ(a). With p the data's law, q the generator's and ``softplus`` the
stable log(1 + eᵃ),

    −log σ(a) = softplus(−a),    −log(1 − σ(a)) = softplus(a),

so no loss here ever takes the logarithm of a rounded probability. What the best discriminator attains (its loss is the
negative of the value):

    name                      value                                     at the optimum                 attained by
    minimax, non_saturating   E_p log D + E_q log(1 − D)                2·JSD − log 4                  a = log p/q
    flipped                   E_p log(1 − D) + E_q log D                2·JSD − log 4                  a = log q/p
    flipped_half              half of that                              JSD − log 2                    a = log q/p
    wasserstein               E_p f − E_q f, f 1-Lipschitz              W₁                             Kantorovich's f
    hinge                     −E_p (1 − a)₊ − E_q (1 + a)₊              2·TV − 2                       a = sign(p − q)
    least_squares             −½ E_p (a − 1)² − ½ E_q a²                −½ E_p[q/(p + q)]              a = p/(p + q)
    relativistic              E_{p⊗q} log σ(a(x) − a(y))                JSD(p⊗q, q⊗p) − log 2          a = log p/q + c
    relativistic_average      E_p log σ(a − E_q a) + E_q log σ(E_p a − a)
    f_gan_NAME                E_p T − E_q f*(T), see ``toygen.fgan``    D_f(p‖q)                       T = f′(p/q)
    mmd                       MMD² of features, see ``toygen.mmd``

``minimax`` lets G minimise that same value: its gradient with respect to the logit is −σ(a), which **vanishes** exactly
where G is worst and D is sure (σ(a) → 0). ``non_saturating`` lets G maximise log D instead: same fixed point, gradient
−(1 − σ(a)), which is largest there. The two are different objectives, and each does here what its name says. Zero-sum
are ``minimax``, the flipped ones, ``wasserstein``, every f-GAN and ``mmd``; in the others G wants what D says of data.

References:
    Generative adversarial nets (Goodfellow et al., 2014), https://arxiv.org/abs/1406.2661
    Wasserstein GAN (Arjovsky, Chintala, Bottou, 2017), https://arxiv.org/abs/1701.07875
    Each objective carries its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn.functional import relu, softplus

from divergences.checks import one_of
from divergences.errors import InputError
from divergences.generators import GENERATORS
from toygen.fgan import VARIATIONAL
from toygen.mmd import squared_mmd, witness

__all__ = [
    "OBJECTIVES",
    "Objective",
    "flipped",
    "flipped_half",
    "hinge",
    "least_squares",
    "minimax",
    "mmd",
    "non_saturating",
    "objective_by_name",
    "relativistic",
    "relativistic_average",
    "wasserstein",
]


@dataclass(frozen=True)
class Objective:
    """A game between a discriminator (or critic) and a generator.

    Attributes:
        name: as on the command line.
        formula: LaTeX of what the discriminator maximises and the generator minimises.
        reference: title (authors, year) and URL.
        convention: label convention of the logit ("goodfellow", "flipped", "flipped_half"); None where σ(output) is not
            a probability.
        of_real_and_fake: the discriminator's loss, logits (K, b) and (K, c) → (K,).
        of_fake: the generator's loss, logits (K, c) → (K,); None if it needs the data, too.
        of_both: then the generator's loss, logits (K, b) of data and (K, c) → (K,).
        lipschitz: whether the output is a critic's score in the units of the data, to be kept 1-Lipschitz.
        outputs: numbers per point the discriminator gives; with more than one they are features, (K, b, outputs).
        witness: for features: those of any points, of data and of generated points → (K, a), the scores whose slope a
            penalty looks at.
    """

    name: str
    formula: str
    reference: str
    convention: str | None
    of_real_and_fake: Callable[[Tensor, Tensor], Tensor]
    of_fake: Callable[[Tensor], Tensor] | None = None
    of_both: Callable[[Tensor, Tensor], Tensor] | None = None
    lipschitz: bool = False
    outputs: int = 1
    witness: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None

    def discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        """What D minimises: one number per member, shape (K,).

        Args:
            real_logits: D's logits of data, shape (K, b); features: (K, b, outputs).
            fake_logits: D's logits of generated points, shape (K, c); features: (K, c, outputs).

        Raises:
            InputError: logits that are not (K, batch), or different K.
        """
        self._check_pair(real_logits, fake_logits)
        return self.of_real_and_fake(real_logits, fake_logits)

    def generator_loss(self, fake_logits: Tensor, real_logits: Tensor | None = None) -> Tensor:
        """What G minimises: one number per member, shape (K,).

        Args:
            fake_logits: D's logits of generated points, shape (K, c); features: (K, c, outputs).
            real_logits: those of data, where the objective needs them (``paired``); otherwise not looked at.

        Raises:
            InputError: logits that are not (K, batch), or none of data where they are needed.
        """
        if self.of_both is not None:
            if real_logits is None:
                raise InputError(f"the generator's loss of {self.name} compares with data: give real_logits, too.")
            self._check_pair(real_logits, fake_logits)
            return self.of_both(real_logits, fake_logits)
        if self.of_fake is None:
            raise InputError(f"objective {self.name} has no loss for the generator: give it of_fake or of_both.")
        self._check(fake_logits, "fake_logits")
        return self.of_fake(fake_logits)

    @property
    def paired(self) -> bool:
        """Whether the generator's loss looks at the data."""
        return self.of_both is not None

    def _check_pair(self, real: Tensor, fake: Tensor) -> None:
        self._check(real, "real_logits")
        self._check(fake, "fake_logits")
        if len(real) != len(fake):
            raise InputError(
                f"real_logits and fake_logits must have the same members; they have {len(real)} and {len(fake)}."
            )

    def _check(self, logits: Tensor, name: str) -> None:
        # (K, batch, 1) would be averaged over the wrong axis without a word.
        if self.outputs == 1 and (logits.ndim != 2 or logits.shape[1] == 0):
            raise InputError(
                f"{name} must have shape (members, batch); it has {tuple(logits.shape)}. Drop the last axis of a "
                "network's output with logits[..., 0]."
            )
        if self.outputs > 1 and (logits.ndim != 3 or 0 in logits.shape[1:]):
            raise InputError(f"{name} must have shape (members, batch, features); it has {tuple(logits.shape)}.")


def _log_loss(real: Tensor, fake: Tensor) -> Tensor:
    return softplus(-real).mean(dim=1) + softplus(fake).mean(dim=1)


def _hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    return relu(1 - real).mean(dim=1) + relu(1 + fake).mean(dim=1)


def _square_loss(real: Tensor, fake: Tensor) -> Tensor:
    return 0.5 * (real - 1).square().mean(dim=1) + 0.5 * fake.square().mean(dim=1)


def _relativistic_loss(real: Tensor, fake: Tensor) -> Tensor:
    if real.shape != fake.shape:
        raise InputError(
            f"relativistic pairing needs as many generated points as data; the logits have shapes {tuple(fake.shape)} "
            f"and {tuple(real.shape)}."
        )
    return softplus(fake - real).mean(dim=1)


def _relativistic_average_loss(real: Tensor, fake: Tensor) -> Tensor:
    real_mean, fake_mean = real.mean(dim=1, keepdim=True), fake.mean(dim=1, keepdim=True)
    return softplus(fake_mean - real).mean(dim=1) + softplus(fake - real_mean).mean(dim=1)


def _flipped_log_loss(real: Tensor, fake: Tensor) -> Tensor:
    return softplus(real).mean(dim=1) + softplus(-fake).mean(dim=1)


_GOODFELLOW = "Generative adversarial nets (Goodfellow et al., 2014), https://arxiv.org/abs/1406.2661"

minimax = Objective(
    name="minimax",
    formula=r"\min_G \max_D \; E_p \log D + E_q \log(1 - D)",
    reference=_GOODFELLOW + ", eq. 1",
    convention="goodfellow",
    of_real_and_fake=_log_loss,
    of_fake=lambda fake: -softplus(fake).mean(dim=1),
)

non_saturating = Objective(
    name="non_saturating",
    formula=r"\max_D \; E_p \log D + E_q \log(1 - D); \quad \min_G \; -E_q \log D",
    reference=_GOODFELLOW + ", sec. 3",
    convention="goodfellow",
    of_real_and_fake=_log_loss,
    of_fake=lambda fake: softplus(-fake).mean(dim=1),
)

flipped = Objective(
    name="flipped",
    formula=r"\min_G \max_D \; E_p \log(1 - D) + E_q \log D",
    reference=_GOODFELLOW + ", eq. 1 with the labels exchanged: real = 0, generated = 1",
    convention="flipped",
    of_real_and_fake=_flipped_log_loss,
    of_fake=lambda fake: -softplus(-fake).mean(dim=1),
)

flipped_half = Objective(
    name="flipped_half",
    formula=r"\min_G \max_D \; \tfrac12 E_p \log(1 - D) + \tfrac12 E_q \log D",
    reference=_GOODFELLOW + ", eq. 1 with the labels exchanged and the value halved",
    convention="flipped_half",
    of_real_and_fake=lambda real, fake: 0.5 * _flipped_log_loss(real, fake),
    of_fake=lambda fake: -0.5 * softplus(-fake).mean(dim=1),
)

wasserstein = Objective(
    name="wasserstein",
    formula=r"\min_G \max_{\|f\|_L \le 1} \; E_p f - E_q f",
    reference="Wasserstein GAN (Arjovsky, Chintala, Bottou, 2017), https://arxiv.org/abs/1701.07875, eq. 2",
    convention=None,
    of_real_and_fake=lambda real, fake: fake.mean(dim=1) - real.mean(dim=1),
    of_fake=lambda fake: -fake.mean(dim=1),
    lipschitz=True,
)

hinge = Objective(
    name="hinge",
    formula=r"\max_D \; -E_p (1 - a)_+ - E_q (1 + a)_+; \quad \min_G \; -E_q a",
    reference="Geometric GAN (Lim, Ye, 2017), https://arxiv.org/abs/1705.02894",
    convention=None,
    of_real_and_fake=_hinge_loss,
    of_fake=lambda fake: -fake.mean(dim=1),
)

least_squares = Objective(
    name="least_squares",
    formula=r"\min_D \; \tfrac12 E_p (a - 1)^2 + \tfrac12 E_q a^2; \quad \min_G \; \tfrac12 E_q (a - 1)^2",
    reference="Least squares generative adversarial networks (Mao et al., 2017), https://arxiv.org/abs/1611.04076, "
    "eq. 2 with labels a = 0, b = c = 1",
    convention=None,
    of_real_and_fake=_square_loss,
    of_fake=lambda fake: 0.5 * (fake - 1).square().mean(dim=1),
)

relativistic = Objective(
    name="relativistic",
    formula=r"\max_D \; E_{x\sim p,\, y\sim q} \log\sigma(a(x) - a(y)); \quad "
    r"\min_G \; -E_{x\sim p,\, y\sim q} \log\sigma(a(y) - a(x))",
    reference="The relativistic discriminator: a key element missing from standard GAN (Jolicoeur-Martineau, 2018), "
    "https://arxiv.org/abs/1807.00734, RSGAN",
    convention=None,
    of_real_and_fake=_relativistic_loss,
    of_both=lambda real, fake: _relativistic_loss(fake, real),
)

relativistic_average = Objective(
    name="relativistic_average",
    formula=r"\max_D \; E_p \log\sigma(a - E_q a) + E_q \log\sigma(E_p a - a); \quad "
    r"\min_G \; -E_q \log\sigma(a - E_p a) - E_p \log\sigma(E_q a - a)",
    reference="The relativistic discriminator: a key element missing from standard GAN (Jolicoeur-Martineau, 2018), "
    "https://arxiv.org/abs/1807.00734, RaSGAN",
    convention=None,
    of_real_and_fake=_relativistic_average_loss,
    of_both=lambda real, fake: _relativistic_average_loss(fake, real),
)

mmd = Objective(
    name="mmd",
    formula=r"\min_G \max_\varphi \; \mathrm{MMD}^2(\varphi_\# p, \varphi_\# q)",
    reference="MMD GAN: towards deeper understanding of moment matching network (Li et al., 2017), "
    "https://arxiv.org/abs/1705.08584",
    convention=None,
    of_real_and_fake=lambda real, fake: -squared_mmd(real, fake),
    of_both=squared_mmd,
    outputs=8,
    witness=witness,
)


def _f_gan(name: str) -> Objective:
    row = VARIATIONAL[name]
    return Objective(
        name=f"f_gan_{name}",
        formula=rf"\min_G \max_T \; E_p T - E_q f^*(T), \quad f(u) = {GENERATORS[name].formula}",
        reference="f-GAN: training generative neural samplers using variational divergence minimization (Nowozin, "
        "Cseke, Tomioka, 2016), https://arxiv.org/abs/1606.00709",
        # Where T = log σ(v), up to a constant, v is the logit of a discriminator.
        convention="goodfellow" if name in ("gan", "jensen_shannon") else None,
        of_real_and_fake=row.of_real_and_fake,
        of_fake=row.of_fake,
    )


OBJECTIVES = {
    objective.name: objective
    for objective in (
        minimax,
        non_saturating,
        flipped,
        flipped_half,
        wasserstein,
        hinge,
        least_squares,
        relativistic,
        relativistic_average,
        mmd,
        *(_f_gan(name) for name in VARIATIONAL),
    )
}


def objective_by_name(name: Any) -> Objective:
    """The objective of that name; the error lists them all.

    Raises:
        InputError: there is none of that name.

    >>> objective_by_name("minimax").convention
    'goodfellow'
    """
    return OBJECTIVES[one_of(name, "objective", list(OBJECTIVES))]
