"""PyTorch's transforms that the projection does not know yet: refused with a word, never answered with zeros.

A solve leaves PyTorch for numpy, so that forward mode finds no tangent behind it and a batched tensor has no storage. What works is
``backward``: gradients of any order, ``torch.autograd.grad``, ``jacobian`` and ``hessian`` in reverse mode without ``vectorize``.
"""

from __future__ import annotations

from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor as _wrapped
from torch._C._functorch import is_legacy_batchedtensor as _batched
from torch.autograd import forward_ad

from fairopt.basics.errors import UnsupportedError

_INSTEAD = (
    "use reverse mode: backward(), torch.autograd.grad, or torch.autograd.functional.jacobian and hessian without vectorize; "
    "Prepared.project_batch projects (B, n) scores"
)


def refuse_transforms(tensor: Tensor, where: str = "scores") -> None:
    """UnsupportedError for a tensor inside forward mode (a dual number), or inside torch.func (vmap, grad, jvp, jacrev, jacfwd)."""
    if _wrapped(tensor) or _batched(tensor):
        words = "a tensor inside torch.func or vmap (jacobian's vectorize=True too), which is not supported"
        raise UnsupportedError(f"{where}: {words}; {_INSTEAD}")
    if forward_ad._current_level >= 0 and forward_ad.unpack_dual(tensor).tangent is not None:  # type: ignore[no-untyped-call]
        raise UnsupportedError(f"{where}: a tensor with a tangent; forward-mode derivatives are not supported; {_INSTEAD}")
