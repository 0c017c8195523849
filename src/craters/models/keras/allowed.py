"""The allow-list of Keras layers and of their settings."""

from __future__ import annotations

import dataclasses
import reprlib
from collections.abc import Callable
from functools import partial
from typing import Any

from craters.models.keras.layers import ACTIVATIONS, as_pair, flat_numbers, is_number

# Layers that pass on their input when predicting. Those of their class that do not, such as
# RandomCrop, are absent.
TRAINING_ONLY = (
    "Dropout", "SpatialDropout2D", "AlphaDropout", "GaussianNoise", "GaussianDropout",
    "ActivityRegularization", "RandomBrightness", "RandomContrast", "RandomElasticTransform",
    "RandomErasing", "RandomFlip", "RandomGaussianBlur", "RandomHeight", "RandomInvert",
    "RandomPerspective", "RandomPosterization", "RandomRotation", "RandomSharpness", "RandomShear",
    "RandomTranslation", "RandomWidth", "RandomZoom",
)  # fmt: skip

_LARGEST_SIZE = 1 << 16


def read_settings(kind: str, config: dict[str, Any]) -> dict[str, Any]:
    """Check the settings of a layer that affect its computation, and leave out all others.

    Parameters
    ----------
    kind : str
        Class name in Keras.
    config : dict
        Settings in the file.

    Raises
    ------
    ValueError
        If the class is not on the allow-list, or a setting has a value that is not allowed. The
        message follows the name of the layer.
    """
    if kind in TRAINING_ONLY:
        return {}
    if kind not in _LAYERS:
        reason = "holds code" if kind == "Lambda" else "is of a class that is not read here"
        raise ValueError(f"{reason} and is refused")
    settings = {}
    for key, setting in _LAYERS[kind].items():
        value = config.get(key)
        value = setting.default if value is None else value
        if not setting.fits(value):
            raise ValueError(f"has {key} {reprlib.repr(value)}, expected {setting.expected}")
        settings[key] = value
    return settings


@dataclasses.dataclass(frozen=True)
class _Setting:
    """The allowed values of a setting, in words and as a test, and its default."""

    expected: str
    fits: Callable[[Any], bool]
    default: Any = None


def _is_size(value: Any, least: int = 1) -> bool:
    return type(value) is int and least <= value <= _LARGEST_SIZE


def _is_pair(value: Any, least: int = 1) -> bool:
    return len(as_pair(value)) == 2 and all(_is_size(size, least) for size in as_pair(value))


def _are_sides(value: Any) -> bool:
    return len(as_pair(value)) == 2 and all(_is_pair(pair, least=0) for pair in as_pair(value))


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


_size = partial(_Setting, "a whole number", _is_size)
_pair = partial(_Setting, "two whole numbers", _is_pair)
_number = partial(_Setting, "a number", is_number)
_flag = partial(_Setting, "true or false", _is_flag)
_numbers = partial(_Setting, "numbers", lambda value: flat_numbers(value) is not None)


def _one_of(*values: Any) -> _Setting:
    """Allow these values; the first is the default."""
    words = " or ".join(map(str, values))
    return _Setting(words, lambda value: value in values and not _is_flag(value), values[0])


def _or_none(setting: _Setting) -> _Setting:
    return _Setting(setting.expected, lambda value: value is None or setting.fits(value))


_MAPS = {"data_format": _one_of("channels_last")}
_NAMED = _Setting(
    f"one of {', '.join(ACTIVATIONS)}; code of its own is refused",
    lambda value: value in ACTIVATIONS,
    default="linear",
)
_UNITS = {"activation": _NAMED, "use_bias": _flag(True)}
_WINDOWS = _MAPS | {"padding": _one_of("valid", "same")}
_CONV = _WINDOWS | _UNITS | {"kernel_size": _pair(), "strides": _pair(1), "dilation_rate": _pair(1)}
_POOL = _WINDOWS | {"pool_size": _pair(2), "strides": _or_none(_pair())}
_GLOBAL_POOL = _MAPS | {"keepdims": _flag(False)}
_PLAIN = {"quantization_config": _one_of(None), "lora_rank": _one_of(None)}
_NORM = {
    "axis": _one_of(-1, 1, 3, [-1], [1], [3]),
    "epsilon": _number(1e-3),
    "center": _flag(True),
    "scale": _flag(True),
}
_RELU = {
    "max_value": _one_of(None, 6),
    "negative_slope": _number(0),
    "threshold": _one_of(0),
}

# All other classes are refused, except `TRAINING_ONLY` and the input layer.
_LAYERS: dict[str, dict[str, _Setting]] = {
    "Conv2D": _CONV | {"filters": _size(), "groups": _size(1)},
    "DepthwiseConv2D": _CONV | {"depth_multiplier": _size(1)},
    "Dense": _UNITS | _PLAIN | {"units": _size()},
    "BatchNormalization": _NORM,
    "MaxPooling2D": _POOL,
    "AveragePooling2D": _POOL,
    "GlobalMaxPooling2D": _GLOBAL_POOL,
    "GlobalAveragePooling2D": _GLOBAL_POOL,
    "Flatten": _MAPS,
    "Rescaling": {"scale": _number(), "offset": _number(0)},
    "Normalization": {
        "axis": _one_of(-1, 1, 3, [-1], [1], [3], []),  # []: one mean of all channels
        "mean": _or_none(_numbers()),
        "variance": _or_none(_numbers()),
        "invert": _flag(False),
    },
    "ZeroPadding2D": _MAPS | {"padding": _Setting("whole numbers", _are_sides, 1)},
    "Activation": {"activation": _NAMED},
    "ReLU": _RELU,
    # `negative_slope` in Keras 3, `alpha` in Keras 2.
    "LeakyReLU": {"negative_slope": _or_none(_number()), "alpha": _number(0.3)},
    "ELU": {"activation": _one_of("elu"), "alpha": _one_of(1)},
    "Softmax": {"activation": _one_of("softmax"), "axis": _one_of(-1, [-1])},
}
