"""Rate of training steps and of the circle detector compared with a matrix product on one core.

    python floor_step.py OUT.json

For `floor`. One thread. The rate of a core is that of a float32 matrix product of 1024 x 1024, by
torch or NumPy, whichever is faster; operations of a step are counted by torch, forward and
backward; each part of a step is timed on its own. The detector runs in ONNX Runtime, as in a scan.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from craters.data import normalize, pad_for_shifts, shift_and_flip
from craters.models import CIRCLES, find_model, read_weights
from craters.models.circles.network import restore_circle_net
from craters.models.onnx import open_graph
from craters.training import build_network
from craters.training.optimizer import KerasAdam
from craters.training.recipes import modern_recipe

ROUNDS, STEPS = 7, 30
TILE = 1024  # px of the image that the circle detector sees at once
NETWORKS = {"original": 32, "compact": 64}  # with the batch of each recipe


def seconds(call: Callable[[], object], repeats: int) -> float:
    """Return the median time of one call, over rounds of `repeats`."""
    call()
    found = []
    for _ in range(ROUNDS):
        clock = time.perf_counter()
        for _ in range(repeats):
            call()
        found.append((time.perf_counter() - clock) / repeats)
    return statistics.median(found)


def core_rate() -> float:
    """Return operations a second of the faster matrix product: of torch or of NumPy.

    Neither library need use all instructions of a processor.
    """
    one = torch.randn(1024, 1024)
    array = one.numpy()
    passed = min(seconds(lambda: one @ one, 4), seconds(lambda: array @ array, 4))
    return 2 * 1024**3 / passed


def measure(name: str, batch: int) -> dict[str, float]:
    """Time a step and its parts, in milliseconds; count its operations."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (batch, 48, 48), np.uint8)
    goals = torch.from_numpy(random.integers(0, 2, batch).astype(np.float32))
    network = build_network(name, 48)(0).train()
    recipe = modern_recipe(batch, 48)
    parameters = list(network.parameters())
    if name == "original":
        optimizer = KerasAdam(parameters, 3e-4)
    else:
        optimizer = torch.optim.AdamW(parameters, 4e-3, weight_decay=0.05, fused=True)
    average = [tensor.detach().clone() for tensor in parameters]

    def draw() -> torch.Tensor:
        if name == "original":
            return torch.from_numpy(normalize(images))
        padded = pad_for_shifts(images, recipe.shift)
        moved = shift_and_flip(padded, np.arange(batch), 48, ("identity", "up-down"), random)
        return torch.from_numpy(normalize(moved))

    ready = draw()

    def forward() -> torch.Tensor:
        return functional.binary_cross_entropy_with_logits(network(ready), goals)

    def both() -> None:
        optimizer.zero_grad()
        forward().backward()

    def update() -> None:
        optimizer.step()
        if name != "original":
            with torch.no_grad():
                torch._foreach_lerp_(average, parameters, 0.01)

    with FlopCounterMode(display=False) as counter:
        both()
    parts = {
        "draw_ms": 1e3 * seconds(draw, STEPS),
        "forward_ms": 1e3 * seconds(forward, STEPS),
        "both_ms": 1e3 * seconds(both, STEPS),
        "update_ms": 1e3 * seconds(update, STEPS),
    }
    parts["backward_ms"] = parts.pop("both_ms") - parts["forward_ms"]
    step = sum(parts.values())
    return parts | {
        "step_ms": step,
        "patches_per_s": 1e3 * batch / step,
        "gflop": counter.get_total_flops() / 1e9,
        "gflop_per_s": counter.get_total_flops() / step / 1e6,
    }


def measure_pass() -> dict[str, float]:
    """Time the circle detector over a tile in ONNX Runtime; count its operations."""
    model = find_model(CIRCLES)
    session = open_graph((model / "model.onnx").read_bytes(), threads=1)
    tile = np.random.default_rng(0).standard_normal((1, TILE, TILE)).astype(np.float32)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        restore_circle_net(read_weights(CIRCLES))(torch.from_numpy(tile))
    passed = seconds(lambda: session.run(None, {"brightness": tile}), 2)
    operations = counter.get_total_flops()
    return {
        "step_ms": 1e3 * passed,
        "gflop": operations / 1e9,
        "gflop_per_s": operations / passed / 1e9,
    }


def main(out: Path) -> None:
    """Measure all networks and the core, before and after."""
    torch.set_num_threads(1)
    # In a training, too, larger arrays than its maps were freed before: the C library then keeps
    # freed memory up to their size, instead of asking the system for it in each step.
    np.ones(1 << 21)
    first = core_rate()
    found = {name: measure(name, batch) for name, batch in NETWORKS.items()}
    found["circles"] = measure_pass()
    rate = statistics.median([first, core_rate(), core_rate()]) / 1e9
    for row in found.values():
        row |= {"core_gflop_per_s": rate, "share": row["gflop_per_s"] / rate}
    out.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
