"""The kit passes a right backend, and each planted wrong one fails by the name of the property that it breaks."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from fairopt.basics.errors import ConformanceError, InputError
from fairopt.testing import BACKEND_PROPERTIES, check_backend

_spec = importlib.util.spec_from_file_location("planted_backends", Path(__file__).with_name("planted.py"))
assert _spec is not None
assert _spec.loader is not None
planted: Any = importlib.util.module_from_spec(_spec)
sys.modules["planted_backends"] = planted
_spec.loader.exec_module(planted)


def test_a_right_backend_passes() -> None:
    check_backend(planted.Honest, draws=12)


@pytest.mark.parametrize("wrong", planted.WRONG, ids=lambda kind: kind.__name__)
def test_a_wrong_backend_fails_by_name(wrong: Any) -> None:
    with pytest.raises(ConformanceError) as caught:
        check_backend(wrong(), draws=12)
    assert caught.value.property == wrong.expected, str(caught.value)
    assert wrong.expected in BACKEND_PROPERTIES
    assert "draw(" in str(caught.value) or wrong.expected in ("unknown_options", "capabilities")


def test_every_property_can_be_asked_for_alone() -> None:
    for name in BACKEND_PROPERTIES:
        check_backend(planted.Honest, draws=4, properties=[name])


def test_wrong_arguments() -> None:
    with pytest.raises(InputError, match="properties"):
        check_backend(planted.Honest, properties=["no such property"])
    with pytest.raises(InputError, match="draws"):
        check_backend(planted.Honest, draws=0)
