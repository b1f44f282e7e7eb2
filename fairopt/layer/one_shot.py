"""From facts about a batch to a compiled one, or at once to fair scores: ``compile``, ``project``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Unpack, overload

from torch import Tensor

from fairopt.basics.columns import length, read_features, working_tensor
from fairopt.basics.containers import outside_transforms
from fairopt.basics.errors import InputError
from fairopt.basics.ranks import ranks_of
from fairopt.compiler import Compiled, OnInfeasible, OnMissing, compile_problem
from fairopt.contract.backend import GradientKind
from fairopt.contract.registry import BackendLike
from fairopt.layer.classes import PreparedClasses, refuse_unless_raised
from fairopt.layer.on_ranks import PreparedOnRanks, compile_on_ranks
from fairopt.layer.prepared import How, Prepared, Reads, handed_back, ordinary, refuse_ranks, warn_vacuous
from fairopt.notions import Notion
from fairopt.notions.groups import Missing
from fairopt.notions.several import Part, Several, read_classes
from fairopt.solve import Solution


@overload
def compile(notion: Notion, *, sensitive_features: Any, process_group: None = None, **facts: Unpack[Reads]) -> Prepared: ...
@overload
def compile(notion: Notion, *, sensitive_features: Any, process_group: Any, **facts: Unpack[Reads]) -> PreparedOnRanks: ...
@overload
def compile(
    notion: Notion, *, sensitive_features: Any, outputs: Several, classes: Any = ..., **facts: Unpack[Reads]
) -> PreparedClasses: ...
def compile(
    notion: Notion,
    *,
    sensitive_features: Any,
    targets: Any = None,
    bounds: Any = None,
    weights: Any = None,
    groups: Mapping[str, Iterable[Any]] | None = None,
    missing_group: Missing = "error",
    on_missing: OnMissing = "drop",
    on_infeasible: OnInfeasible = "raise",
    pos_label: Any = None,
    distance: str = "squared",
    outputs: str = "one",
    classes: Any = None,
    process_group: Any = None,
) -> Prepared | PreparedOnRanks | PreparedClasses:
    """Compile a notion for one batch: groups are read, rows built and checked for feasibility once.

    sensitive_features  attribute name -> n values (ints, strings, bools), a frame, or the values of the notion's only attribute
    pos_label           the target that counts as 1, every other one as 0; None: targets are numbers, labels 0 and 1
    targets (n,) where the notion needs them;  bounds  None or (lo, hi), numbers or (n,);  weights (n,) > 0 of the distance
    groups              declared values of attributes: then an unknown value is an error and an absent group is known to be absent
    distance            what "nearest" means: "squared", or "kl" for probabilities and positive values (docs/distances.md)
    missing_group       "error", or "own": samples whose group is missing are a group of their own
    on_missing          constraints whose group has no sample: "drop" lists them in the certificate, "warn" also warns, "raise" raises
    on_infeasible       "raise" InfeasibleError; "closest": the scores that break the constraints least, with status CLOSEST and a warning;
                        "passthrough": the scores as they came, with status INFEASIBLE
    outputs             "one" number a sample; "simplex": class probabilities (n, C) that sum to 1; "independent": (n, L) that do not
    classes             with the last two: the columns that the notion is about; None: all (docs/distances.md)
    process_group       ranks of ``torch.distributed``, or "world" for all of them: each brings its share of the batch, none among them,
                        every rank calls, and the rows hold on the union. Scores, gradients and certificate are those of one process
                        with all samples. See docs/scale.md

    Raises InputError, InfeasibleError (with a minimal conflicting set in ``.rows`` and a proof in ``.proof``); RankError where a rank is
    gone. Source: DESIGN 4 and 5.

    Examples:
        >>> prepared = fo.compile(fo.DemographicParity("sex", tolerance=0.1), sensitive_features=["f", "m"], bounds=(0, 1))
        >>> prepared.problem.labels, prepared.project(torch.tensor([0.2, 0.6]))
        (('DemographicParity(sex): f - m',), tensor([0.3500, 0.4500]))
    """
    return _compiled(
        notion, sensitive_features=sensitive_features, targets=targets, bounds=bounds, weights=weights, groups=groups,
        missing_group=missing_group, on_missing=on_missing, on_infeasible=on_infeasible, pos_label=pos_label, process_group=process_group,
        distance=distance, outputs=outputs, classes=classes,
    )  # fmt: skip


def _compiled(
    notion: Notion, *, sensitive_features: Any, on_missing: OnMissing, on_infeasible: OnInfeasible, process_group: Any = None, **facts: Any
) -> Prepared | PreparedOnRanks | PreparedClasses:
    """As ``compile``; a warning names the line two calls up."""
    several = read_classes(facts.pop("outputs", "one"), facts.pop("classes", None), facts.get("distance", "squared"), facts.get("bounds"))
    ranks = ranks_of(process_group)
    if ranks is not None:
        refuse_ranks(facts.pop("distance", "squared"), several)
        facts.update(on_missing=on_missing, on_infeasible=on_infeasible)
        shared = compile_on_ranks(notion, ranks, ordinary, sensitive_features=sensitive_features, **facts)
        if shared.problem.vacuous and on_missing != "warn":
            warn_vacuous(shared.problem)
        return shared
    if not isinstance(notion, Notion):
        raise InputError(f"notion must be a notion such as DemographicParity('sex', tolerance=0.05), came {notion!r}")
    features = read_features(sensitive_features, notion.attributes)
    name = next((a for a in notion.attributes if a in features), next(iter(features)))
    n = length(features[name], f"sensitive_features[{name!r}]")
    if several is not None:
        if several.outputs == "simplex":
            facts["bounds"] = (0.0, 1.0)
        targets = facts.pop("targets", None)
        refuse_unless_raised(on_infeasible)

        def one(_part: Part, asked: Notion, own: Any, count: int | None) -> Compiled:
            with outside_transforms():
                return compile_problem(
                    asked, n=n, sensitive_features=features, targets=own, on_missing=on_missing, on_infeasible=on_infeasible, outputs=count,
                    **facts,
                )  # fmt: skip

        return PreparedClasses(notion, several, one, targets, n)
    with outside_transforms():
        compiled = compile_problem(notion, n=n, sensitive_features=features, on_missing=on_missing, on_infeasible=on_infeasible, **facts)
    if compiled.problem.vacuous and on_missing != "warn":  # that has warned already
        warn_vacuous(compiled.problem)
    return Prepared(compiled, on_infeasible)


class Facts(How, Reads, total=False):
    """Everything about a batch but its groups, and how to solve: see ``compile``."""

    outputs: str
    classes: Any
    process_group: Any


@overload
def project(
    scores: Tensor, notion: Notion, *, sensitive_features: Any, return_solution: Literal[False] = ..., **facts: Unpack[Facts]
) -> Tensor: ...
@overload
def project(
    scores: Any, notion: Notion, *, sensitive_features: Any, return_solution: Literal[True], **facts: Unpack[Facts]
) -> Solution: ...
@overload
def project(
    scores: Any, notion: Notion, *, sensitive_features: Any, return_solution: Literal[False] = ..., **facts: Unpack[Facts]
) -> Any: ...
def project(
    scores: Any,
    notion: Notion,
    *,
    sensitive_features: Any,
    targets: Any = None,
    bounds: Any = None,
    weights: Any = None,
    groups: Mapping[str, Iterable[Any]] | None = None,
    backend: BackendLike = "auto",
    gradient: GradientKind = "implicit",
    missing_group: Missing = "error",
    on_missing: OnMissing = "drop",
    on_infeasible: OnInfeasible = "raise",
    certify: bool = True,
    solver_tol: float | None = None,
    pos_label: Any = None,
    distance: str = "squared",
    outputs: str = "one",
    classes: Any = None,
    process_group: Any = None,
    return_solution: bool = False,
) -> Any:
    """The scores nearest to ``scores`` (n,) or (n, 1) that meet ``notion`` inside ``bounds``; differentiable.

    Same shape, dtype and device as ``scores`` (or the same container, see
    ``Prepared.project``); with ``return_solution`` a Solution with prices, status and certificate.
    Arguments and errors: see ``compile`` and ``Prepared.project``.

    Examples:
        >>> scores = torch.tensor([0.2, 0.6], requires_grad=True)
        >>> fo.project(scores, fo.DemographicParity("sex", tolerance=0.1), sensitive_features=["f", "m"])
        tensor([0.3500, 0.4500], grad_fn=<_AttachedBackward>)
    """
    prepared = _compiled(
        notion, sensitive_features=sensitive_features, targets=targets, bounds=bounds, weights=weights, groups=groups,
        missing_group=missing_group, on_missing=on_missing, on_infeasible=on_infeasible, pos_label=pos_label, process_group=process_group,
        distance=distance, outputs=outputs, classes=classes,
    )  # fmt: skip
    if isinstance(prepared, (PreparedOnRanks, PreparedClasses)):
        how: How = {"backend": backend, "gradient": gradient, "certify": certify, "solver_tol": solver_tol}
        return prepared.project(scores, return_solution=return_solution, **how)
    if isinstance(scores, Tensor) and not return_solution:
        return prepared.project(scores, backend=backend, gradient=gradient, certify=certify, solver_tol=solver_tol)
    tensor, like = working_tensor(scores)
    solution = prepared.solution(tensor, backend=backend, gradient=gradient, certify=certify, solver_tol=solver_tol)
    return solution if return_solution else handed_back(solution, like)
