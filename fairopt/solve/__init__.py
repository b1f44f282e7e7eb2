"""The front door: dtype, device, shape, backend, polish, repair, certificate and gradient around any backend."""

from fairopt.solve.certificate import Certificate, Solution
from fairopt.solve.front import solve, solve_batch

__all__ = ["Certificate", "Solution", "solve", "solve_batch"]
