"""``FairModel``: a network and its fairness layer as one module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from fairopt.basics.errors import InputError
from fairopt.layer.fairness_layer import FairnessLayer


class FairModel(nn.Module):
    """A network and its fairness layer: ``model(x, sensitive_features=...)`` gives fair scores.

    ``with_distance`` also gives the mean squared move, to be added to the loss. InputError where ``network`` is no module or ``layer`` no
    fairness layer.

    Examples:
        >>> network = torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.Flatten(0))
        >>> model = fo.FairModel(network, fo.FairnessLayer(fo.DemographicParity("sex", tolerance=0), bounds=(0, 1), space="probability"))
        >>> fair = model(torch.randn(4, 3), sensitive_features={"sex": [0, 0, 1, 1]})
        >>> abs(fair[:2].mean() - fair[2:].mean()).item() < 1e-6
        True
    """

    def __init__(self, network: nn.Module, layer: FairnessLayer) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise InputError(f"network: got {type(network).__name__}, expected a torch.nn.Module")
        if not isinstance(layer, FairnessLayer):
            raise InputError(f"layer: got {type(layer).__name__}, expected a FairnessLayer")
        self.network = network
        self.layer = layer

    def forward(self, x: Any, *, sensitive_features: Any, targets: Any = None) -> Tensor:
        """``x`` goes to the network, whose output (n,) or (n, 1) goes to the layer."""
        return self.layer(self.network(x), sensitive_features=sensitive_features, targets=targets)  # type: ignore[no-any-return]

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As in torch; with ``strict``, a state of another layer is an InputError that names what differs, and changes nothing."""
        if strict:
            self.layer.check_state(state_dict, "layer.")
        return super().load_state_dict(state_dict, strict, assign)

    def with_distance(self, x: Any, *, sensitive_features: Any, targets: Any = None) -> tuple[Tensor, Tensor]:
        """Fair scores and mean (y - z)^2, a scalar to be added to the loss with a weight mu.

        A loss on clamped scores is flat: at a wrongly clamped sample its gradient is 0. This term's gradient reaches them (DESIGN 7).
        """
        z = self.network(x)
        y = self.layer(z, sensitive_features=sensitive_features, targets=targets)
        return y, ((y - self.layer.probabilities(z)) ** 2).mean()
