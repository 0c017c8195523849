"""A chain of Keras layers as a torch network: logits of patches, and of images where it can."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from craters.errors import ModelError
from craters.models.keras.layers import (
    TRAINING_ONLY,
    KerasLayer,
    Maps,
    Step,
    activation_of,
    make_step,
)
from craters.models.networks import Network

_MOST_VALUES = 1 << 27  # of a patch, between two layers


class KerasNet(Network):
    """A network that was read from a Keras file; `build_keras_network` makes it.

    Attributes
    ----------
    why_not_dense : str
        Why it has no `stride`; empty where it has one.
    """

    name = "keras"

    def __init__(
        self, steps: Sequence[Step], side: int, after: Maps, brightest: float, sign: float
    ) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.side, self.brightest, self.sign = side, brightest, sign
        self.why_not_dense = after.why_not
        self.stride = None if after.why_not else after.stride

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, S, S) brightness 0..1 to (N,) logits of "with crater"."""
        return self._logits(images)[:, 0, 0]

    def forward_map(self, images: Tensor) -> Tensor:
        """Map (N, H, W) to a logit for every window, where the layers allow it."""
        if self.stride is None:
            return super().forward_map(images)
        rows, columns = ((size - self.side) // self.stride + 1 for size in images.shape[1:])
        return self._logits(images)[:, :rows, :columns]

    def _logits(self, images: Tensor) -> Tensor:
        """Turn what goes into the last sigmoid or softmax into one logit."""
        maps = images.unsqueeze(1) * self.brightest
        for step in self.steps:
            maps = step(maps)
        return self.sign * (maps[:, 0] if maps.shape[1] == 1 else maps[:, 1] - maps[:, 0])


def build_keras_network(
    layers: Sequence[KerasLayer], side: int, *, brightest: float = 1.0, crater_class: int = 1
) -> KerasNet:
    """Make the network of a chain of Keras layers.

    Parameters
    ----------
    layers : sequence of KerasLayer
        They must end in a sigmoid of one unit, or a softmax of two.
    side : int
        Height and width of a patch in pixels.
    brightest : float
        What the layers take for white.
    crater_class : {0, 1}
        Which class of a softmax means "with crater"; of a sigmoid, what its 1 means.

    Returns
    -------
    KerasNet
        In evaluation mode. It has a `stride` where whole images can be mapped exactly, and says
        `why_not_dense` elsewhere.

    Raises
    ------
    ModelError
        When a layer cannot follow the one before it, or the last one gives no probability.
    """
    body, last = _split_end(layers)
    maps, steps = Maps(side, side, 1), []
    for layer in body:
        steps.append(make_step(layer, maps))
        maps = steps[-1].after
        if math.prod(maps.shape) > _MOST_VALUES:
            raise layer.refusal(f"makes maps of shape {maps.shape}, too large for one patch")
    units = maps.channels
    if maps.rows * maps.cols != 1 or units != (1 if last == "sigmoid" else 2):
        raise ModelError(
            f"the model ends in a {last} of {math.prod(maps.shape)} values, expected a sigmoid of "
            "one or a softmax of two",
            "It must say of a patch whether it is with or without a crater.",
        )
    return KerasNet(steps, side, maps, brightest, 1.0 if crater_class == 1 else -1.0).eval()


def _split_end(layers: Sequence[KerasLayer]) -> tuple[list[KerasLayer], str]:
    """Take the last sigmoid or softmax off the layers that compute."""
    body = []
    for layer in layers:
        if layer.kind in TRAINING_ONLY:
            continue
        body.append(layer)
        inner = layer.settings.get("activation", "linear")
        if layer.kind != "Activation" and inner != "linear":
            body.append(KerasLayer("Activation", layer.name, {"activation": inner}))
    while body and activation_of(body[-1]) == "linear":
        body.pop()
    last = activation_of(body.pop()) if body else None
    if last not in ("sigmoid", "softmax"):
        raise ModelError(
            "the model does not end in a sigmoid or a softmax, so its output is no probability",
            "Add keras.layers.Activation('sigmoid') (one unit) or 'softmax' (two) and save again.",
        )
    return body, last
