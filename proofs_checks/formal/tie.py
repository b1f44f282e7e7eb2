"""What ties the Coq files to the code: answers of the shipped ``PooledParity`` beside the rule's closed form, in rational arithmetic.

``Step.v`` proves that the closed form is the minimiser that Theorem B speaks of (``OneSample.v``: of its very objective), and defines it a
second time in rationals, so that Coq can evaluate it. ``closed_form`` is the same in Fractions, for where there is no Coq.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from fractions import Fraction
from math import sqrt

from fairopt.streaming import PooledParity, parity
from fairopt.testing.claims.verify import instance_rng
from proofs_checks.streams import KAPPAS

STREAMS = 1000
ACCURACY = Fraction(1, 10**12)  # of a box of width 1: the controller's arithmetic is in floats


@dataclass(frozen=True)
class Row:
    """One sample: z into the box; its group's count with it and sum before it; the other group's mean; gamma = kappa N^1.5; the answer."""

    z: Fraction
    count: Fraction
    base: Fraction
    other: Fraction
    gamma: Fraction
    eps: Fraction
    lb: Fraction
    ub: Fraction
    sent: Fraction


def closed_form(row: Row) -> Fraction:
    """``Step.answer`` of Coq, term by term."""
    e = (row.base + row.z) / row.count - row.other
    beyond = e - row.eps if row.eps < e else e + row.eps if e < -row.eps else Fraction(0)
    moved = row.z - row.gamma / row.count * beyond / (1 + row.gamma / row.count / row.count)
    return max(row.lb, min(row.ub, moved))


def rows(streams: int = STREAMS, seed: int = 0, length: int = 4) -> Iterator[Row]:
    """Single samples of random streams, scores outside the box too; only those that come when the other group is there."""
    for k in range(streams):
        rng = instance_rng("P2 in Coq", seed, k)
        eps, kappa = float(rng.choice([0.0, 0.05, 0.3])), float(rng.choice(KAPPAS))
        controller = PooledParity(parity("g", tolerance=eps), bounds=(0, 1), kappa=kappa, predict=False)
        counts, sums = [0, 0], [Fraction(0), Fraction(0)]
        share = float(rng.choice([0.1, 0.5, 0.9]))
        for z in (rng.normal(0.5, 0.6, length) if rng.integers(2) else rng.integers(0, 2, length) * 1.0).tolist():
            g = int(rng.random() < share)
            sent = Fraction(float(controller.step(z, sensitive_features=g).scores))
            counts[g] += 1
            if counts[1 - g]:
                gain = kappa * sqrt(sum(counts)) * sum(counts)
                yield Row(
                    Fraction(min(1.0, max(0.0, z))), Fraction(counts[g]), sums[g], sums[1 - g] / counts[1 - g],
                    Fraction(gain), Fraction(eps), Fraction(0), Fraction(1), sent,
                )  # fmt: skip
            sums[g] += sent


def farthest(found: list[Row]) -> Fraction:
    return max((abs(r.sent - closed_form(r)) for r in found), default=Fraction(0))


def as_coq(found: list[Row], chunk: int = 500) -> str:
    """A file whose compilation fails unless Coq, evaluating ``answerQ``, finds every answer within ``ACCURACY``."""
    out = ["Require Import QArith List.", "From Fairopt Require Import Step.", "Import ListNotations.", "Open Scope Q_scope."]
    for k in range(0, len(found), chunk):
        text = ";\n".join("(" + ", ".join(_q(x) for x in astuple(r)) + ")" for r in found[k : k + chunk])
        out.append(f"Definition rows_{k} : list row := [{text}].")
        out.append(f"Goal Qle_bool (farthest rows_{k}) ({_q(ACCURACY)}) = true. Proof. vm_compute. reflexivity. Qed.")
    return "\n".join(out) + "\n"


def _q(x: Fraction) -> str:
    return f"({x.numerator} # {x.denominator})"
