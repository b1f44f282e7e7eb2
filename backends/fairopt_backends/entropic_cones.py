"""The exponential cone programme of an ``Entropic``, for cvxpy and written out for diffcp.

-entr(u) is the least t with (-t, u, 1) in the exponential cone, so that the written-out programme has one more variable for each score
with a cost (two under "kl", of u and of 1 - u), and one for the square of quadratic extras:

    minimise    -w . (tau, tau') - slope . u + cost . extra + sigma
    subject to  G x <= h,  A x = b,  (tau_i, u_i, 1), (tau'_i, 1 - u_i, 1) in the cone,  |(sqrt(2 hess) extra, 1 - sigma)| <= 1 + sigma
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fairopt.basics.arrays import Array
from fairopt_backends.entropic import Entropic
from fairopt_backends.modules import load
from fairopt_backends.programme import Sides, sides


@dataclass(frozen=True, eq=False)
class CvxpyProblem:
    """problem, parameters in the order of ``values``, and the variables x and multipliers."""

    problem: Any
    parameters: list[Any]
    variables: list[Any]
    sides: Sides


def cvxpy_problem(e: Entropic) -> CvxpyProblem:
    """The problem in cvxpy's words, with all numbers as parameters but the weights."""
    cp, lowered = load("cvxpy", extra="cvxpylayers"), e.lowered
    s = sides(lowered)
    g, a = s.sparse
    x, slope, w = cp.Variable(lowered.variables), cp.Parameter(e.free.size), e.w[e.free]
    parameters, constraints = [slope], []
    if s.inequalities:
        parameters.append(cp.Parameter(s.inequalities))
        constraints.append(g @ x <= parameters[-1])
    if s.equalities:
        parameters.append(cp.Parameter(s.equalities))
        constraints.append(a @ x == parameters[-1])
    u = x[e.free]
    objective = -w @ cp.entr(u) - slope @ u
    if e.distance == "kl":
        objective = objective - w @ cp.entr(1 - u)
    if lowered.extras:
        cost, root = cp.Parameter(lowered.extras), cp.Parameter(lowered.extras, nonneg=True)
        parameters += [cost, root]
        extra = x[lowered.size :]
        objective = objective + cost @ extra + 0.5 * cp.sum_squares(cp.multiply(root, extra))
    problem = cp.Problem(cp.Minimize(objective), constraints)
    return CvxpyProblem(problem, parameters, [x, *(c.dual_variables[0] for c in constraints)], s)


def values(e: Entropic, s: Sides) -> list[Array]:
    """What the parameters of ``cvxpy_problem`` stand for."""
    n = e.numbers
    return [v for v in (e.slope, s.h(n).numpy(), s.b(n).numpy(), n.cost.numpy(), np.sqrt(n.hess.numpy())) if v.size]


@dataclass(frozen=True, eq=False)
class ConeProgramme:
    """A v + s = b, s in zero, nonnegative, second-order and exponential cones, minimise c v; v begins with x."""

    matrix: Any
    b: Array
    c: Array
    cones: dict[str, Any]
    sides: Sides


def cone_programme(e: Entropic) -> ConeProgramme:
    """The programme written out."""
    scipy, lowered, n = load("scipy.sparse"), e.lowered, e.numbers
    s = sides(lowered)
    g, a = s.sparse
    F, V, w = e.free.size, lowered.variables, e.w[e.free]
    signs = [(0.0, 1.0), (1.0, -1.0)] if e.distance == "kl" else [(0.0, 1.0)]  # u, and 1 - u
    hess = n.hess.numpy()
    curved = np.flatnonzero(hess > 0)
    width = V + F * len(signs) + (1 if curved.size else 0)

    def wide(m: Any) -> Any:
        return scipy.csr_matrix((m.data, m.indices, m.indptr), shape=(m.shape[0], width))

    rows, b = [wide(a), wide(g)], [s.b(n).numpy(), s.h(n).numpy()]
    cones: dict[str, Any] = {"z": s.equalities, "l": s.inequalities}
    cost = np.zeros(width)
    cost[e.free] = -e.slope
    cost[lowered.size : V] = n.cost.numpy()
    if curved.size:  # the cone (1 + sigma, sqrt(2 hess) extra, 1 - sigma)
        size = curved.size + 2
        square = scipy.lil_matrix((size, width))
        square[0, width - 1], square[size - 1, width - 1] = -1.0, 1.0
        square[np.arange(1, size - 1), lowered.size + curved] = -np.sqrt(2.0 * hess[curved])
        rows.append(square.tocsr())
        b.append(np.concatenate([[1.0], np.zeros(curved.size), [1.0]]))
        cones["q"] = [size]
        cost[width - 1] = 1.0
    at = np.arange(F)
    for k, (one, sign) in enumerate(signs):  # s = (tau, one + sign u, 1)
        tau = V + k * F + at
        index = np.concatenate([3 * at, 3 * at + 1])
        entries = np.concatenate([np.full(F, -1.0), np.full(F, -sign)])
        rows.append(scipy.csr_matrix((entries, (index, np.concatenate([tau, e.free]))), shape=(3 * F, width)))
        b.append(np.tile([0.0, one, 1.0], F))
        cost[tau] = -w
    cones["ep"] = F * len(signs)
    matrix = scipy.vstack(rows, format="csc")
    matrix.sort_indices()
    return ConeProgramme(matrix, np.concatenate(b), cost, cones, s)
