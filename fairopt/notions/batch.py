"""What a notion sees of a batch: its groups, targets and strata, and the means that make functionals.

Nothing here knows the scores: a notion is about *which* samples, not about their values. Columns of codes are made on first use and
shared by all notions of one compilation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from fairopt.basics.arrays import BoolArray, IntArray
from fairopt.basics.columns import Value, length, numbers, plain_array, read_features
from fairopt.basics.errors import InputError
from fairopt.basics.table import joined_words
from fairopt.notions.amount import is_number
from fairopt.notions.dense import DenseWeights
from fairopt.notions.events import Column, Mask, boolean_array
from fairopt.notions.functional import Functional, GroupMeans, Range
from fairopt.notions.groups import Attribute, Missing, Vocabulary, encode
from fairopt.notions.labels import Targets, read_targets
from fairopt.notions.soft_events import SoftMask
from fairopt.notions.soft_groups import is_soft, soft_groups, soft_mean
from fairopt.notions.trap import NoSuchName, trap

Recipe = tuple[Attribute | float, ...]  # columns in the order in which they are made: attributes, values that targets are compared with


_EVERYONE = object()  # no event was named; None is what ``group`` says of an absent one
_OUTPUTS = ("outputs",)  # the key of the column that says which output a position is of
_OFFERS = "groups, pairs, strata, group, everyone, event, targets, mean, range, weighted, numbers"


class NamesOutput(InputError):
    """A notion names one of several numbers a sample (``batch.mean(event, output=c)``), and is asked about one. output: the one named."""

    def __init__(self, message: str, output: int = 0) -> None:
        super().__init__(message)
        self.output = output

    def __reduce__(self) -> tuple[type[NamesOutput], tuple[str, int]]:
        return type(self), (str(self), self.output)


_ASKED = {
    "scores": "a notion says which samples count and sees no scores: batch.mean(event) is their mean over an event, batch.weighted(v) "
    "their weighted mean",
    "sensitive_features": "the groups of an attribute are batch.groups(attribute), its numbers batch.numbers(attribute)",
    "labels": "labels are batch.targets: batch.targets == 1 is an event",
}


class Batch:
    """The facts of one batch of n samples.

    ``groups(attribute)``, ``pairs(attribute)``, ``strata(given)`` and ``everyone`` give events; ``targets`` compares into events and may be
    the ``of=`` of a mean; ``mean``, ``range`` and ``weighted`` make functionals of the scores. A batch is made by fairopt; a notion
    is given it.

    sensitive_features  attribute name -> n values
    vocabularies        attribute -> the groups known so far;  grow  whether values that are not among them are learned or an error
    missing_group       "error", or "own": samples whose group is missing are a group of their own
    pos_label           the target that counts as 1, every other one as 0; None: targets are numbers, labels 0 and 1
    copies              (n,) how many samples each position stands for; None: one
    outputs             how many scores a sample has; None: one, and no functional names it. With several, output c of sample i is at
                        position c n + i of events, values and columns, and means name their output

    Examples:
        >>> from fairopt.notions import Batch
        >>> batch = Batch(3, {"sex": ["f", "m", "m"]}, targets=[1, 0, 1])
        >>> women, men = batch.groups("sex")
        >>> constraint = abs(batch.mean(women) - batch.mean(men & (batch.targets == 1))) <= 0.1
        >>> constraint.functionals[0].means
        ((1.0, <event f>), (-1.0, <event m & target=1>))
    """

    def __init__(
        self,
        n: int,
        sensitive_features: Mapping[str, Any],
        targets: Any = None,
        *,
        vocabularies: Mapping[str, Vocabulary] | None = None,
        grow: bool = True,
        missing_group: Missing = "error",
        pos_label: Any = None,
        copies: IntArray | None = None,
        outputs: int | None = None,
    ) -> None:
        self.n = n
        self.outputs = outputs
        self.positions = n * (outputs or 1)  # scores in all
        self.copies = copies  # (n,) how many samples each position stands for, None: one
        self.used_targets = False
        self.columns: list[Column] = []
        self.values: list[Tensor] = []  # (n,) what of= and weighted name, as they came
        self._totals: dict[int, float] = {}  # the places of those whose mean is known exactly -> it
        self.vocabularies: dict[str, Vocabulary] = dict(vocabularies or {})
        self._sensitive_features = sensitive_features if isinstance(sensitive_features, Mapping) else read_features(sensitive_features)
        self._pos_label = pos_label
        self._targets_given = targets
        self._targets: Targets | None = None
        self._absent: list[tuple[Attribute, Any]] = []  # groups that were asked for and are not there
        self._grow = grow
        self._missing: Missing = missing_group
        self._column_of: dict[Any, int] = {}
        self._masks: dict[Attribute, tuple[Mask, ...]] = {}
        self.everyone = Mask(self, ("all",), "overall")
        if outputs is not None:
            words = tuple(f"output {c}" for c in range(outputs))
            self._column_of[_OUTPUTS] = 0
            self.columns.append(Column(np.repeat(np.arange(outputs), n), outputs, words, ""))

    def __getattr__(self, name: str) -> NoReturn:
        """What a notion may look for and a batch has not: an answer that names the way."""
        if name.startswith("_"):
            raise AttributeError(name)
        raise NoSuchName(_ASKED.get(name, f"a batch has no {name!r}") + f"; it offers {_OFFERS}", name)

    # events -----------------------------------------------------------------------------------------------------------------

    def groups(self, attribute: Attribute) -> tuple[Mask, ...]:
        """One event per group of the attribute, in the vocabulary's order; of a tuple of names, one per combination."""
        key = normal_attribute(attribute)
        if key not in self._masks and is_soft(self, key):
            self._masks[key] = soft_groups(self, key)
        if key not in self._masks:
            j = self._attribute_column(key)
            names = self.columns[j].names
            self._masks[key] = tuple(Mask(self, ("=", j, code), name) for code, name in enumerate(names))
        return self._masks[key]

    def group(self, attribute: Attribute, value: Any) -> Mask | None:
        """The event of one group, None where the vocabulary (not declared) lacks it. InputError where a declared one lacks it."""
        key = normal_attribute(attribute)
        masks = self.groups(key)
        names = (key,) if isinstance(key, str) else key
        values: tuple[Value, ...] = (value,) if isinstance(key, str) else tuple(value)
        if len(values) != len(names):
            raise InputError(f"the group {value!r} of {key!r} must name one value per attribute")
        position = 0
        for name, v in zip(names, values, strict=True):
            vocabulary = self.vocabularies[name]
            code = next((k for k, known in enumerate(vocabulary.values) if known == v and type(known) is type(v)), None)
            if code is None:
                if vocabulary.declared:
                    raise InputError(f"{v!r} is no declared group of {name!r}; those are {list(vocabulary.values)!r}")
                self._absent.append((attribute, value))
                return None
            position = position * len(vocabulary) + code
        return masks[position]

    def pairs(self, attribute: Attribute) -> Iterator[tuple[Mask, Mask]]:
        """Every two groups of the attribute, each pair once."""
        return itertools.combinations(self.groups(attribute), 2)

    def strata(self, given: Attribute | None) -> Iterator[tuple[Mask, str]]:
        """Each stratum of ``given`` with its words, e.g. 'race=white'; everyone and '' without ``given``."""
        if given is None:
            yield self.everyone, ""
            return
        words = attribute_words(given)
        for stratum in self.groups(given):
            yield stratum.named(f"{words}={stratum.name}"), f"{words}={stratum.name}"

    def event(self, mask: Any) -> Mask:
        """An event as it is, or from a boolean array or tensor (n,)."""
        if isinstance(mask, Mask):
            return mask
        array = boolean_array(mask, self.n)
        array = boolean_array(mask, self.positions) if array is None else array
        if array is None:
            self._explain(mask)
            shape = tuple(getattr(mask, "shape", ()))
            trap(f"an event must be made by the batch or be a boolean array of shape ({self.n},), came {type(mask).__name__} {shape}")
        return self.boolean_event(array, "")

    def _explain(self, mask: Any) -> None:
        """InputError where what came in the place of an event is a slip that can be told."""
        if mask is None and self._absent:
            attribute, value = self._absent[-1]
            words = f"batch.group({attribute!r}, {value!r}) is None here, for no sample has that group"
            trap(f"{words}; skip what is said of it where it is None, or declare it with groups=")
        if isinstance(mask, Targets) or is_number(mask):
            trap("& and | bind tighter than a comparison: put parentheses around batch.targets == 0, as in group & (batch.targets == 0)")

    @property
    def targets(self) -> Targets:
        """The batch's targets. InputError where none were passed."""
        if self._targets is None:
            if self._targets_given is None:
                raise InputError("this notion needs targets; pass targets= (n,)")
            count = self.positions if self.outputs is not None and length(self._targets_given, "targets") != self.n else self.n
            self._targets = Targets(self, read_targets(self._targets_given, count, self._pos_label))
        self.used_targets = True
        return self._targets

    def check_labels(self) -> None:
        """InputError where a notion asked for labels that no sample of the batch has. To be called when all constraints are read."""
        if self._targets is not None:
            self._targets.check_met()

    # functionals ------------------------------------------------------------------------------------------------------------

    def mean(self, mask: Any = _EVERYONE, of: Any = None, *, output: int | None = None) -> Functional:
        """Mean of the scores over an event (everyone without one); ``of=values`` (n,): the constant mean of the values instead.

        ``output`` says which of several scores a sample is meant: a class (``outputs="simplex"``) or a label ("independent").
        """
        event = self.everyone if mask is _EVERYONE else self.event(mask)
        if isinstance(event, SoftMask):
            if output is not None:
                self._of_output(self.everyone, output)  # asked about one score a sample, it says so
            return soft_mean(self, event, of)
        event = self._of_output(event, output)
        if of is None:
            return Functional(means=((1.0, event),))
        return Functional(constants=((1.0, event, self._values_index(of)),))

    def _of_output(self, event: Mask, output: Any) -> Mask:
        """The event among the scores of one output."""
        if output is None:
            if self.outputs is not None:
                trap("batch.mean without output= in a notion that names outputs elsewhere: say which in each mean, range and group_means")
            return event
        if isinstance(output, bool) or not isinstance(output, (int, np.integer)) or output < 0:
            trap(f"output= must be a whole number from 0 on, a column of scores (n, C), came {output!r}")
        if self.outputs is None:
            raise NamesOutput(
                f"the notion names output {output} of several scores a sample, and was asked about one; pass outputs='simplex' or "
                "'independent'",
                int(output),
            )
        if output >= self.outputs:
            raise InputError(f"output: got {output}, expected a number below {self.outputs}, for scores have {self.outputs} columns")
        return (event & Mask(self, ("=", 0, int(output)), self.columns[0].names[output])).named(f"{event.name}, output {output}")

    def range(self, members: Iterable[Any], *, ratio: Any = None, output: int | None = None) -> Range:
        """max - min over events (of their means, of one ``output``) or functionals; with ``ratio``, in [0, 1], ratio * max - min.

        ``batch.range(groups, ratio=0.8) <= 0`` says that the smallest mean is at least 0.8 times the largest: all ordered pairs
        ``mean(a) - 0.8 * mean(b) >= 0`` as one constraint, whose one violation softness counts.
        """
        if isinstance(members, GroupMeans):
            return Range(members, _ratio(ratio))
        return Range(tuple(m if isinstance(m, Functional) else self.mean(m, output=output) for m in members), _ratio(ratio))

    def group_means(self, attribute: Attribute, among: Any, *, output: int | None = None) -> Sequence[Functional]:
        """The mean over each group of the attribute among the samples of an event: ``range`` takes them, thousands at once."""
        groups, event = self.groups(attribute), self.event(among)
        if isinstance(event, SoftMask) or any(isinstance(g, SoftMask) for g in groups):
            return tuple(self.mean((g & event).named(g.name), output=output).named(g.name) for g in groups)
        return GroupMeans(groups, self._of_output(event, output))

    def weighted(self, values: Any, *, centred: bool = False) -> Functional:
        """1/n sum_i values_i y_i: the dense case. ``centred``: the (n,) values are numbers less their mean; what rounding left of their
        sum is taken out, so that scores which are all the same give exactly 0."""
        if self.outputs is not None:
            trap("batch.weighted: not there in a notion that names outputs")
        return Functional(dense=((1.0, self._values_index(values, 0.0 if centred else None)),))

    @property
    def dense_weights(self) -> DenseWeights:
        """The weights of dense rows, from all values named so far."""
        return DenseWeights(tuple(self.values), dict(self._totals), self.n)

    def numbers(self, attribute: str) -> Tensor:
        """A continuous attribute as (n,) float64."""
        return numbers(self._feature(attribute), self.n, f"sensitive_features[{attribute!r}]").detach().to("cpu", torch.float64)

    # columns ----------------------------------------------------------------------------------------------------------------

    def _feature(self, name: str) -> Any:
        features = self._sensitive_features
        if name not in features:
            known = ", ".join(repr(k) for k in features)
            raise InputError(f"sensitive_features has no attribute {name!r}; it has {known or 'none'}")
        return features[name]

    def _attribute_column(self, attribute: Attribute) -> int:
        if attribute in self._column_of:
            return self._column_of[attribute]
        if isinstance(attribute, str):
            codes, vocabulary = self._encoded(attribute, self._feature(attribute))
            if codes.shape[0] != self.n:
                raise InputError(f"sensitive_features[{attribute!r}] has {codes.shape[0]} values for {self.n} samples")
            codes = codes if self.outputs is None else np.tile(codes, self.outputs)
            column = Column(codes, len(vocabulary), vocabulary.names, attribute)
        else:
            parts = [self.columns[self._attribute_column(name)] for name in attribute]
            codes = parts[0].codes
            for part in parts[1:]:
                codes = codes * part.size + part.codes
            names = tuple(joined_words(words) for words in itertools.product(*(p.names for p in parts)))
            column = Column(codes, math.prod(p.size for p in parts), names, attribute_words(attribute))
        self._column_of[attribute] = len(self.columns)
        self.columns.append(column)
        return self._column_of[attribute]

    def _encoded(self, name: str, values: Any) -> tuple[IntArray, Vocabulary]:
        """Codes of some values of an attribute, and its vocabulary, which may have grown by them."""
        known = self.vocabularies.get(name)
        codes, vocabulary = encode(values, name=name, vocabulary=known, grow=self._grow, missing=self._missing)
        self.vocabularies[name] = vocabulary
        return codes, vocabulary

    def recipe(self) -> Recipe | None:
        """How the columns came about: attributes, and of binary targets the values that they were compared with; None where one is
        neither."""
        compared = {} if self._targets is None else self._targets.equalities
        of_column = {mask.key[1]: value for value, mask in compared.items()}
        if self.outputs is not None:
            return None
        made: list[Attribute | float] = []
        for key, j in self._column_of.items():
            if isinstance(key, str) or isinstance(key[-1], str):
                made.append(key)
            elif j in of_column and self._targets is not None and self._targets.binary:
                made.append(of_column[j])
            else:
                return None
        return tuple(made)

    def follow(self, recipe: Recipe) -> bool:
        """Make the columns of another batch's ``recipe`` here, for this alone: ``forget`` them before a notion is asked. False where
        targets are not binary. InputErrors as in reading them."""
        labels: tuple[BoolArray, BoolArray] | None = None
        for part in recipe:
            if not isinstance(part, float):
                if is_soft(self, part):
                    return False
                self._attribute_column(part)
                continue
            labels = self._zeros_and_ones() if labels is None else labels
            if labels is None or part not in (0.0, 1.0):
                return False
            self.columns.append(Column(labels[int(part)].astype(np.int64), 2, ("", ""), ""))  # nothing asks for its name
        return True

    def _zeros_and_ones(self) -> tuple[BoolArray, BoolArray] | None:
        """(n,) which targets are 0, and which are 1, where there are no others. InputErrors as in reading them."""
        values = plain_array(self._targets_given) if self._pos_label is None else None
        if values is None or values.shape[0] != self.n:
            if self.targets.tensor.requires_grad:
                return None
            values = self.targets.as_float64
        self.used_targets = True
        zeros, ones = values == 0, values == 1
        return (zeros, ones) if np.count_nonzero(zeros) + np.count_nonzero(ones) == self.n else None

    def forget(self) -> None:
        """Let the columns go: events and their batch hold one another, and columns are large."""
        self.columns, self._column_of, self._masks, self._targets = [], {}, {}, None

    def boolean_event(self, array: BoolArray, name: str) -> Mask:
        """The event of a boolean array (n,)."""
        if self.outputs is not None and array.shape[0] == self.n:
            array = np.tile(array, self.outputs)
        key = ("bool", array.tobytes())  # equal arrays share one column
        if key not in self._column_of:
            word = name or f"mask {1 + sum(not c.attribute for c in self.columns)}"
            self._column_of[key] = len(self.columns)
            self.columns.append(Column(array.astype(np.int64), 2, (f"not {word}", word), ""))
        j = self._column_of[key]
        return Mask(self, ("=", j, 1), name or self.columns[j].names[1])

    def _values_index(self, values: Any, total: float | None = None) -> int:
        tensor = values.tensor if isinstance(values, Targets) else numbers(values, self.n, "the values of a mean")
        if self.outputs is not None and tensor.shape[0] == self.n:
            tensor = tensor.repeat(self.outputs)
        for k, known in enumerate(self.values):
            if self._totals.get(k) != total:
                continue
            if known is tensor or (not known.requires_grad and not tensor.requires_grad and torch.equal(known, tensor)):
                return k
        self.values.append(tensor)
        self._totals.update({} if total is None else {len(self.values) - 1: total})
        return len(self.values) - 1


def _ratio(ratio: Any) -> float | None:
    if ratio is None:
        return None
    if not is_number(ratio) or getattr(ratio, "requires_grad", False) or not 0.0 <= float(ratio) <= 1.0:
        trap(f"the ratio of batch.range(...) must be a plain number in [0, 1], came {ratio!r}")
    return float(ratio)


def attribute_words(attribute: Attribute) -> str:
    """'sex', or 'sex & race' of an intersection."""
    return attribute if isinstance(attribute, str) else " & ".join(attribute)


def normal_attribute(attribute: Any) -> Attribute:
    """A name, or a tuple of distinct names; InputError for anything else."""
    if isinstance(attribute, str):
        return attribute
    if isinstance(attribute, (tuple, list)) and attribute and all(isinstance(a, str) for a in attribute):
        names = tuple(attribute)
        if len(set(names)) == len(names):
            return names[0] if len(names) == 1 else names
    raise InputError(f"an attribute is a name or a tuple of distinct names, came {attribute!r}")
