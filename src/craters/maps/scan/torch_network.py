"""Evaluate a model folder's network in torch on a GPU or CPU, instead of ONNX Runtime.

The weights come from model.safetensors. In float32 the logits equal those of the ONNX graph, except
for the order of sums. In bfloat16, factors of convolutions and products keep 8 bits; sums are
float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from craters.data import normalize
from craters.errors import ConfigError, DataError, ModelError
from craters.models import (
    Lights,
    ModelDescription,
    estimate_lights,
    predict_in_frame,
    read_description,
    read_weights,
)

# Largest difference of a probability from that of ONNX Runtime.
TOLERANCES = {"float32": 1e-4, "bfloat16": 0.05}

_BATCH = 256  # patches per batch


class TorchNetwork:
    """A model folder's network on a device.

    Parameters
    ----------
    folder : Path
        Model folder, or a run folder that contains one.
    device : str
        "torch": the CPU; "cuda", "cuda:1": a GPU.
    precision : str
        A key of `TOLERANCES`.
    threads : int
        CPU threads of this process; 0: the default of torch.

    Raises
    ------
    ModelError
        If the folder is invalid, or its network is unknown.
    """

    def __init__(self, folder: Path, device: str, precision: str, *, threads: int = 0) -> None:
        import torch

        self.description: ModelDescription = read_description(folder)
        self._device = torch.device("cpu" if device == "torch" else device)
        self._precision = precision
        if self._device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = False  # or float32 would be rounded to 11 bits
        elif threads:
            torch.set_num_threads(threads)
        self._network = self._build(folder).to(self._device)

    def _build(self, folder: Path) -> Any:
        """Build the network with its weights, in whole-image form if it has one."""
        from craters.models import over_images, restore_network

        wanted, weights = self.description, read_weights(folder)
        try:
            network = over_images(restore_network(wanted, weights))
        except ModelError as error:
            raise ModelError(f"{folder}: {error.message}", "Scan without --device.") from error
        if network.stride != wanted.stride:
            raise ModelError(
                f"{folder}: the stride is {wanted.stride}, in torch {network.stride}",
                "Scan without --device.",
            )
        return network

    def logits(self, images: np.ndarray, *, azimuth: float | None = None) -> np.ndarray:
        """Predict patches; see `Classifier.logits`."""
        frame = self.description.light
        if frame is None:
            return self._run_batches(images)[0]
        if azimuth is None:
            azimuths = self.find_light(images).azimuth
        else:
            azimuths = np.full(len(images), azimuth)
        return predict_in_frame(self._run_batches, images, azimuths, frame, _BATCH)

    def find_light(self, images: np.ndarray) -> Lights:
        """Estimate the direction of light of patches; see `Classifier.find_light`."""
        frame = self.description.light
        if frame is None:
            raise ConfigError("the model takes patches as they are, whatever their light")
        return estimate_lights(
            self._run_batches, images, None, frame,
            temperature=self.description.temperature, batch=_BATCH,
        )  # fmt: skip

    def _run_batches(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Run the network on patches; return logits (N,) and light (N, 2 or 0)."""
        has_light = self.description.light is not None
        logits = np.empty(len(images), np.float32)
        light = np.empty((len(images), 2 if has_light else 0), np.float32)
        call = self._network.forward_with_light if has_light else self._network
        for start in range(0, len(images), _BATCH):
            rows = slice(start, start + _BATCH)
            outputs = self._run(call, images[rows])
            logits[rows] = outputs[0]
            if has_light:
                light[rows] = outputs[1]
        return logits, light

    def logit_maps(self, images: np.ndarray) -> np.ndarray:
        """Predict every window of images; see `Classifier.logit_maps`."""
        if self.description.stride is None or min(images.shape[1:]) < self.description.side:
            raise DataError(f"images of shape {images.shape} cannot be mapped by this network")
        return self._run(self._network.forward_map, images)[0]

    def _run(self, call: Any, images: np.ndarray) -> list[np.ndarray]:
        """Run a method of the network; return its outputs after checking them."""
        import torch

        pixels = torch.from_numpy(normalize(np.ascontiguousarray(images))).to(self._device)
        backend = self._device.type
        short = self._precision == "bfloat16"
        with torch.inference_mode(), torch.autocast(backend, torch.bfloat16, enabled=short):
            outputs = call(pixels)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        arrays: list[np.ndarray] = [output.float().cpu().numpy() for output in outputs]
        if not all(np.isfinite(array).all() for array in arrays):
            raise ModelError("the network returned values that are not finite")
        return arrays
