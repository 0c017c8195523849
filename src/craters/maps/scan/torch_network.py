"""Evaluate a model folder's network in torch on a GPU or CPU, instead of ONNX Runtime.

The weights are those of model.safetensors. In float32 the logits are those of the graph but for the
order of sums; in bfloat16 convolutions and products keep 8 bits of each factor, sums are float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from craters.data import normalize
from craters.errors import ConfigError, DataError, MissingExtraError, ModelError
from craters.models import ModelDescription, read_description, read_weights

# By how much a probability may differ from ONNX Runtime's.
TOLERANCES = {"float32": 1e-4, "bfloat16": 0.05}

_BATCH = 256  # patches at once


def check_device(device: str) -> None:
    """Raise an error if a device cannot be used.

    Raises
    ------
    MissingExtraError
        When torch is not installed.
    ConfigError
        When torch cannot reach the device.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError(
            f"--device {device} needs torch, which is not installed", "pip install 'craters[train]'"
        ) from error
    if device == "torch":
        return
    count = torch.cuda.device_count()
    number = int(device.partition(":")[2] or 0)
    if not torch.cuda.is_available() or number >= count:
        raise ConfigError(
            f"--device {device}: torch {torch.__version__} finds {count} GPU(s)",
            "Install a build of torch with CUDA, or leave --device away.",
        )


class TorchNetwork:
    """A model folder's network on a device.

    Parameters
    ----------
    folder : Path
        Model folder, or a run folder that holds one.
    device : str
        "torch": the processor; "cuda", "cuda:1": a GPU.
    precision : str
        A key of `TOLERANCES`.
    threads : int
        Of the processor, for this process.

    Raises
    ------
    ModelError
        When the folder is refused, or holds a network that this package does not know.
    """

    def __init__(self, folder: Path, device: str, precision: str, *, threads: int = 0) -> None:
        import torch

        self.description: ModelDescription = read_description(folder)
        self._device = torch.device("cpu" if device == "torch" else device)
        self._precision = precision
        if self._device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = False  # else float32 is cut to 11 bits unasked
        elif threads:
            torch.set_num_threads(threads)
        self._network = self._build(folder).to(self._device)

    def _build(self, folder: Path) -> Any:
        """Make the network, in whole-image form if it has one."""
        import torch

        from craters.models import EnsembleNet, Network, make_network, over_images

        wanted = self.description
        weights = {name: torch.from_numpy(array) for name, array in read_weights(folder).items()}
        members = {name.split(".")[1] for name in weights if name.startswith("members.")}
        try:
            made = [
                make_network(wanted.network, wanted.side, wanted.symmetry)
                for _ in range(max(1, len(members)))
            ]
            network: Network = EnsembleNet(made) if members else made[0]
            network.load_state_dict(weights)
        except (ConfigError, RuntimeError) as error:
            raise ModelError(
                f"{folder}: torch cannot take its weights ({error})", "Scan without --device."
            ) from error
        network = over_images(network.eval())
        if network.stride != wanted.stride:
            raise ModelError(
                f"{folder}: the stride is {wanted.stride}, in torch {network.stride}",
                "Scan without --device.",
            )
        return network

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Predict patches; see `Classifier.logits`."""
        found = np.empty(len(images), np.float32)
        for start in range(0, len(images), _BATCH):
            batch = images[start : start + _BATCH]
            found[start : start + len(batch)] = self._run(batch, over_patches=True)
        return found

    def logit_maps(self, images: np.ndarray) -> np.ndarray:
        """Predict every window of images; see `Classifier.logit_maps`."""
        if self.description.stride is None or min(images.shape[1:]) < self.description.side:
            raise DataError(f"images of shape {images.shape} cannot be mapped by this network")
        return self._run(images, over_patches=False)

    def _run(self, images: np.ndarray, *, over_patches: bool) -> np.ndarray:
        import torch

        pixels = torch.from_numpy(normalize(np.ascontiguousarray(images))).to(self._device)
        kind = self._device.type
        call = self._network if over_patches else self._network.forward_map
        short = self._precision == "bfloat16"
        with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=short):
            found: np.ndarray = call(pixels).float().cpu().numpy()
        if not np.isfinite(found).all():
            raise ModelError("the network gave something else than finite numbers")
        return found
