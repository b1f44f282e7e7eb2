"""The backend contract and the registry."""

from fairopt.contract.backend import ALL_SOFTNESS, Backend, Capabilities, RawSolution, Status
from fairopt.contract.registry import BackendLike, backend, installed, resolve

__all__ = ["ALL_SOFTNESS", "Backend", "BackendLike", "Capabilities", "RawSolution", "Status", "backend", "installed", "resolve"]
