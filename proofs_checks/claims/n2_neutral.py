"""N2 and P6: the neutral reply, and the rule that never lets the gap exceed the tolerance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fairopt.basics.errors import UnsupportedError
from fairopt.streaming import Cumulative, PooledParity, parity
from fairopt.streaming.step_solver import Touch
from fairopt.testing.claims.closed import window
from fairopt.testing.claims.formulas import mean_after, neutral_reply
from proofs_checks.claim import Claim, Exact, Generator, Measurement, worst
from proofs_checks.solver import all_of, largest, number, proved, reals, smallest
from proofs_checks.streams import Totals, drawn

N2 = """
All attributes partition one population (in each stratum). Whatever was sent before, answering any sample with the present overall
mean raises no attribute's pooled range of group means, nor the potential Psi of P4: the notion can be recovered from any state, in
any order of arrival. For residuals the reply is the target, for a reference group its mean. Marginal and conditional notions joined
have no neutral reply.
"""
N2_PROOF = """
The overall mean lies between the least and the largest group mean of every attribute, as it is a mixture of them. The sample moves
one group mean of each attribute towards it, so no range grows. A group that is new starts at the overall mean, inside the range.

Psi: let T be the optimal targets of an attribute, N c = sum_g N_g M_g. All targets may move together, so at the optimum sum_g N_g (M_g -
T_g) = 0: c is the mean of the targets too, inside their window. `T'_g = (N_g T_g + n_g c)/(N_g + n_g)` is admissible after the
arrivals n_g, and `N'_g (M'_g - T'_g)^2 = (N_g^2 / N'_g)(M_g - T_g)^2 <= N_g (M_g - T_g)^2`. Sum over groups and attributes.
"""
P6 = """
`Cumulative` (the nearest scores that keep every gap <= eps after every step) is never infeasible from an empty history when a
neutral reply exists: every stream, every time, several attributes too. It is dear (+76 % of the offline optimum's cost when iid):
not a default. Marginal and conditional notions joined are refused: 50 each of a1, b1 at 1 and a0, b0 at 0 have all gaps 0, and
after 1,000 of cell a1 the least possible worst gap is .2326 whatever is sent.
"""
P6_PROOF = """
From the empty history all gaps are <= eps; N2's reply keeps them so, hence the set of admissible replies is not empty, and the
nearest one is sent. Induct.
"""
Reply = Callable[[PooledParity, int], float]


def shipped(controller: PooledParity, group: int) -> float:
    """``Cumulative._neutral``, at the state of another controller."""
    component = next(iter(controller._components.values()))
    asked = Cumulative([parity(name, tolerance=0.0) for name in "abc"], bounds=(0, 1))
    touch = Touch(component, np.array([0]), np.array([group]))
    return asked._neutral(touch, 0, component.counts, component.heads)


def mean_of_means(controller: PooledParity, group: int) -> float:
    """Unweighted: inside the first attribute's range, perhaps outside another's."""
    return float(np.mean(next(iter(controller._components.values())).means()))


def middle_of_the_box(controller: PooledParity, group: int) -> float:
    return 0.5


def beside(size: float) -> Reply:
    """Beside the neutral reply by a part of the box."""
    return lambda controller, group: float(np.clip(shipped(controller, group) + size, 0, 1))


def potential(totals: list[Totals], eps: float) -> float:
    """Psi: sum over attributes of the least sum_g N_g (M_g - T_g)^2, by L7's formula for the window."""
    out = 0.0
    for held in totals:
        n, means = held.counts[held.counts > 0], held.means
        if means.size > 1 and np.ptp(means) > eps:
            t = window(means, n, eps)
            out += float((n * (means - np.clip(means, t, t + eps)) ** 2).sum())
    return out


def check_reply(rng: Generator, reply: Reply) -> Measurement:
    """Three attributes, any history (sent by a controller of no gain), then samples answered by ``Cumulative._neutral``: no gap of
    fairopt's grows, nor does Psi; and the reply is the formula that z3 proves."""
    sizes = (2, 3, 2)
    names = ["a", "b", "c"]
    controller = PooledParity([parity(n, tolerance=0.0) for n in names], bounds=(0, 1), kappa=1e-15)
    totals = [Totals(k) for k in sizes]
    n = int(rng.integers(2, 40))
    codes = [rng.choice(k, n, p=rng.dirichlet(np.full(k, 0.7))) for k in sizes]
    z = rng.choice([rng.random(n), (rng.random(n) < 0.3) * 1.0, np.clip(0.2 + 0.6 * codes[0] + rng.normal(0, 0.1, n), 0, 1)])
    step = controller.step(z, sensitive_features=dict(zip(names, codes, strict=True)))
    for held, c in zip(totals, codes, strict=True):
        held.add(c, np.asarray(step.scores))
    found = []
    eps = float(rng.choice([0.0, 0.05, 0.3]))
    for _ in range(6):
        new = [int(rng.integers(k)) for k in sizes]
        before = {k: v or 0.0 for k, v in step.pooled_gaps.items()}
        first = totals[0].counts > 0
        psi = potential(totals, eps)
        y = reply(controller, controller._components[0, ()].code(new[0]))
        formula = float(neutral_reply(totals[0].counts[first].tolist(), totals[0].means.tolist()))
        found.append(Measurement(abs(y - formula), 0.0, 1e-12, note="equals the formula"))
        step = controller.step(np.array([y]), sensitive_features={name: np.array([g]) for name, g in zip(names, new, strict=True)})
        for held, g in zip(totals, new, strict=True):
            held.add(np.array([g]), np.asarray(step.scores))
        found += [Measurement(gap or 0.0, before[k], 1e-9, note=k) for k, gap in step.pooled_gaps.items()]
        found.append(Measurement(potential(totals, eps), psi, 1e-9 * (1 + psi), note="Psi"))
    return worst(*found)


def prove(broken: bool) -> bool:
    """Two attributes of 2 groups, cells of 1, 2, 3, 5 samples, all real cell means, the arrival in any cell: neither range grows."""
    cells, counts = reals("m00", "m01", "m10", "m11"), [1, 2, 3, 5]
    reply = neutral_reply([number(c) for c in counts], cells) if not broken else sum(cells) / number(4)
    goals = []
    for arrival in range(4):
        for attribute in (0, 1):
            members = [[k for k in range(4) if (k >> (1 - attribute)) & 1 == g] for g in (0, 1)]
            means, after = [], []
            for group in members:
                size = sum(counts[k] for k in group)
                mean = sum(number(counts[k]) * cells[k] for k in group) / number(size)
                means.append(mean)
                after.append(mean_after(number(size), mean, reply) if arrival in group else mean)
            goals.append(largest(after) - smallest(after) <= largest(means) - smallest(means))
    return proved(all_of(*goals))


Make = Callable[..., Cumulative]


class SlightlyWider(Cumulative):
    """Keeps 1.05 times the tolerance."""

    def __init__(self, notion: object, *, bounds: object) -> None:
        wider = [parity(f.attribute, tolerance=1.05 * f.upper + 1e-3) for f in notion]  # type: ignore[attr-defined]
        super().__init__(wider, bounds=bounds)


def wider(size: float) -> Make:
    """Keeps (1 + size) times the tolerance, and never less than size of the box."""

    def make(notion: object, *, bounds: object) -> Cumulative:
        return Cumulative([parity(f.attribute, tolerance=(1 + size) * f.upper + 1e-3 * size) for f in notion], bounds=bounds)  # type: ignore[attr-defined]

    return make


def check_cumulative(rng: Generator, make: Make) -> Measurement:
    """One to three attributes, every stream, after every sample."""
    eps = float(rng.choice([0.0, 0.02, 0.2]))
    sizes = tuple(int(k) for k in rng.integers(2, 4, int(rng.integers(1, 4))))
    names = [f"a{k}" for k in range(len(sizes))]
    controller = make([parity(name, tolerance=eps) for name in names], bounds=(0, 1))
    totals, found = [Totals(k) for k in sizes], [Measurement(0.0, 1.0)]
    for z, codes in drawn(rng, sizes, 80):
        y = np.asarray(controller.step(z, sensitive_features=dict(zip(names, codes, strict=True))).scores)
        for held, c in zip(totals, codes, strict=True):
            held.add(c, y)
            found.append(Measurement(held.gap, eps, 1e-9))
    return worst(*found, _mixed_refused())


def _mixed_refused() -> Measurement:
    mixed = [parity("a", tolerance=0.05), parity("a", tolerance=0.05, given="b")]
    try:
        Cumulative(mixed, bounds=(0, 1))
    except UnsupportedError:
        return Measurement(0.0, 0.0)
    return Measurement(1.0, 0.0, note="marginal and conditional notions were not refused")


CLAIMS = (
    Claim(
        "N2",
        "the neutral reply",
        "bound",
        "ours",
        N2,
        N2_PROOF,
        check_reply,
        shipped,
        {"mean of the group means": mean_of_means, "middle of the box": middle_of_the_box},
        deviations={"beside the reply by a part of the box": beside},
        exact=Exact("two attributes of 2 groups, cells of 1, 2, 3, 5 samples, all real means, any arrival", prove),
    ),
    Claim(
        "P6",
        "the hard cumulative rule is never infeasible",
        "bound",
        "ours",
        P6,
        P6_PROOF,
        check_cumulative,
        Cumulative,
        {"a wider tolerance": SlightlyWider},
        deviations={"tolerance wider": wider},
    ),
)
