"""Every public name says what it is, a callable what its arguments are, and InputError where it raises one; and each has an example, which
is run as a doctest. The reference is made of it.

An argument is said where its name stands in the docstring, in that of a base class, or in that of a public name that the docstring refers
to: "as in ``compile``", "see ``Prepared.project``", "those of ``FairClassifier``".
"""

from __future__ import annotations

import ast
import doctest
import enum
import inspect
import re
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fairopt

MODULES = ("fairopt", *(f"fairopt.{room}" for room in ("notions", "streaming", "auditing", "testing", "training", "race")))
REFERS = re.compile(r"(?:as in|see|those of|as) ``([\w.]+)``(?:(?: and|,(?: \w+ and \w+ as in)?) ``([\w.]+)``)?")


def _public() -> dict[str, Any]:
    """``module.name`` -> what it is, once each."""
    found: dict[int, tuple[str, Any]] = {}
    for module in MODULES:
        for name in import_module(module).__all__:
            value = getattr(import_module(module), name)
            if inspect.isclass(value) or inspect.isroutine(value):
                found.setdefault(id(value), (f"{module}.{name}", value))
    return dict(found.values())


PUBLIC = _public()
BY_NAME = {name.rpartition(".")[2]: value for name, value in PUBLIC.items()}


def _own_text(value: Any) -> str:
    """Docstrings of a function, or of a class, its constructor and its bases inside fairopt."""
    if not inspect.isclass(value):
        return _prose(value)
    bases = [base for base in value.__mro__ if base.__module__.startswith("fairopt")]
    return "\n".join(f"{_prose(base)}\n{_prose(base.__dict__.get('__init__'))}" for base in bases)


def _prose(value: Any) -> str:
    """The docstring up to its example: what an example uses is not said by that."""
    return inspect.cleandoc(value.__doc__ or "").partition("Examples:\n")[0]


def text_of(value: Any, known: dict[str, Any], depth: int = 2) -> str:
    """What is said of ``value``, where it says it and where it refers to."""
    text = _own_text(value)
    if depth:
        for path in (name for pair in REFERS.findall(text) for name in pair if name):
            head, _, rest = path.partition(".")
            told = known.get(head)
            told = getattr(told, rest, None) if rest and told is not None else told
            if told is not None and told is not value:
                text += "\n" + text_of(told, known, depth - 1)
    return text


def unsaid(value: Any, known: dict[str, Any]) -> list[str]:
    """The arguments of ``value`` that no text names."""
    if inspect.isclass(value) and (issubclass(value, enum.Enum | BaseException) or getattr(value, "_is_protocol", False)):
        return []  # nobody calls an enumeration or a protocol; what an error is made of is ours
    text = text_of(value, known)
    names = [name for name in inspect.signature(value).parameters if not name.startswith("_")]
    return [name for name in names if not re.search(rf"\b{re.escape(name)}\b", text)]


def raises_input_error(function: Callable[..., Any]) -> bool:
    """Whether its own code holds a ``raise InputError``."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except OSError:  # made by dataclass
        return False
    raised = [node.exc for node in ast.walk(tree) if isinstance(node, ast.Raise)]
    return any(isinstance(exc, ast.Call) and isinstance(exc.func, ast.Name) and exc.func.id == "InputError" for exc in raised)


def _members(value: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that the class itself defines."""
    for name, member in vars(value).items():
        plain = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if not name.startswith("_") and (inspect.isfunction(plain) or isinstance(plain, property)) and not _foreign(plain):
            yield name, plain


def _foreign(member: Any) -> bool:
    return not getattr(member.fget if isinstance(member, property) else member, "__module__", "").startswith("fairopt")


def silent(value: Any) -> list[str]:
    """What is wrong with the docstrings of ``value`` and its methods, apart from arguments."""
    found = [] if _prose(value).strip() else ["says nothing"]
    if not inspect.isclass(value):
        return found + (["raises InputError unsaid"] if raises_input_error(value) and "InputError" not in _prose(value) else [])
    text = _own_text(value)
    makers = [value.__dict__[name] for name in ("__init__", "__post_init__") if name in value.__dict__]
    if any(map(raises_input_error, makers)) and "InputError" not in text:
        found.append("raises InputError unsaid")
    for name, member in _members(value):
        said = inspect.getdoc(getattr(value, name)) or ""
        if not said.strip():
            found.append(f"{name} says nothing")
        elif not isinstance(member, property) and raises_input_error(member) and "InputError" not in said:
            found.append(f"{name} raises InputError unsaid")
    return found


def wrong_examples(value: Any) -> str:
    """What its examples print that they do not say; "no example" where there is none. The reference says which imports they begin with."""
    names = {"fo": fairopt, "np": np, "torch": torch}
    found = doctest.DocTestParser().get_doctest(value.__doc__ or "", names, value.__qualname__, None, None)
    told: list[str] = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        doctest.DocTestRunner(verbose=False).run(found, out=told.append)
    return "".join(told) if found.examples else "no example"


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_an_example_and_it_prints_what_it_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert wrong_examples(PUBLIC[name]) == ""


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_says_what_it_is_and_what_it_refuses(name: str) -> None:
    assert silent(PUBLIC[name]) == []


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_callable_says_its_arguments(name: str) -> None:
    assert unsaid(PUBLIC[name], BY_NAME) == []


def test_the_check_is_awake() -> None:
    def whole(scores: Any, bounds: Any) -> None:
        """``scores`` (n,) inside ``bounds``."""

    def partial(scores: Any, tolerance: Any) -> None:
        """``scores`` (n,); other arguments as in ``whole``.

        Examples:
            >>> partial(scores=1, tolerance=2)
            InputError
        """
        raise InputError("tolerance: none")

    def shown() -> None:
        """Nothing.

        Examples:
            >>> 1 + 1
            2
        """

    class Silent:
        def act(self) -> None: ...

    class InputError(Exception): ...

    Silent.act.__module__ = "fairopt.somewhere"
    assert unsaid(whole, {}) == []
    assert unsaid(partial, {"whole": whole}) == ["tolerance"]
    assert silent(partial) == ["raises InputError unsaid"]
    assert silent(Silent) == ["says nothing", "act says nothing"]
    assert wrong_examples(whole) == "no example"
    assert "NameError" in wrong_examples(partial)
    assert wrong_examples(shown) == ""
