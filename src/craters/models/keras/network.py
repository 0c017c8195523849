"""Build a torch network from a chain of Keras layers, for patches and, if exact, whole images."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from craters.errors import ModelError
from craters.models.input_range import InputScale, white_of_range, white_of_standardization
from craters.models.keras.allowed import TRAINING_ONLY
from craters.models.keras.layers import (
    ACTIVATION_LAYERS,
    KerasLayer,
    Maps,
    Step,
    make_step,
    statistics,
)
from craters.models.keras.reader import KerasModel
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
        self, steps: Sequence[Step], side: int, after: Maps, scale: InputScale, sign: float
    ) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.side, self.scale, self.sign = side, scale, sign
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
        maps = images.unsqueeze(1) * self.scale.brightest
        if self.scale.is_standardized:
            maps = (maps - self.scale.mean) / self.scale.std
        for step in self.steps:
            maps = step(maps)
        return self.sign * (maps[:, 0] if maps.shape[1] == 1 else maps[:, 1] - maps[:, 0])


def build_keras_network(
    layers: Sequence[KerasLayer],
    side: int,
    *,
    scale: InputScale | None = None,
    crater_class: int = 1,
) -> KerasNet:
    """Build the network of a chain of Keras layers.

    Parameters
    ----------
    layers : sequence of KerasLayer
        The last must be a sigmoid of one unit, or a softmax of two.
    side : int
        Height and width of a patch in pixels.
    scale : InputScale, optional
        What the first layer takes. [brightness 0..1]
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
    sign = 1.0 if crater_class == 1 else -1.0
    return KerasNet(steps, side, maps, scale or InputScale(), sign).eval()


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


def find_brightest(model: KerasModel) -> int | None:
    """Return the input value of white if the first layers of a model define it, else None."""
    if model.is_export:
        return 1
    scale, offset = 1.0, 0.0
    for layer in model.layers:
        if layer.kind in TRAINING_ONLY:
            continue
        step = _linear_step(layer)
        if step is None:
            break
        scale, offset = scale * step[0], offset * step[0] + step[1]
        if layer.kind in ("BatchNormalization", "Normalization"):
            break
        if (white := white_of_range(scale, offset)) is not None:
            return white
    return white_of_standardization(scale, offset)


def _linear_step(layer: KerasLayer) -> tuple[float, float] | None:
    """Return factor and summand of a layer that scales or standardizes one channel, else None."""
    if layer.kind == "Rescaling":
        return float(layer.settings["scale"]), float(layer.settings["offset"])
    if layer.kind == "Normalization" and not layer.settings["invert"]:
        means, deviations = statistics(layer)
        if means.size == deviations.size == 1:
            return 1 / float(deviations[0]), -float(means[0] / deviations[0])
    if layer.kind == "BatchNormalization" and all(array.size == 1 for array in layer.weights):
        mean, variance = (float(array.item()) for array in layer.weights[-2:])
        deviation = max(variance + layer.settings["epsilon"], 1e-12) ** 0.5  # of training pixels
        return 1 / deviation, -mean / deviation
    return None
