"""Kept by hand: which theorem in Coq belongs to which claim, and each of its hypotheses in words.

``troubles`` compares it with the files: a hypothesis that is in one list and not in the other is a difference between what the page says
and what is proved, and ``python -m proofs_checks`` fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from proofs_checks.formal.source import Theorem, theorems


@dataclass(frozen=True)
class Formal:
    """Theorems of one section of ``file`` for ``claim``. hypotheses: Coq's name -> in words. beyond: what of the claim they leave open."""

    claim: str
    file: str
    names: tuple[str, ...]
    hypotheses: Mapping[str, str]
    beyond: str = ""

    def stated(self) -> list[Theorem]:
        return [theorems(self.file)[name] for name in self.names]


IN_BOX = "scores in lie in the box (fairopt clips them first)"
OUT_BOX = "scores out lie in the box"
BATCHES = {
    "a_pos": "shares of group 0 are not negative",
    "b_pos": "shares of group 1 are not negative",
    "a_one": "group 0's shares sum to 1",
    "b_one": "group 1's shares sum to 1",
}
STREAM = {
    "eps_in": "0 <= eps <= R",
    "eta_0_pos": "eta_0 > 0",
    "some": "every batch holds at least one sample and at most n_max",
    "z_in_box": IN_BOX,
    "y_in_box": OUT_BOX,
    "y_least": "y_t minimises ||y - z||^2 + p_t n_t gap_t(y) over the box",
    "p_start": "the price starts at 0",
    "p_rule": "p_{t+1} = max(0, p_t + eta_t n_t (gap_t - eps)), eta_t = eta_0 / sqrt(t)",
}
ONE_ROW = {
    "weights": "all weights are positive",
    "gamma_pos": "gamma > 0",
    "hard_inside": "the hard solution is in the box",
    "hard_fair": "the hard solution meets the row",
    "price_pos": "its price is not negative",
    "complementary": "the price is 0 where the row has slack",
    "hard_least": "the hard solution minimises the Lagrangian over the box",
    "soft_inside": "the soft solution is in the box",
    "soft_least": "the soft solution minimises the softened objective over the box",
}
ROUNDING = {"probabilities": "probabilities lie in [0, 1]", "start": "the start lies in [0, 1)"}
NEUTRAL = {
    "counts": "counts before and arrivals are not negative",
    "total_is": "total is the number of samples before",
    "some": "there was at least one",
    "overall_mean": "the reply is the present overall mean",
}
TOLERANCE = {
    "weights": "all weights are positive",
    "convex": "the gap is convex (as every largest difference of means is)",
    "y_fair": "y(eps) meets the tolerance",
    "y_nearest": "y(eps) is the nearest such",
    "raw_gap": "raw is the gap of the scores that came",
}

FORMAL = (
    Formal(
        "L6",
        "ClosedForm",
        ("L6_fair", "L6"),
        {
            "weights": "all weights are positive",
            "size_0": "n0 is the size of group 0",
            "size_1": "n1 is the size of group 1",
            "both": "both groups are present",
            "tolerance": "eps >= 0",
        },
    ),
    Formal("L9", "Softness", ("L9_quadratic", "L9_distance", "L9_cap"), ONE_ROW, "Several rows, and the counterexample row by row."),
    Formal(
        "B1",
        "FromBatches",
        ("B1",),
        {
            "some": "there is a batch",
            "both": "group 1 is in every batch",
            "ratio_pos": "the ratio is positive",
            "equal_composition": "the ratio of the groups' sizes is the same in every batch",
            "batch_gap": "every batch has gap at most eps",
        },
    ),
    Formal(
        "B2",
        "FromBatches",
        ("B2", "B2_eps"),
        {**BATCHES, "mu0_in": "group 0's batch means lie in the box", "mu1_in": "group 1's batch means lie in the box"},
        "That both bounds are reached, and that the form with the range of present means is false.",
    ),
    Formal("B3", "FromBatches", ("B3",), {"some": "at least one sample of the rarer group", "fewer": "less than half of the batch"}),
    Formal("B3", "FromBatches", ("B3_limit",), {}),
    Formal("N5", "FromBatches", ("N5",), {k: BATCHES[k] for k in ("a_pos", "a_one", "b_one")}, "The approximation for iid batches."),
    Formal(
        "S1",
        "PaperRule",
        ("S1",),
        {
            "eta_pos": "steps are positive",
            "eta_falls": "steps do not increase",
            "start": "the price starts at 0",
            "price_rule": "p_{t+1} = max(0, p_t + eta_t G_t)",
        },
    ),
    Formal(
        "S2",
        "PaperRule",
        ("S2",),
        {
            "box": "lb <= ub",
            "p_pos": "the price is not negative",
            "z_in": IN_BOX,
            "y_in": OUT_BOX,
            "both": "both groups are in the batch",
            "least": "y minimises ||y - z||^2 + p n gap(y) over the box",
        },
        "Three and more groups, several attributes.",
    ),
    Formal("S2", "PaperRule", ("S2_gap", "S2_price"), STREAM, "Three and more groups, several attributes."),
    Formal("S3", "PaperRule", ("S3",), STREAM, "Three and more groups."),
    Formal(
        "S4",
        "PaperRule",
        ("S4",),
        {
            "convex": "the gap is convex in the scores",
            "y_in_box": OUT_BOX,
            "u_in_box": "the comparator lies in the box",
            "u_fair": "the comparator meets the tolerance in every batch",
            "y_least": "y_t minimises ||y - z||^2 + p_t n_t gap_t(y) over the box",
            "eta_pos": "steps are positive",
            "eta_falls": "steps do not increase",
            "p_start": "the price starts at 0",
            "p_rule": "p_{t+1} = max(0, p_t + eta_t G_t)",
            "p_bounded": "P bounds the prices (S2)",
        },
    ),
    Formal("S4", "PaperRule", ("two_groups_convex",), {}),
    Formal(
        "P2",
        "TheoremB",
        ("P2",),
        {
            "box": "lb <= ub",
            "eps_pos": "eps >= 0",
            "kappa_pos": "kappa > 0",
            "z_in": IN_BOX,
            "y_in": OUT_BOX,
            "rule": "once both groups are there, each batch is answered by a minimiser in the box",
        },
    ),
    Formal(
        "P2",
        "Step",
        ("answer_inside", "answer_least"),
        {
            "count_pos": "the sample's group is counted with it",
            "gamma_pos": "gamma > 0",
            "eps_pos": "eps >= 0",
            "z_in": IN_BOX,
        },
    ),
    Formal("P2", "Step", ("answer_evaluated",), {}),
    Formal(
        "P2",
        "OneSample",
        ("P2_one_sample",),
        {
            "kappa_pos": "kappa > 0",
            "eps_pos": "eps >= 0",
            "single": "the batch is one sample",
            "z_in": IN_BOX,
            "both": "both groups are there with it",
            "sent": "it is answered by the closed form that fairopt runs",
        },
    ),
    Formal(
        "P4",
        "TheoremC",
        ("P4_C",),
        {
            "box": "lb <= ub",
            "eps_pos": "eps >= 0",
            "kappa_pos": "kappa > 0",
            "in_groups": "every sample is in one of the K groups",
            "z_in": IN_BOX,
            "y_in": OUT_BOX,
            "past": "what was sent before lies in the box",
            "present": "all K groups are present after the batch (absent ones do not count)",
            "least": "the batch and its window minimise the objective",
            "top_is": "top has the largest mean",
            "bot_is": "bot has the least mean",
            "gap_before": "before bounds the gap before the batch",
        },
    ),
    Formal(
        "P4",
        "TheoremD",
        ("P4_D_step", "P4_D"),
        {
            "box": "lb <= ub",
            "eps_pos": "eps >= 0",
            "gamma_pos": "gamma_t > 0",
            "in_groups": "each attribute has every sample in one of its groups",
            "z_in": IN_BOX,
            "y_in": OUT_BOX,
            "W_allowed": "the targets of every attribute lie within eps of each other",
            "least": "scores and targets together minimise the objective",
        },
        "The rate with recurrent groups, and its counterexample.",
    ),
    Formal(
        "Q2",
        "Decisions",
        ("Q2_binary", "Q2_own", "Q2_prefix", "Q2_whole"),
        ROUNDING,
        "Two attributes; that three are impossible (z3).",
    ),
    Formal("Q2", "Decisions", ("Q2_gap",), {}),
    Formal("N2", "Neutral", ("N2_range", "N2_potential", "N2_Psi"), NEUTRAL, "Residuals and reference groups, whose reply is another."),
    Formal("N3", "Tolerance", ("N3_falls", "N3_convex", "N3"), TOLERANCE, "That V is piecewise quadratic, and its derivative."),
)


def of(claim: str) -> list[Formal]:
    return [f for f in FORMAL if f.claim == claim]


def troubles(table: tuple[Formal, ...] = FORMAL) -> list[str]:
    """What differs between the table and the files; nothing where they agree."""
    out: list[str] = []
    for entry in table:
        known = theorems(entry.file)
        for name in entry.names:
            if name not in known:
                out.append(f"{entry.claim}: {entry.file}.v has no theorem {name}")
                continue
            stated = set(known[name].hypotheses)
            out += [f"{entry.claim}, {name}: the hypothesis {h} of Coq is not in the table" for h in sorted(stated - set(entry.hypotheses))]
            out += [f"{entry.claim}, {name}: the table's hypothesis {h} is not Coq's" for h in sorted(set(entry.hypotheses) - stated)]
    listed = {(e.file, n) for e in table for n in e.names}
    files = {e.file for e in table}
    out += [f"{f}.v: the theorem {n} belongs to no claim" for f in sorted(files) for n in theorems(f) if (f, n) not in listed]
    return out
