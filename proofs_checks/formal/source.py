"""Reading our Coq files: the theorems with the hypotheses, variables and definitions of the sections around them. Needs no Coq."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
COMMENT = re.compile(r"\(\*.*?\*\)", re.DOTALL)
SENTENCE = re.compile(r"\S.*?\.(?=\s|\Z)", re.DOTALL)
PROVED = ("Theorem", "Lemma", "Corollary")


@dataclass(frozen=True)
class Theorem:
    """What Coq is told: ``statement`` in the words of the file, and what the sections around it assume and define."""

    name: str
    statement: str
    hypotheses: dict[str, str]
    context: tuple[str, ...]


@dataclass
class _Section:
    name: str
    hypotheses: dict[str, str] = field(default_factory=dict)
    context: list[str] = field(default_factory=list)


def order() -> list[str]:
    """The files, each after those that it requires."""
    needs = {f.stem: set(_required(f.read_text(encoding="utf-8"))) for f in sorted(FOLDER.glob("*.v"))}
    out: list[str] = []
    while len(out) < len(needs):
        ready = [name for name, wanted in needs.items() if name not in out and wanted <= set(out)]
        if not ready:
            raise RuntimeError(f"these Coq files require each other or a file that is not there: {sorted(set(needs) - set(out))}")
        out += ready
    return out


def _required(text: str) -> list[str]:
    return [name for line in re.findall(r"From Fairopt Require Import ([^.]*)\.", text) for name in line.split()]


@cache
def theorems(file: str) -> dict[str, Theorem]:
    """The theorems of ``FOLDER / (file + ".v")``; lemmas are steps of theirs and are not listed."""
    stack: list[_Section] = []
    found: dict[str, Theorem] = {}
    for sentence in _sentences(COMMENT.sub("", (FOLDER / f"{file}.v").read_text(encoding="utf-8"))):
        kind, _, rest = sentence.partition(" ")
        if kind == "Section":
            stack.append(_Section(rest.rstrip(".")))
        elif kind == "End":
            if not stack or stack.pop().name != rest.rstrip("."):
                raise RuntimeError(f"{file}.v: {sentence} closes another section")
        elif kind in ("Hypothesis", "Hypotheses"):
            name, _, text = rest.partition(":")
            stack[-1].hypotheses[name.strip()] = text.strip().rstrip(".")
        elif kind in ("Variable", "Variables", "Definition", "Fixpoint") and stack:
            stack[-1].context.append(sentence)
        elif kind == "Theorem":
            name = re.split(r"[\s:]", rest, maxsplit=1)[0]
            hypotheses = {k: v for s in stack for k, v in s.hypotheses.items()}
            found[name] = Theorem(name, sentence, hypotheses, tuple(c for s in stack for c in s.context))
    return found


def _sentences(text: str) -> Iterator[str]:
    """The sentences outside proofs, blanks inside them folded at the line ends alone."""
    inside = False
    for match in SENTENCE.finditer(text):
        sentence = "\n".join(line.rstrip() for line in match.group().splitlines())
        word = sentence.split(maxsplit=1)[0].rstrip(".")
        if word == "Proof":
            inside = True
        if not inside:
            yield sentence
        if word in ("Qed", "Defined") or sentence.endswith((" Qed.", "\nQed.")):
            inside = False
        if word in ("Admitted", "Abort", "Axiom", "Parameter", "Conjecture"):
            raise RuntimeError(f"{sentence}: nothing may be left unproved")
