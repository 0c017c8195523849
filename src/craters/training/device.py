"""The device that a training computes on: the CPU or a GPU.

Only the network, its optimizer and the batch of a step are on a GPU. Batches are drawn and
augmented in NumPy, so that a seed draws the same ones for every device. States are on the CPU.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor, nn


def device_of(network: nn.Module) -> torch.device:
    """Return the device of a network; one without weights is on the CPU."""
    return next((weight.device for weight in network.parameters()), torch.device("cpu"))


def to_device(array: np.ndarray, network: nn.Module) -> Tensor:
    """Return an array as a tensor on the device of a network; on the CPU they share memory."""
    return torch.from_numpy(array).to(device_of(network))


def in_mixed_precision(wanted: bool, network: nn.Module) -> torch.autocast:
    """Return a context that computes in bfloat16, if wanted and supported by the device."""
    device = device_of(network)
    enabled = wanted and has_bfloat16(device)
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


@functools.cache
def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device has native bfloat16 arithmetic."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(check and check())
