"""The state of one training: network, optimizer, average of the weights, and their copies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from craters.models import Network
from craters.training.optimizer import AdamW, KerasAdam
from craters.training.recipes import TrainConfig, derive_seed, one_cycle

Build = Callable[[int], Network]


@dataclasses.dataclass
class TrainState:
    """Complete state after an epoch, from which training can be resumed.

    All tensors are on the CPU, wherever the training computes.

    Parameters
    ----------
    attempt : int
        0 for the first network, one more for every restart.
    epoch : int
        Finished epochs of this attempt.
    weights, optimizer, average, best_weights : dict of Tensor
        Current weights, Adam's moments, the moving average of the weights (empty without one), and
        the weights of the best epoch.
    best_epoch : int
        Epoch of `best_weights`, from 1; 0 before the first.
    history : list of dict
        One row for each finished epoch: epoch, loss, accuracy, val_loss, val_accuracy, val_spread.
    restarts : list of str
        One sentence for every network that was abandoned.
    finished : bool
        Whether the last epoch is done and the selected network is not dead.
    """

    attempt: int = 0
    epoch: int = 0
    weights: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    optimizer: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    average: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    best_weights: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    best_epoch: int = 0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    restarts: list[str] = dataclasses.field(default_factory=list)
    finished: bool = False

    @property
    def best_row(self) -> dict[str, float]:
        """The history row of the best epoch."""
        return self.history[self.best_epoch - 1]


@dataclasses.dataclass
class Attempt:
    """Network and optimizer during the training of one network.

    Parameters
    ----------
    network : nn.Module
        Trained in place.
    optimizer : AdamW
    average : nn.Module or None
        The moving average of the weights, if there is one.
    config : TrainConfig
    steps : int
        Steps of an epoch.
    """

    network: Any
    optimizer: AdamW
    average: Any
    config: TrainConfig
    steps: int

    def __post_init__(self) -> None:
        self.means = _floating(self.average) if self.average is not None else []
        self.values = _floating(self.network)

    @property
    def evaluated(self) -> Any:
        """The network that is validated and kept: the weight average, if there is one."""
        return self.average or self.network

    def before_step(self, step: int) -> None:
        """Set learning rate and momentum of one step, counted from 0."""
        if self.config.warmup:
            rate, beta = one_cycle(step, self.steps * self.config.epochs, self.config.warmup)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * self.config.learning_rate
                group["betas"] = (beta, group["betas"][1])

    def after_step(self, step: int) -> None:
        """Update the moving average of the weights, with a smaller decay in the first steps."""
        if self.average is not None:
            weight = 1 - min(self.config.ema_decay, (1 + step) / (10 + step))
            with torch.no_grad():
                torch._foreach_lerp_(self.means, self.values, weight)


def _floating(network: nn.Module) -> list[Tensor]:
    """Return the tensors to average: weights and BatchNorm statistics."""
    tensors = network.state_dict(keep_vars=True).values()
    return [tensor for tensor in tensors if tensor.is_floating_point()]


def prepare_attempt(
    build: Callable[[int], nn.Module],
    n: int,
    config: TrainConfig,
    state: TrainState,
) -> Attempt:
    """Create network and optimizer on their device, and restore their state after the last epoch.

    Parameters
    ----------
    build : callable
        As for `fit`.
    n : int
        Patches of an epoch.
    config : TrainConfig
    state : TrainState
        Its weights, optimizer and average are restored if an epoch is finished.
    """
    seed = derive_seed(config.seed, state.attempt, 0)
    device = torch.device(config.device)
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # or float32 would be rounded to 11 bits
    network = build(seed).to(device)
    average = build(seed).to(device) if config.ema_decay else None
    if config.optimizer == "adam":
        optimizer: AdamW = KerasAdam(network.parameters(), config.learning_rate)
    else:
        kernels = [p for p in network.parameters() if p.ndim > 1]
        others = [p for p in network.parameters() if p.ndim <= 1]
        groups = [
            {"params": kernels, "weight_decay": config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        optimizer = AdamW(groups, config.learning_rate)
    if state.epoch:
        network.load_state_dict(state.weights)
        _load_optimizer(optimizer, network, state.optimizer)
        if average is not None:
            average.load_state_dict(state.average)
    return Attempt(
        network=network,
        optimizer=optimizer,
        average=average,
        config=config,
        steps=_steps(n, config),
    )


def _steps(n: int, config: TrainConfig) -> int:
    """Count the steps of an epoch; with one-cycle the incomplete last batch is dropped."""
    if config.warmup and n >= config.batch_size:
        return n // config.batch_size
    return -(-n // config.batch_size)


def record_epoch(attempt: Attempt, row: dict[str, float], state: TrainState) -> None:
    """Record a finished epoch in the state: its row of the history and copies of all weights."""
    state.epoch += 1
    state.history.append(row)
    state.weights = _copy(attempt.network.state_dict())
    state.optimizer = _dump_optimizer(attempt.optimizer, attempt.network)
    state.average = _copy(attempt.average.state_dict()) if attempt.average is not None else {}
    is_first = not state.best_epoch
    is_last = attempt.config.keep == "last"
    if is_first or is_last or row["val_loss"] < state.best_row["val_loss"]:
        state.best_epoch = state.epoch
        state.best_weights = state.average or state.weights


def _copy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: _to_cpu(tensor) for name, tensor in tensors.items()}


def _to_cpu(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)


def _dump_optimizer(optimizer: AdamW, network: nn.Module) -> dict[str, Tensor]:
    """Flatten Adam's state into named tensors."""
    return {
        f"{name}/{key}": _to_cpu(value)
        for name, parameter in network.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }


def _load_optimizer(optimizer: AdamW, network: nn.Module, tensors: dict[str, Tensor]) -> None:
    for name, parameter in network.named_parameters():
        stored = {
            key.rpartition("/")[2]: value
            for key, value in tensors.items()
            if key.rpartition("/")[0] == name
        }
        # The fused kernel needs Adam's moments in the same memory layout as their parameter.
        optimizer.state[parameter] = {
            key: value.to(parameter.device, copy=True)
            if value.ndim == 0
            else torch.empty_like(parameter).copy_(value)
            for key, value in stored.items()
        }
