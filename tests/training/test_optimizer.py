"""Adam and AdamW without `torch.optim.Optimizer`."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from craters.training.optimizer import AdamW, KerasAdam


class TorchKerasAdam(torch.optim.Adam):
    """The same rescaling of epsilon upon torch's own class."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            past = self.state.get(group["params"][0], {}).get("step", 0)
            group["eps"] = 1e-7 / math.sqrt(1 - 0.999 ** (int(past) + 1))
        return super().step(closure)


def trained(optimizer: str) -> tuple[list[Tensor], list[Tensor]]:
    """Take six steps with a changing rate; return the parameters and the optimizer's state."""
    torch.manual_seed(3)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 1))
    unused = nn.Parameter(torch.ones(2))
    kernels = [p for p in network.parameters() if p.ndim > 1] + [unused]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": kernels, "weight_decay": 0.05},
        {"params": others, "weight_decay": 0.0},
    ]
    made: Any = {
        "ours": lambda: AdamW(groups, 4e-3),
        "torch": lambda: torch.optim.AdamW(groups, 4e-3, fused=True),
        "keras": lambda: KerasAdam(network.parameters(), 4e-3),
        "torch keras": lambda: TorchKerasAdam(network.parameters(), 4e-3, eps=1e-7, fused=True),
    }[optimizer]()
    images, targets = torch.rand(8, 1, 8, 8), torch.rand(8)
    for step in range(6):
        for group in made.param_groups:
            group["lr"], group["betas"] = 4e-3 / (step + 1), (0.95 - 0.02 * step, 0.999)
        made.zero_grad()
        functional.binary_cross_entropy_with_logits(network(images).squeeze(1), targets).backward()
        made.step()
    parameters = list(network.parameters())
    return parameters, [value for p in parameters for value in made.state[p].values()]


@pytest.mark.parametrize(("ours", "theirs"), [("ours", "torch"), ("keras", "torch keras")])
def test_steps_are_those_of_torch_bit_for_bit(ours: str, theirs: str) -> None:
    (weights, state), (expected, expected_state) = trained(ours), trained(theirs)
    assert all(torch.equal(*pair) for pair in zip(weights, expected, strict=True))
    assert all(torch.equal(*pair) for pair in zip(state, expected_state, strict=True))


def test_training_does_not_import_the_compiler_of_torch() -> None:
    code = (
        "import sys, numpy as np\n"
        "from craters.training.loop import Examples, build_network, fit\n"
        "from craters.training.recipes import modern_recipe\n"
        "import dataclasses\n"
        "images = np.random.default_rng(0).integers(0, 256, (8, 16, 16), np.uint8)\n"
        "recipe = dataclasses.replace(modern_recipe(8, 16), epochs=1)\n"
        "fit(build_network('compact', 16), Examples(images, np.arange(8) % 2), None, recipe)\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
