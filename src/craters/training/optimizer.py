"""Adam and AdamW by torch's fused kernel, without `torch.optim.Optimizer`.

That class imports torch's compiler on first use, which takes more than a CPU second.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import adamw

_KERAS_EPSILON = 1e-7


class AdamW:
    """AdamW (Loshchilov & Hutter 2019); without weight decay it is Adam (Kingma & Ba 2015).

    Parameters
    ----------
    groups : iterable of dict
        "params", a list of Tensor, and "weight_decay" of each group.
    learning_rate : float
    epsilon : float

    Attributes
    ----------
    param_groups : list of dict
        The groups with their "lr", "betas" and "eps", which may be changed between steps.
    state : dict
        "step", "exp_avg" and "exp_avg_sq" of each parameter that had a gradient.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], learning_rate: float, epsilon: float = 1e-8
    ) -> None:
        common: dict[str, Any] = {"lr": learning_rate, "betas": (0.9, 0.999), "eps": epsilon}
        self.param_groups = [common | group for group in groups]
        self.state: dict[Tensor, dict[str, Tensor]] = collections.defaultdict(dict)

    def zero_grad(self) -> None:
        """Drop the gradients of all parameters."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Take one step down the gradients."""
        for group in self.param_groups:
            parameters = [each for each in group["params"] if each.grad is not None]
            states = [self._state_of(parameter) for parameter in parameters]
            adamw.adamw(
                parameters,
                [parameter.grad for parameter in parameters],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                amsgrad=False,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state


class KerasAdam(AdamW):
    """Adam (Kingma & Ba 2015) with the epsilon of Keras.

    Keras adds epsilon to the root of the second moment before bias correction ("epsilon hat" in
    the paper's section 2), torch after it. The difference matters in the first steps and for small
    gradients. Rescaling epsilon at every step makes both equal.

    Parameters
    ----------
    parameters : iterable of Tensor
    learning_rate : float
    """

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float) -> None:
        group = {"params": list(parameters), "weight_decay": 0.0}
        super().__init__([group], learning_rate, _KERAS_EPSILON)

    def step(self) -> None:
        """Take one step."""
        for group in self.param_groups:
            past = self.state.get(group["params"][0], {}).get("step", 0)
            group["eps"] = _KERAS_EPSILON / math.sqrt(1 - group["betas"][1] ** (int(past) + 1))
        super().step()
