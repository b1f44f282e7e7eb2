"""``FairnessLayer``: a notion as the last layer of a network. ``FairModel``: a network with one."""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from torch import Tensor, nn

from fairopt.basics.columns import read_features
from fairopt.basics.containers import outside_transforms
from fairopt.basics.errors import InputError, UnsupportedError
from fairopt.basics.facts import described_bounds, to_tensor
from fairopt.basics.ranks import WORLD, Ranks, ranks_of
from fairopt.compiler import Compiled, OnInfeasible, OnMissing, compile_problem
from fairopt.compiler.memory import CompiledMemory, composition
from fairopt.contract.backend import GradientKind, Status
from fairopt.contract.problem import ProjectionProblem
from fairopt.contract.registry import BackendLike, resolve
from fairopt.layer.agreement import Agreement
from fairopt.layer.asked import Asked
from fairopt.layer.classes import check_table, problem_of, solve_classes
from fairopt.layer.known_groups import KnownGroups
from fairopt.layer.on_ranks import PreparedOnRanks, prepare_on_ranks
from fairopt.layer.prepared import Prepared, is_plain, ordinary, refuse_ranks, warn_vacuous
from fairopt.layer.saved import FACTS, FORMAT, difference, drop_facts, saved_facts
from fairopt.layer.settings import Space, check_choices, read_near
from fairopt.layer.shares import Reading
from fairopt.notions import Notion
from fairopt.notions.groups import Missing
from fairopt.notions.several import Part
from fairopt.solve import Certificate, Solution
from fairopt.solve.choosing import check_solver_tol
from fairopt.solve.operator import in_graph, token_of
from fairopt.solve.scores import check_scores
from fairopt.solve.told import tell_closest
from fairopt.solve.transforms import refuse_transforms, transformed

if TYPE_CHECKING:
    from fairopt.layer.frozen import FrozenLayer
    from fairopt.layer.frozen_classes import FrozenClasses
    from fairopt.streaming import PooledParity

_LEARNED = re.compile(r"Parameter\([^)]*\)")


class FairnessLayer(nn.Module):
    """Projects each batch of scores onto a parity notion; gradients pass through.

    notion      what must hold; a tolerance, rho or gamma that is an ``nn.Parameter`` becomes a parameter of the layer
    bounds      None or (lo, hi): the box of the scores; space="probability" has (0, 1) if none is given
    groups      declared values of attributes; not declared: the layer learns them in train mode, in eval mode an unknown value is an
                error. "from data": a layer that knows no group of an attribute yet learns them from its first batch, also in eval mode
    backend     "auto", a name, a class or an instance;  gradient  "implicit" or "native"
    space       "value": scores in, scores out; "probability": logits in, projected probabilities out; "logit": logits in and out,
                means taken of the logits
    distance    what "nearest" means: "squared", "kl" for probabilities or "kl_positive" for positive values (docs/distances.md)
    outputs     "one" number a sample, or (n, C): "simplex" for class probabilities (space="probability": of logits, by softmax),
                "independent" for labels that do not exclude each other; classes: the columns that the notion is about, None for all
    pos_label   the target that counts as 1, every other one as 0; None: targets are numbers, labels 0 and 1
    process_group  ranks of ``torch.distributed``, or "world" for all that there are at the first call: each calls the layer with its share
                of the batch, none among them, and the rows hold on the union; groups are learned together. Backward is called on every rank
                too, and gives each the gradient of the sum of all ranks' losses with respect to its own scores (docs/scale.md says how that
                goes with DistributedDataParallel)

    missing_group, on_missing and on_infeasible as in ``compile``, certify and solver_tol as in ``Prepared.project``; InputError for others.

    Copies and pickles carry the groups known so far and no certificate; what a copy learns later is its own. ``state_dict`` holds tensors
    alone: the learned parameters, and under ``facts`` the notion, bounds, space and groups. Loading refuses a state of another layer, and
    other groups than declared ones.

    Shapes: scores (n,) or (n, 1) in, the same out. Source: Troxell, Roemer, Montufar 2026, equation of the layer; DESIGN 5.

    Examples:
        >>> layer = fo.FairnessLayer(fo.DemographicParity("sex", tolerance=0.1), bounds=(0, 1))
        >>> scores = torch.tensor([0.2, 0.6], requires_grad=True)
        >>> fair = layer(scores, sensitive_features={"sex": ["f", "m"]})
        >>> fair[1].backward()
        >>> print(fair.detach(), scores.grad, layer.certificate.status.name)
        tensor([0.3500, 0.4500]) tensor([0.5000, 0.5000]) CERTIFIED
    """

    def __init__(
        self,
        notion: Notion,
        *,
        bounds: Any = None,
        groups: Mapping[str, Iterable[Any]] | Literal["from data"] | None = None,
        backend: BackendLike = "auto",
        gradient: GradientKind = "implicit",
        space: Space = "value",
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
    ) -> None:
        super().__init__()
        if not isinstance(notion, Notion):
            raise InputError(f"notion: got {notion!r}, expected a notion such as fairopt.DemographicParity('sex', tolerance=0.05)")
        check_choices(
            {"space": space, "gradient": gradient, "missing_group": missing_group, "on_missing": on_missing, "on_infeasible": on_infeasible}
        )
        if not (isinstance(backend, str) and backend == "auto"):
            resolve(backend)  # an unknown name is an error here, not in the first batch
        check_solver_tol(solver_tol)
        near = read_near(space, bounds, distance, outputs, classes, on_infeasible)
        self.bounds, self.distance, self._classes = near.bounds, near.distance, near.classes
        self.backend, self.gradient, self.space = backend, gradient, space
        self.missing_group, self.on_missing, self.on_infeasible = missing_group, on_missing, on_infeasible
        self.certify, self.solver_tol, self.pos_label = certify, solver_tol, pos_label
        self._known = KnownGroups(groups)
        self._local = threading.local()
        self._memory: CompiledMemory[Prepared] = CompiledMemory()
        self._told_closest = False  # the warning comes once a layer
        self._warned_vacuous = False
        self._token = token_of(self)
        self._given = notion
        if process_group is not None:
            refuse_ranks(self.distance, self._classes)
        self._group: Ranks | str | None = WORLD if isinstance(process_group, str) and process_group == WORLD else ranks_of(process_group)
        self._agreed: Agreement | None = None
        self._learned: dict[str, str] = {}  # the notion's word for a parameter -> the name it is registered under
        for name, tensor in notion.parameters.items():
            if isinstance(tensor, nn.Parameter):
                self._learned[name] = f"notion_{name}" if hasattr(self, name) else name
                self.register_parameter(self._learned[name], tensor)

    @property
    def notion(self) -> Notion:
        """The notion with the layer's present parameters, also where ``load_state_dict(assign=True)`` or ``functional_call`` put others."""
        if not self._learned:
            return self._given
        old = self._given.parameters
        new = {name: getattr(self, registered) for name, registered in self._learned.items()}
        if all(new[name] is old[name] for name in new):
            return self._given
        swaps = {id(tensor): new.get(name, tensor) for name, tensor in old.items()}
        return copy.deepcopy(self._given, swaps)  # the memo puts the present tensor where the old one was

    @property
    def process_group(self) -> Any:
        """The group whose ranks share batches, or "world", as given; None without any."""
        return self._group.group if isinstance(self._group, Ranks) else self._group

    @property
    def certificate(self) -> Certificate | None:
        """Numbers of this thread's last call; None before the first."""
        held = getattr(self._local, "certificate", None)
        if held is not None and not isinstance(held, Certificate):
            held = self._local.certificate = held.certificate()  # a compiled answer: made when it is asked for
        return held

    def hush(self) -> Self:
        """Warn of no batch that the notion asks nothing of: the caller says it. Returns the layer itself."""
        self._warned_vacuous = True
        return self

    @property
    def groups(self) -> dict[str, list[Any]]:
        """The values known of each attribute, declared or learned."""
        return self._known.to_lists()

    def forward(self, scores: Tensor, *, sensitive_features: Any, targets: Any = None, weights: Any = None) -> Tensor:
        """Fair scores for ``scores`` (n,) or (n, 1). See ``solution`` for prices and status."""
        if torch.compiler.is_compiling():
            return self._in_graph(scores, sensitive_features, targets, weights)
        if isinstance(scores, Tensor) and transformed(scores) and self._agreement() is None:
            return self._transformed(scores, sensitive_features, targets, weights)
        if self._classes is not None:
            return self._solution_of_classes(scores, sensitive_features, targets, weights).scores
        prepared, inputs = self._inputs(scores, sensitive_features, targets, weights)
        if isinstance(prepared, Prepared) and is_plain(self.backend, self.gradient, self.certify, self.solver_tol):
            found = prepared.quick(inputs)
            if found is not None:
                self._local.certificate = found[1]
                self._tell_vacuous(prepared.problem)
                return found[0]
        return self._solved(prepared, inputs).scores

    def _in_graph(self, scores: Tensor, sensitive_features: Any, targets: Any, weights: Any) -> Tensor:
        """Calling the layer while torch.compile or torch.export traces it: groups, targets and weights must be tensors."""
        if self._agreement() is not None:
            raise UnsupportedError("a layer on a process group: not supported under torch.compile or torch.export; call the layer outside")
        if self._learned:
            raise UnsupportedError(
                "learned tolerances, rho or gamma: not supported under torch.compile or torch.export; call the layer outside"
            )
        several = isinstance(sensitive_features, Mapping)
        facts = {f"group {k}": v for k, v in sensitive_features.items()} if several else {"group": sensitive_features}
        facts.update({name: v for name, v in (("targets", targets), ("weights", weights)) if v is not None})
        return in_graph(scores, facts, self._token)

    def traced(self, scores: Tensor, facts: Mapping[str, Tensor]) -> Tensor:
        """What ``fairopt.solve.operator`` calls when the graph runs."""
        named = {name.removeprefix("group "): v for name, v in facts.items() if name.startswith("group ")}
        groups = facts.get("group", named)
        return self.forward(scores, sensitive_features=groups, targets=facts.get("targets"), weights=facts.get("weights"))

    def _transformed(self, scores: Tensor, sensitive_features: Any, targets: Any, weights: Any) -> Tensor:
        """Calling the layer inside torch.func or forward mode. There is no certificate of such a call."""
        if self._classes is not None:
            refuse_transforms(scores, "scores (n, C)")
        if (self._given.needs_targets and targets is None) or scores.dim() not in (1, 2):
            return self.solution(
                scores, sensitive_features=sensitive_features, targets=targets, weights=weights
            ).scores  # says what is wrong
        if self.distance != "squared":
            refuse_transforms(scores, f"scores beside distance={self.distance!r}")
        prepared = self.prepare(scores.shape[0], sensitive_features, targets, weights)
        inputs = torch.sigmoid(scores) if self.space == "probability" else scores
        return prepared.project(inputs, backend=self.backend, gradient=self.gradient, certify=self.certify, solver_tol=self.solver_tol)

    def solution(self, scores: Tensor, *, sensitive_features: Any, targets: Any = None, weights: Any = None) -> Solution:
        """As calling the layer, with prices, status and certificate. InputError for scores of another kind or shape."""
        if self._classes is not None:
            return self._solution_of_classes(scores, sensitive_features, targets, weights)
        return self._solved(*self._inputs(scores, sensitive_features, targets, weights))

    def _inputs(self, scores: Tensor, sensitive_features: Any, targets: Any, weights: Any) -> tuple[Prepared | PreparedOnRanks, Tensor]:
        """The batch compiled, and what is projected: the scores, or their probabilities."""
        prepared: Prepared | PreparedOnRanks
        agreement = self._agreement()
        if agreement is None:
            self._check_call(scores, targets)
            prepared = self.prepare(scores.shape[0], sensitive_features, targets, weights)
        else:
            prepared = self._prepare_on_ranks(agreement, scores, sensitive_features, targets, weights)
        inputs = scores
        if self.space == "probability":
            if agreement is None:
                check_scores(scores, scores.shape[0])  # the sigmoid would turn an infinite logit into a probability of 0 or 1
            inputs = torch.sigmoid(scores)
        return prepared, inputs

    def _solved(self, prepared: Prepared | PreparedOnRanks, inputs: Tensor) -> Solution:
        solution = prepared.quiet(inputs, backend=self.backend, gradient=self.gradient, certify=self.certify, solver_tol=self.solver_tol)
        self._local.certificate = solution.certificate
        if solution.status is Status.CLOSEST and not self._told_closest:
            self._told_closest = True
            tell_closest([solution])
        self._tell_vacuous(prepared.problem)
        return solution

    def _tell_vacuous(self, problem: ProjectionProblem) -> None:
        if problem.vacuous and not self._warned_vacuous and self.on_missing != "warn":
            self._warned_vacuous = True
            warn_vacuous(problem)

    def _solution_of_classes(self, scores: Tensor, sensitive_features: Any, targets: Any, weights: Any) -> Solution:
        """``solution`` of scores (n, C)."""
        how = self._classes
        assert how is not None
        check_table(scores)
        n, count = scores.shape
        inputs = self.probabilities(scores)

        def one(_part: Part, notion: Notion, own: Any, outputs: int | None) -> Compiled:
            with outside_transforms():
                return self._prepared(notion, n, sensitive_features, own, weights, outputs).compiled

        problem = problem_of(self.notion, how, targets, count, n, one)
        options: dict[str, Any] = {"certify": self.certify, "solver_tol": self.solver_tol}
        solution = solve_classes(inputs, problem, how, backend=self.backend, gradient=self.gradient, **options)
        self._local.certificate = solution.certificate
        return solution

    def _agreement(self) -> Agreement | None:
        """What this layer's ranks agree on; None without any."""
        if self._agreed is None and self._group is not None:
            ranks = ranks_of(WORLD) if isinstance(self._group, str) else self._group
            self._agreed = None if ranks is None else Agreement(ranks, self._given.attributes)
        return self._agreed

    def _check_call(self, scores: Any, targets: Any) -> None:
        if self._given.needs_targets and targets is None:
            raise InputError(
                f"targets: got None, expected one label a sample, for {self._given!r} is about labels; for rows without labels use "
                "layer.freeze(...) on calibration data"
            )
        if not isinstance(scores, Tensor):
            raise InputError(f"scores: got {type(scores).__name__}, expected a torch tensor of shape (n,) or (n, 1)")
        if scores.dim() not in (1, 2):
            raise InputError(f"scores: got shape {tuple(scores.shape)}, expected (n,) or (n, 1)")

    def _prepare_on_ranks(self, agreement: Agreement, scores: Any, sensitive_features: Any, targets: Any, weights: Any) -> PreparedOnRanks:
        """The batch that the ranks hold in shares, compiled; in train mode new group values are learned on all of them."""
        notion = self.notion

        def check() -> None:
            self._check_call(scores, targets)
            if self.space == "probability" and scores.shape[0]:
                check_scores(scores, scores.shape[0])

        grow = self._known.grow(self.training, notion.attributes)
        reading = Reading(notion, self._known.vocabularies, grow, self.missing_group, self.pos_label)
        asked = Asked(reading, self.bounds, self.on_missing, self.on_infeasible)
        n = scores.shape[0] if isinstance(scores, Tensor) and scores.dim() else None
        prepared = prepare_on_ranks(
            agreement, asked, ordinary, n=n, sensitive_features=sensitive_features, targets=targets, weights=weights, check=check
        )
        if grow:
            self._known.learn(prepared.compiled.vocabularies)
        return prepared

    def prepare(self, n: int, sensitive_features: Any, targets: Any = None, weights: Any = None) -> Prepared:
        """The batch compiled: in train mode new group values are learned. A composition that came lately is not compiled again."""
        if self._agreement() is not None:
            raise UnsupportedError(
                "prepare and freeze: not supported by a layer on a process group; build one without it, load this one's state_dict, and "
                "give it the scores of all ranks"
            )
        with outside_transforms():
            return self._prepared(self.notion, n, sensitive_features, targets, weights)

    def _prepared(
        self, notion: Notion, n: int, sensitive_features: Any, targets: Any, weights: Any, outputs: int | None = None
    ) -> Prepared:
        """``notion`` compiled for one number a sample, or for ``outputs``, or what is remembered of it."""
        known = self._known.vocabularies
        sensitive_features = read_features(sensitive_features, notion.attributes)
        key = self._key(notion, n, sensitive_features, targets, weights, outputs)
        remembered = self._memory.get(key, known)
        if remembered is not None:
            return remembered
        grow = self._known.grow(self.training, notion.attributes)
        compiled = compile_problem(
            notion,
            n=n,
            sensitive_features=sensitive_features,
            targets=targets,
            bounds=self.bounds,
            weights=weights,
            vocabularies=known,
            grow=grow,
            missing_group=self.missing_group,
            on_missing=self.on_missing,
            on_infeasible=self.on_infeasible,
            pos_label=self.pos_label,
            distance=self.distance,
            outputs=outputs,
        )
        if grow:
            self._known.learn(compiled.vocabularies)
        prepared = Prepared(compiled, self.on_infeasible)
        self._memory.put(key, known, prepared)
        return prepared

    def _key(self, notion: Notion, n: int, sensitive_features: Any, targets: Any, weights: Any, outputs: int | None) -> Hashable | None:
        """What the composition of a batch is remembered under; None: it is not."""
        if self.on_missing == "warn":
            return None  # each batch warns
        settings = (
            self.missing_group, self.on_missing, self.on_infeasible, type(self.pos_label), self.pos_label, self.distance, outputs,
        )  # fmt: skip
        return composition(notion, n, sensitive_features, targets, weights, self.bounds, settings)

    def freeze(
        self,
        scores: Any,
        *,
        sensitive_features: Any,
        targets: Any = None,
        confidence: float = 0.95,
        guarantee: float | None = None,
        on_few: Literal["error", "tighten as far as possible"] = "error",
        seed: int = 0,
        on_unknown: Literal["error", "pass"] = "error",
    ) -> FrozenLayer:
        """A FrozenLayer: shifts per group fitted on calibration scores (n,) or (n, 1) of any container, no solver at serving time.

        ``guarantee=0.95``: shifts that meet the notion in the population, with that confidence. See docs/guarantee.md.
        """
        from fairopt.layer.freezing import freeze

        if self._classes is not None:
            raise UnsupportedError(
                "freeze: for one number a sample; layer.freeze_classes(...) is for class probabilities (outputs='simplex')"
            )
        return freeze(
            self, scores, sensitive_features=sensitive_features, targets=targets, confidence=confidence, guarantee=guarantee, on_few=on_few,
            seed=seed, on_unknown=on_unknown,
        )  # fmt: skip

    def freeze_classes(self, scores: Tensor, *, sensitive_features: Any, on_unknown: Literal["error", "pass"] = "error") -> FrozenClasses:
        """``freeze`` for class probabilities: a shift for each class and group, fitted on calibration scores (n, C).

        Raises UnsupportedError for notions about labels. Serving: docs/guarantee.md.
        """
        from fairopt.layer.frozen_classes import freeze_classes

        return freeze_classes(self, scores, sensitive_features=sensitive_features, on_unknown=on_unknown)

    def probabilities(self, scores: Tensor) -> Tensor:
        """Network outputs as the notion sees them: sigmoid or softmax of logits where space="probability", else as they are."""
        if self.space != "probability":
            return scores
        several = self._classes is not None and self._classes.outputs == "simplex"
        return torch.softmax(scores, 1) if several else torch.sigmoid(scores)

    def controller(self, **options: Any) -> PooledParity:
        """The stream controller ``fairopt.streaming.PooledParity`` with the layer's notion, bounds, known groups, ``pos_label`` and
        ``missing_group``. ``options``: its other arguments (window, kappa, staleness, predict), or others in place of the layer's:
        ``groups=None`` lets the stream meet new groups. With space="probability" the stream takes the probabilities themselves, not logits.

        Raises InputError where the layer has no one pair of finite bounds, UnsupportedError where the notion cannot be streamed.
        """
        from fairopt.streaming import PooledParity

        if self._classes is not None:
            raise UnsupportedError("controller: a stream takes one number a sample")
        if self.distance != "squared":
            raise UnsupportedError(f"controller: a stream takes the squared distance, not distance={self.distance!r}")
        if self.bounds is None and "bounds" not in options:
            raise InputError("bounds: the layer has none, and a stream needs a pair of finite ones; layer.controller(bounds=(lo, hi))")
        groups = {name: values for name, values in self.groups.items() if name in self.notion.attributes}
        mine = {"bounds": self.bounds, "groups": groups or None, "pos_label": self.pos_label, "missing_group": self.missing_group}
        return PooledParity(self.notion, **{**mine, **options})

    # what a state says ---------------------------------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """What a ``state_dict`` says of the layer beside its parameters, in plain Python values."""
        return {
            "format": FORMAT,
            "notion": _LEARNED.sub("Parameter", repr(self._given)),  # a learned tolerance is a parameter of its own
            "bounds": described_bounds(self.bounds),
            "space": self.space,
            "distance": self.distance,
            "outputs": "one" if self._classes is None else [self._classes.outputs, self._classes.classes],
            "missing_group": self.missing_group,
            "pos_label": self.pos_label,
            "groups": self.groups,
            "declared": self._known.declared(),
        }

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + FACTS] = to_tensor(self.facts())

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, *lists: Any) -> None:
        """The groups out of a saved state. A state of another notion, box or space counts as an unexpected key: ``strict=True``
        refuses it, and ``strict=False`` says so in what it returns.
        """
        missing, unexpected, _ = lists
        saved = saved_facts(state_dict, prefix)
        drop_facts(state_dict, prefix)
        if saved is None:
            missing.append(prefix + FACTS)
        else:
            others = difference(saved, self.facts())
            if others:
                unexpected.append(f"{prefix}{FACTS} of another layer ({others})")
            self._known.take(saved["groups"], saved["declared"])
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *lists)

    def check_state(self, state_dict: Mapping[str, Any], prefix: str = "") -> None:
        """InputError where the state is another layer's; nothing is loaded."""
        saved = saved_facts(state_dict, prefix)
        others = "" if saved is None else difference(saved, self.facts())
        if others:
            raise InputError(f"state: it belongs to another layer ({others}); load_state_dict(..., strict=False) takes it all the same")

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As in torch; with ``strict``, a state of another layer is an InputError that names what differs, and changes nothing."""
        if strict:
            self.check_state(state_dict)
        return super().load_state_dict(state_dict, strict, assign)

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and deepcopy: everything but the threads' certificates and the compositions remembered."""
        state = {name: value for name, value in self.__dict__.items() if name not in ("_local", "_memory", "_token")}
        return {**state, "_known": copy.copy(self._known), "_agreed": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._local, self._memory = threading.local(), CompiledMemory()
        self._token = token_of(self)

    def extra_repr(self) -> str:
        backend = self.backend if isinstance(self.backend, str) else getattr(self.backend, "name", self.backend)
        near = "" if self.distance == "squared" else f", distance={self.distance!r}"
        return f"{self._given!r}, bounds={self.bounds}, backend={backend!r}, gradient={self.gradient!r}, space={self.space!r}{near}"
