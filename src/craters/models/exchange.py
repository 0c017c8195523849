"""Import Keras and ONNX models, and export model folders to those formats."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from craters._version import __version__
from craters.core import StrPath, files
from craters.errors import ConfigError, ModelError
from craters.models.classifier import (
    Classifier,
    read_description,
    read_graph,
    read_weights,
    write_model,
)
from craters.models.description import ModelDescription
from craters.models.input_range import (
    WHITES,
    InputScale,
    record_of_white,
    white_of_standardization,
)
from craters.models.keras.network import KerasNet, build_keras_network, find_brightest
from craters.models.keras.reader import KerasModel, read_keras
from craters.models.keras.writer import write_keras_h5, write_keras_zip
from craters.models.networks import OriginalNet
from craters.models.onnx import network_to_onnx, network_weights, onnx_weights, read_onnx, wrap_onnx
from craters.models.predictions import constant_output

FORMATS = ("h5", "keras", "onnx")
SIDES = (8, 1024)  # pixels
OUTPUTS = ("logit", "probability")

_NO_KERAS = {
    "compact": "it pools by weights that depend on the image, for which Keras has no layer",
    "dense": "it pools by weights that depend on the image, for which Keras has no layer",
    "keras": "it was read from a Keras file, which you already have",
    "onnx": "it was read from an ONNX file",
}


@dataclasses.dataclass(frozen=True)
class ImportOptions:
    """Properties of an imported model that its file may leave open.

    Parameters
    ----------
    side : int or None
        Height and width of a patch in pixels, if the file does not fix them.
    brightest : {1, 255, 65535} or None
        Input value of white. None: as in the file, if the first layers scale or standardize the
        input in a way that leaves one choice.
    crater_class : {0, 1}
        The output that means "with crater".
    resolution : float or None
        Resolution of its training patches in m/px.
    decision_threshold : float
    output : {"logit", "probability"} or None
        Kind of output. None: as the file's last sigmoid or softmax implies.
    mean, std : float or None
        The pixels were standardized before they were given to the model, as (pixel - mean) / std,
        both in the scale of `brightest`, which follows from them if it is None. Not what layers of
        the file do. None: they were not.
    """

    side: int | None = None
    brightest: int | None = None
    crater_class: int = 1
    resolution: float | None = None
    decision_threshold: float = 0.5
    output: str | None = None
    mean: float | None = None
    std: float | None = None

    def __post_init__(self) -> None:
        if self.brightest not in (None, *WHITES):
            raise ConfigError(f"brightest is {self.brightest}, expected 1, 255 or 65535")
        if self.crater_class not in (0, 1):
            raise ConfigError(f"crater class is {self.crater_class}, expected 0 or 1")
        if self.side is not None and not SIDES[0] <= self.side <= SIDES[1]:
            raise ConfigError(f"side is {self.side}, expected {SIDES[0]} to {SIDES[1]} pixels")
        if self.output not in (None, *OUTPUTS):
            raise ConfigError(f"output is {self.output!r}, expected {' or '.join(OUTPUTS)}")
        self._check_standardization()

    def _check_standardization(self) -> None:
        if self.mean is None and self.std is None:
            return
        if self.mean is None or self.std is None:
            known, absent = ("std", "mean") if self.mean is None else ("mean", "std")
            raise ConfigError(
                f"{known} is given without {absent}",
                "Give both --mean and --std, as computed from the training pixels.",
            )
        largest = self.brightest or max(WHITES)
        if not 0 <= self.mean <= largest:
            raise ConfigError(
                f"mean is {self.mean:g}, expected 0 to {largest}, the value of white",
                "Give it in the scale of the pixels before they were standardized.",
            )
        if not 0 < self.std <= largest:
            raise ConfigError(
                f"std is {self.std:g}, expected more than 0, and at most {largest}, the value of "
                "white",
                "Give it in the scale of the pixels before they were standardized.",
            )

    def scale(self, white: int) -> InputScale:
        """Return what the model takes, with a value of white."""
        if self.mean is None or self.std is None:
            return InputScale(white)
        return InputScale(white, self.mean, self.std)


@dataclasses.dataclass(frozen=True)
class Imported:
    """An imported model: its folder and its main properties.

    Parameters
    ----------
    folder : Path
    side : int
    brightest : int
    stride : int or None
        Step in pixels, if images are scanned in one pass.
    why_not_dense : str
        Why they are not scanned in one pass; else empty.
    layers : int
        Number of layers, or of operators in an ONNX file.
    keras_version : str or None
        None for an ONNX file.
    layout : str
        Shape of the file's input.
    output : {"logit", "probability"}
        Kind of output of the file.
    mean, std : float or None
        Of the pixels' standardization before the model, if there was one.
    warnings : tuple of str
        What makes the model doubtful.
    """

    folder: Path
    side: int
    brightest: int
    stride: int | None
    why_not_dense: str
    layers: int
    keras_version: str | None
    layout: str = "(N, S, S, 1)"
    output: str = "probability"
    mean: float | None = None
    std: float | None = None
    warnings: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """The main properties, as sentences."""
        origin = f"{self.layers} layers, written by Keras {self.keras_version}"
        if self.keras_version is None:
            origin = f"{self.layers} ONNX operators, {self.layout} to one {self.output}"
        scan = f"Images are scanned in one pass, every {self.stride} px."
        if self.stride is None:
            scan = f"Images are scanned window by window: {self.why_not_dense}."
        scale = InputScale(self.brightest)
        if self.mean is not None and self.std is not None:
            scale = InputScale(self.brightest, self.mean, self.std)
        return [f"{origin}; patches of {self.side} x {self.side} px, {scale.text}.", scan]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return dataclasses.asdict(self)


def import_model(path: StrPath, out: StrPath, options: ImportOptions | None = None) -> Imported:
    """Convert a Keras or ONNX file to a model folder; no code in the file is executed.

    Parameters
    ----------
    path : path-like
        .h5 or .keras, of Keras 2 or 3: a chain of layers from gray patches to a sigmoid of one
        unit or a softmax of two. Or .onnx, of standard operators: from gray patches to a logit, a
        probability, or those of two classes.
    out : path-like
        Folder to create.
    options : ImportOptions, optional
        Properties that the file leaves open.

    Returns
    -------
    Imported

    Raises
    ------
    ModelError
        If the file is refused; the message gives the reason.
    ConfigError
        If the file leaves a property open that no option states; the message names the option.
    ExistsError
        If `out` exists.
    """
    path = Path(path)
    out = Path(out)
    options = options or ImportOptions()
    files.refuse_existing(out)
    read = _import_onnx if path.suffix.lower() == ".onnx" else _import_keras
    imported = read(path, out, options)
    constant = constant_output(Classifier.load(out))
    if constant is None:
        return imported
    hint = "see --brightest, --mean and --std of craters import"
    return dataclasses.replace(imported, warnings=(f"{constant}: {hint}.",))


def _import_keras(path: Path, out: Path, options: ImportOptions) -> Imported:
    model = read_keras(path)
    _find_output(path, "probability", options)
    shape = model.input_shape
    if len(shape) != 3 or shape[2] != 1 or shape[0] != shape[1]:
        raise ModelError(
            f"{path}: takes arrays of shape (N, {', '.join(str(size) for size in shape)}), "
            "expected (N, S, S, 1)",
            "Only models of square, gray patches are read.",
        )
    side = _find_side(path, shape[0], options)
    try:
        known = find_brightest(model)
        brightest = _choose_brightest(path, known, options)
        scale = options.scale(brightest or 1)
        network = build_keras_network(
            model.layers, side, scale=scale, crater_class=options.crater_class
        )
    except ModelError as error:
        raise ModelError(f"{path}: {error.message}", error.hint) from error
    brightest = _require_brightest(path, brightest, options)
    _write(out, network, model, options, files.sha256_of(path))
    return Imported(
        folder=out,
        side=side,
        brightest=brightest,
        stride=network.stride,
        why_not_dense=network.why_not_dense,
        layers=len(model.layers),
        keras_version=model.keras_version,
        mean=options.mean,
        std=options.std,
    )


def _import_onnx(path: Path, out: Path, options: ImportOptions) -> Imported:
    model = read_onnx(path)
    side, output = _find_side(path, model.side, options), _find_output(path, model.output, options)
    brightest = _choose_brightest(path, model.brightest, options)
    scale = options.scale(_require_brightest(path, brightest, options))
    graph = wrap_onnx(
        model, side=side, scale=scale, crater_class=options.crater_class, output=output
    )
    description = ModelDescription(
        network="onnx",
        network_settings={
            "layout": model.layout,
            **scale.settings(),
            "output": output,
            "crater_class": options.crater_class,
        },
        side=side,
        resolution=options.resolution,
        decision_threshold=options.decision_threshold,
        data={"ONNX file": model.sha256},
        versions={"craters": __version__},
        pixels=record_of_white(scale.brightest),
    )
    write_model(out, onnx=graph, weights=onnx_weights(model), description=description)
    return Imported(
        folder=out,
        side=side,
        brightest=scale.brightest,
        stride=None,
        why_not_dense="an ONNX file takes patches of one size",
        layers=len(model.proto.graph.node),
        keras_version=None,
        layout=model.layout,
        output=output,
        mean=options.mean,
        std=options.std,
    )


def _find_output(path: Path, known: str | None, options: ImportOptions) -> str:
    if known is None and options.output is None:
        raise ConfigError(
            f"{path}: does not define its output: it ends in no Sigmoid and no Softmax of two",
            "Use --output logit or --output probability.",
        )
    if known is not None and options.output not in (None, known):
        raise ConfigError(f"output is {options.output!r}, expected {known!r} as {path} says")
    return known or str(options.output)


def _find_side(path: Path, side: int | None, options: ImportOptions) -> int:
    if side is None and options.side is None:
        raise ConfigError(f"{path}: takes patches of any size", "Name one by --side.")
    if side is not None and options.side not in (None, side):
        raise ConfigError(f"side is {options.side}, expected {side} as {path} says")
    side = side or options.side or 0
    if not SIDES[0] <= side <= SIDES[1]:
        raise ModelError(f"{path}: takes patches of {side} px, expected {SIDES[0]} to {SIDES[1]}")
    return side


def _choose_brightest(path: Path, known: int | None, options: ImportOptions) -> int | None:
    """Return the value of white: as given, else of the standardization, else of the file.

    Raises
    ------
    ConfigError
        If the pixels are said to be standardized, and the file takes plain ones.
    """
    scale = options.scale(1)
    if not scale.is_standardized:
        return options.brightest or known
    if known not in (None, 1):
        raise ConfigError(
            f"mean and std are given, but {path} takes plain pixels: by its input or its first "
            f"layers, white = {known}",
            "Leave out --mean and --std: they are for pixels standardized before the model.",
        )
    return options.brightest or white_of_standardization(1 / scale.std, -scale.mean / scale.std)


def _require_brightest(path: Path, brightest: int | None, options: ImportOptions) -> int:
    if brightest is None:
        why = "it begins with no scaling from 0..1, 0..255 or 0..65535"
        if options.mean is not None:
            why = f"mean {options.mean:g} and std {options.std:g} are of no range in particular"
        raise ConfigError(
            f"{path}: does not define its input value of white: {why}",
            "Use --brightest 1 for input of 0..1, --brightest 255 for input of 0..255.",
        )
    return brightest


def _write(
    out: Path,
    network: KerasNet,
    model: KerasModel,
    options: ImportOptions,
    sha256: str,
) -> None:
    description = ModelDescription(
        network=network.name,
        network_settings={
            "layers": [layer.name for layer in model.layers],
            **network.scale.settings(),
            "crater_class": options.crater_class,
        },
        side=network.side,
        stride=network.stride,
        resolution=options.resolution,
        decision_threshold=options.decision_threshold,
        data={"Keras file": sha256},
        versions={"craters": __version__, "keras": model.keras_version},
        pixels=record_of_white(network.scale.brightest),
    )
    write_model(
        out,
        onnx=network_to_onnx(network, network.side),
        weights=network_weights(network),
        description=description,
    )


def export_model(model: StrPath, out: StrPath, file_format: str = "onnx") -> str:
    """Export the network of a model folder to one Keras or ONNX file.

    Parameters
    ----------
    model : path-like
        A model folder, a run folder that holds one as `model`, or `pretrained`.
    out : path-like
        The file; must not exist.
    file_format : {"h5", "keras", "onnx"}
        Keras formats only for the original network.

    Returns
    -------
    str
        Input and output of the file, as a sentence.

    Raises
    ------
    ModelError
        If the folder is invalid.
    ConfigError
        If the format is unknown, or Keras cannot represent the network.
    ExistsError
        If `out` exists.
    """
    out = Path(out)
    if file_format not in FORMATS:
        raise ConfigError(f"format is {file_format!r}, expected {', '.join(FORMATS)}")
    files.refuse_existing(out)
    description = read_description(model)
    side = description.side
    if file_format == "onnx":
        files.write_bytes(out, read_graph(model))
        return (
            f"{out}: float32 brightness 0..1, {_ends(description)}; probability = sigmoid(logit / "
            f"{description.temperature:g})."
        )
    network = _original(model, description)
    write = write_keras_h5 if file_format == "h5" else write_keras_zip
    write(out, network, description.resolution)
    return (
        f"{out}: float32 brightness 0..1, (N, {side}, {side}, 1) to the probability of "
        f"{description.class_names[1]!r}, (N, 1)."
    )


def _ends(description: ModelDescription) -> str:
    """Return the input and outputs of a graph in words."""
    if description.stride:
        return (
            f"images (N, H, W) to logits (N, rows, columns), a window every {description.stride} px"
        )
    least, largest = description.side_range
    if least == largest:
        return f"patches (N, {least}, {least}) to logits (N,)"
    text = f"patches (N, S, S) with S from {least} to {largest} px to logits (N,)"
    if description.light is not None:
        text += (
            " and light (N, 2), right and down; turn the patches first, for light is "
            f"{description.light.text.partition(';')[0]}"
        )
    return text


def _original(model: StrPath, description: ModelDescription) -> OriginalNet:
    """Build the original network of a model folder; raise if Keras cannot represent it."""
    why = _NO_KERAS.get(description.network)
    weights = read_weights(model)
    if description.network == "original" and any(name.startswith("members.") for name in weights):
        why = "it is an ensemble, but a Keras file holds one chain of layers"
    if why is not None or description.network != "original":
        raise ConfigError(
            f"{model}: the network {description.network!r} has no Keras form"
            + (f": {why}" if why else ""),
            "Export it by --format onnx.",
        )
    if description.temperature != 1:
        raise ConfigError(
            f"{model}: has a temperature, which a Keras file of the original network cannot store",
            "Export it by --format onnx.",
        )
    network = OriginalNet(description.side)
    try:
        network.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights})
    except RuntimeError as error:
        raise ModelError(f"{model}: its weights do not fit its network ({error})") from error
    return network.eval()
