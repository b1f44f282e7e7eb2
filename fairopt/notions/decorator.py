"""``@fairopt.notion``: a user's own notion in three lines.

    @fairopt.notion
    def equal_opportunity(batch, attribute, tolerance):
        for a, b in batch.pairs(attribute):
            yield abs(batch.mean(a & (batch.targets == 1)) - batch.mean(b & (batch.targets == 1))) <= tolerance

    equal_opportunity("sex", tolerance=0.05)        # a notion

Parameters named ``attribute*`` are keys of sensitive_features, those named ``tolerance*`` must be >= 0.
"""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
import pickle
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any, NoReturn, overload

from fairopt.basics.errors import InputError
from fairopt.notions.algebra import Notion
from fairopt.notions.amount import check_at_least
from fairopt.notions.batch import Batch, attribute_words, normal_attribute
from fairopt.notions.functional import Constraint
from fairopt.notions.groups import Attribute
from fairopt.notions.trap import misuse

Generator = Callable[..., Any]


class NotionFactory:
    """What the decorator leaves under the function's name: calling it with the arguments after ``batch`` makes a notion.

    ``needs_targets`` says whether the notion reads targets; None: whether the code names them. InputError where ``function``
    takes no batch.

    Examples:
        >>> @fo.notion
        ... def at_most(batch, attribute, limit):
        ...     for group in batch.groups(attribute):
        ...         yield batch.mean(group) <= limit
        >>> type(at_most).__name__, at_most("sex", limit=0.5)
        ('NotionFactory', at_most('sex', limit=0.5))
    """

    def __init__(self, function: Generator, needs_targets: bool | None = None) -> None:
        names = list(inspect.signature(function).parameters)
        if not names:
            raise InputError(f"@notion: {function.__name__} must take the batch as its first argument")
        self.function = function
        signature = inspect.signature(function)
        self.signature = signature.replace(parameters=list(signature.parameters.values())[1:], return_annotation=signature.empty)
        self.needs_targets = _names_targets(function.__code__) if needs_targets is None else needs_targets
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> DecoratedNotion:
        unknown = [k for k in kwargs if k not in self.signature.parameters]
        if unknown and not any(p.kind is p.VAR_KEYWORD for p in self.signature.parameters.values()):
            raise TypeError(f"{self._call} got an unexpected argument {unknown[0]!r}")
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self._call}: {error}") from None
        bound.apply_defaults()
        return DecoratedNotion(self, dict(bound.arguments))

    @property
    def _call(self) -> str:
        bare = [p.replace(annotation=p.empty) for p in self.signature.parameters.values()]
        return f"{self.function.__name__}{self.signature.replace(parameters=bare)}"

    def __repr__(self) -> str:
        # what every error shows that was given the factory in place of a notion
        return f"<what makes a notion; call it: {self._call}>"

    def __and__(self, other: object) -> NoReturn:
        raise InputError(f"a notion can be joined with another notion, came {self!r}")

    __rand__ = __and__

    def __reduce__(self) -> str:
        # pickled by name, like the function it stands for
        return self.function.__qualname__

    def __deepcopy__(self, memo: dict[int, Any]) -> NotionFactory:
        return self


class DecoratedNotion(Notion):
    """A notion made by a decorated function (its ``factory``) and its ``arguments``.

    Examples:
        >>> @fo.notion
        ... def at_most(batch, attribute, limit):
        ...     for group in batch.groups(attribute):
        ...         yield batch.mean(group) <= limit
        >>> at_most("sex", limit=0.5).arguments
        {'attribute': 'sex', 'limit': 0.5}
    """

    def __init__(self, factory: NotionFactory, arguments: dict[str, Any]) -> None:
        self.factory = factory
        self._arguments = {k: _checked(k, v, factory.function.__name__) for k, v in arguments.items()}

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self._arguments)

    @property
    def name(self) -> str:
        return self.factory.function.__name__

    @property
    def attributes(self) -> tuple[str, ...]:
        names: list[str] = []
        for value in self._attribute_values():
            names += [value] if isinstance(value, str) else value
        return tuple(dict.fromkeys(names))

    @property
    def needs_targets(self) -> bool:
        return self.factory.needs_targets

    def constraints(self, batch: Batch) -> Iterator[Constraint]:
        try:
            yield from self._constraints(batch)
        except (TypeError, AttributeError) as error:
            explained = misuse(error, self.name)
            if explained is None:
                raise
            raise explained from error

    def _constraints(self, batch: Batch) -> Iterator[Constraint]:
        produced = self.factory.function(batch, **self._arguments)
        if isinstance(produced, Constraint):
            produced = (produced,)
        if produced is None or not hasattr(produced, "__iter__"):
            raise InputError(f"the notion {self.name} returned {produced!r}; it must yield constraints such as abs(f) <= tolerance")
        words = ", ".join(attribute_words(a) for a in self._attribute_values())
        for item in produced:
            if not isinstance(item, Constraint):
                raise InputError(f"the notion {self.name} yielded {item!r}; it must yield constraints such as abs(f) <= tolerance")
            yield item if item.attribute else item.tagged(words, item.given)

    def _attribute_values(self) -> list[Attribute]:
        return [v for k, v in self._arguments.items() if k.startswith("attribute") and v is not None]

    def __reduce__(self) -> tuple[Any, ...]:
        module, qualname = self.factory.function.__module__, self.factory.function.__qualname__
        try:
            found = _resolve(module, qualname)
        except (ImportError, AttributeError):
            found = None
        if found is not self.factory:
            raise pickle.PicklingError(f"the notion {self.name} cannot be pickled: no module has it as {module}.{qualname}; move it to one")
        return _rebuild, (module, qualname, self._arguments)

    def __deepcopy__(self, memo: dict[int, Any]) -> DecoratedNotion:
        return DecoratedNotion(self.factory, copy.deepcopy(self._arguments, memo))


@overload
def notion(function: Generator) -> NotionFactory: ...
@overload
def notion(*, needs_targets: bool | None = None) -> Callable[[Generator], NotionFactory]: ...
def notion(function: Generator | None = None, *, needs_targets: bool | None = None) -> NotionFactory | Callable[[Generator], NotionFactory]:
    """Turn a generator of constraints into a notion. See the module's docstring.

    needs_targets   None: whether the function's code names ``targets``; say so where it reads them in some other way

    Examples:
        >>> @fo.notion
        ... def at_most(batch, attribute, limit):
        ...     for group in batch.groups(attribute):
        ...         yield batch.mean(group) <= limit
        >>> fo.project(torch.tensor([0.2, 0.6]), at_most("sex", limit=0.5), sensitive_features=["f", "m"])
        tensor([0.2000, 0.5000])
    """
    if function is None:
        return lambda f: NotionFactory(f, needs_targets)
    return NotionFactory(function)


def _checked(name: str, value: Any, notion_name: str) -> Any:
    """One argument of a decorated notion, attributes in normal form."""
    if name.startswith("attribute") and value is not None:
        return normal_attribute(value)
    if name.startswith("tolerance") and value is not None:
        check_at_least(value, 0.0, f"{name} of {notion_name}")
    return value


def _names_targets(code: CodeType) -> bool:
    return "targets" in code.co_names or any(_names_targets(c) for c in code.co_consts if isinstance(c, CodeType))


def _resolve(module: str, qualname: str) -> Any:
    found: Any = importlib.import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


def _rebuild(module: str, qualname: str, arguments: dict[str, Any]) -> DecoratedNotion:
    factory = _resolve(module, qualname)
    if not isinstance(factory, NotionFactory):
        raise pickle.UnpicklingError(f"{module}.{qualname} is no decorated notion any more")
    return DecoratedNotion(factory, arguments)
