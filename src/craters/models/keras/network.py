"""Build a torch network from a chain of Keras layers, for patches and, if exact, whole images."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from craters.errors import ModelError
from craters.models.keras.layers import (
    ACTIVATION_LAYERS,
    TRAINING_ONLY,
    KerasLayer,
    Maps,
    Step,
    make_step,
)
from craters.models.networks import Network

_MOST_VALUES = 1 << 27  # in the feature maps of a patch


class KerasNet(Network):
    """A network read from a Keras file; `build_keras_network` creates it.

    Attributes
    ----------
    why_not_dense : str
        Why it has no `stride`; empty if it has one.
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
        """Map (N, H, W) to a logit for every window, if the layers allow it."""
        if self.stride is None:
            return super().forward_map(images)
        rows, columns = ((size - self.side) // self.stride + 1 for size in images.shape[1:])
        return self._logits(images)[:, :rows, :columns]

    def _logits(self, images: Tensor) -> Tensor:
        """Compute one logit from the input of the last sigmoid or softmax."""
        maps = images.unsqueeze(1) * self.brightest
        for step in self.steps:
            maps = step(maps)
        return self.sign * (maps[:, 0] if maps.shape[1] == 1 else maps[:, 1] - maps[:, 0])


def build_keras_network(
    layers: Sequence[KerasLayer], side: int, *, brightest: float = 1.0, crater_class: int = 1
) -> KerasNet:
    """Build the network of a chain of Keras layers.

    Parameters
    ----------
    layers : sequence of KerasLayer
        The last must be a sigmoid of one unit, or a softmax of two.
    side : int
        Height and width of a patch in pixels.
    brightest : float
        Input value of white.
    crater_class : {0, 1}
        The class that means "with crater". A sigmoid gives the probability of class 1.

    Returns
    -------
    KerasNet
        In evaluation mode. It has a `stride` if it can be evaluated on whole images exactly, else
        `why_not_dense` states the reason.

    Raises
    ------
    ModelError
        If a layer cannot take the output of the one before it, or the last one does not return a
        probability.
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
    """Return the layers before the last sigmoid or softmax, and the name of the latter.

    Activations inside other layers become layers of their own.
    """
    body = []
    for layer in layers:
        if layer.kind in TRAINING_ONLY:
            continue
        body.append(layer)
        inner = layer.settings.get("activation", "linear")
        if layer.kind not in ACTIVATION_LAYERS and inner != "linear":
            body.append(KerasLayer("Activation", layer.name, {"activation": inner}))
    while body and body[-1].kind == "Activation" and body[-1].settings["activation"] == "linear":
        body.pop()
    last = body.pop().settings.get("activation") if body else None
    if last not in ("sigmoid", "softmax"):
        raise ModelError(
            "the model does not end in a sigmoid or a softmax, so its output is no probability",
            "Add keras.layers.Activation('sigmoid') (one unit) or 'softmax' (two) and save again.",
        )
    return body, last
