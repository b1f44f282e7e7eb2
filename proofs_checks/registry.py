"""All claims, in the order of their names: every module of ``proofs_checks.claims`` lists its own in ``CLAIMS``."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

import proofs_checks.claims as package
from proofs_checks.claim import Claim

FAMILIES = "LBSPQN"


@cache
def all_claims() -> tuple[Claim, ...]:
    found = [claim for module in pkgutil.iter_modules(package.__path__) for claim in _claims_of(module.name)]
    names = [c.name for c in found]
    if len(set(names)) != len(names):
        raise RuntimeError(f"two claims of one name among {sorted(names)}")
    return tuple(sorted(found, key=lambda c: (FAMILIES.index(c.name[0]), int(c.name[1:]))))


def _claims_of(module: str) -> tuple[Claim, ...]:
    return tuple(importlib.import_module(f"{package.__name__}.{module}").CLAIMS)


def claim_named(name: str) -> Claim:
    for claim in all_claims():
        if claim.name == name.upper():
            return claim
    raise KeyError(f"no claim {name!r}; there are {', '.join(c.name for c in all_claims())}")
