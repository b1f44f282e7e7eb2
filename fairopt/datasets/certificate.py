"""The certificate of a data set: what was asked, what was proved, of which files; plain JSON, and the same bytes for the same run."""

from __future__ import annotations

from math import isfinite, sqrt
from typing import Any

import numpy as np

from fairopt.basics.table import Table
from fairopt.contract.problem import ProjectionProblem
from fairopt.datasets.in_memory import Whole
from fairopt.datasets.report import Audited
from fairopt.datasets.solving import Found
from fairopt.datasets.survey import Survey
from fairopt.solve.passes import stages

FORMAT = 1


def of_cells(found: Found) -> dict[str, Any]:
    """What passes over shards proved. violation: signed, <= 0 where a hard limit holds; see ``fairopt.Certificate``."""
    problem, driven = found.problem, found.driven
    vacuous = problem.vacuous
    fixed = {"status": "CERTIFIED", "road": "passes over shards", "vacuous": vacuous, "distance": sqrt(found.proved.squared)}
    if driven is None:
        numbers: dict[str, Any] = dict.fromkeys(("kkt_residual", "kkt_bound", "rounding_bound", "moved_by_repair", "max_violation"), 0.0)
        return {**fixed, **numbers, "prices": {}, "violation": {}, **_of_problem(problem)}
    numbers = {
        "kkt_residual": float(driven.numbers[stages.RESIDUE]),
        "kkt_bound": float(driven.numbers[stages.BOUND]),
        "rounding_bound": 0.0 if driven.exact else float(driven.numbers[stages.ERROR]),
        "moved_by_repair": float(driven.numbers[stages.MOVED]),
    }
    hard = np.array([s.kind == "hard" for s in problem.softness], dtype=bool)
    worst = float(driven.violation[hard].max()) if hard.any() else 0.0
    return {**fixed, **numbers, "max_violation": worst, **_lists(problem, driven.prices, driven.violation), **_of_problem(problem)}


def of_whole(whole: Whole) -> dict[str, Any]:
    """What ``fo.project`` of all rows at once said."""
    certificate = whole.solution.certificate
    told = certificate.to_dict()
    names = ("vacuous", "distance", "kkt_residual", "kkt_bound", "rounding_bound", "moved_by_repair", "max_violation")
    return {
        "status": whole.solution.status.name,
        "road": "all rows at once",
        **{name: told[name] for name in names},
        **_lists(certificate.problem, whole.solution.prices.numpy(), certificate.violation),
        **_of_problem(certificate.problem),
    }


def _lists(problem: ProjectionProblem, prices: Any, violation: Any) -> dict[str, Any]:
    return {
        "prices": dict(zip(problem.labels, prices.tolist(), strict=True)),
        "violation": {
            label: float(v) if np.isfinite(v) else None for label, v in zip(problem.constraint_labels, violation.tolist(), strict=True)
        },
    }


def _of_problem(problem: ProjectionProblem) -> dict[str, Any]:
    stated = problem.as_stated()
    pairs = [*zip(stated.lower.tolist(), stated.upper.tolist(), strict=True), *((0.0, w) for w in stated.width.tolist())]
    limits = {label: [v if np.isfinite(v) else None for v in pair] for label, pair in zip(stated.constraint_labels, pairs, strict=True)}
    return {"limits": limits, "dropped": [list(d) for d in problem.dropped], "group_counts": dict(problem.group_counts)}


def table(found: Table) -> list[dict[str, Any]]:
    """Rows of a table as plain values, None for what JSON has no word for."""
    return [{name: None if isinstance(v, float) and not isfinite(v) else v for name, v in row.items()} for row in found]


def before_and_after(found: Audited) -> dict[str, Any]:
    return {"gaps": table(found.gaps), "groups": table(found.groups), "notes": list(found.notes)}


def files(survey: Survey) -> list[dict[str, Any]]:
    """The input's files. digest: sha256."""
    return [
        {"file": one.shard.name, "rows": one.rows, "rejected": len(one.rejects), "bytes": one.size, "sha256": one.digest}
        for one in survey.seen
    ]
