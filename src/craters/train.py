"""One training loop. It knows arrays and networks; not files, screens or test data."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from craters.errors import ConfigError, DeadNetworkError
from craters.networks import Network, OriginalNet, initialize, reseed_dropout
from craters.patches import normalize

CONSTANT_SPREAD = 1e-6  # validation probabilities closer together than this say nothing
PATIENCE_WITH_CONSTANT = 10  # epochs from the start with constant output: dead, not slow
MOST_RESTARTS = 5

_PREDICT_BATCH = 1024
_KERAS_EPSILON = 1e-7


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings of one training; limits are checked at the door.

    Parameters
    ----------
    epochs : int
        Passes over the training patches, at least 1.
    learning_rate : float
        Step size of Adam (Kingma & Ba 2015), above 0.
    batch_size : int
        Patches a step; the last batch of an epoch may be smaller.
    seed : int
        Weights, order and dropout derive from it.
    """

    epochs: int
    learning_rate: float
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ConfigError(f"epochs is {self.epochs}, expected 1 or more")
        if not 0 < self.learning_rate < math.inf:
            raise ConfigError(f"learning_rate is {self.learning_rate}, expected more than 0")
        if self.batch_size < 1:
            raise ConfigError(f"batch_size is {self.batch_size}, expected 1 or more")
        if self.seed < 0:
            raise ConfigError(f"seed is {self.seed}, expected 0 or more")


@dataclasses.dataclass(frozen=True)
class Examples:
    """Patches with their targets: images (N, H, W) uint8, labels (N,) of 0 and 1."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclasses.dataclass
class TrainState:
    """Everything that the next epoch depends on, so that a killed training can go on.

    Parameters
    ----------
    attempt : int
        0 for the first network, one more for every restart.
    epoch : int
        Finished epochs of this attempt.
    weights, optimizer, best_weights : dict of Tensor
        The network now, Adam's memory, and the network of the lowest validation loss.
    best_epoch : int
        Epoch of `best_weights`, from 1; 0 before the first.
    history : list of dict
        One row a finished epoch: epoch, loss, accuracy, val_loss, val_accuracy, val_spread.
    restarts : list of str
        One sentence for every network given up.
    finished : bool
        Whether the last epoch is done and the kept network is alive.
    """

    attempt: int = 0
    epoch: int = 0
    weights: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    optimizer: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    best_weights: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    best_epoch: int = 0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    restarts: list[str] = dataclasses.field(default_factory=list)
    finished: bool = False

    @property
    def best_row(self) -> dict[str, float]:
        """The history row of the kept network."""
        return self.history[self.best_epoch - 1]


Build = Callable[[int], Network]
OnEpoch = Callable[[TrainState], None]


class KerasAdam(torch.optim.Adam):
    """Adam (Kingma & Ba 2015) with the epsilon of Keras.

    Keras adds epsilon to the root of the second moment before its bias is corrected ("epsilon
    hat" in the paper's section 2), torch after it. In the first steps, and where gradients are
    small, that is another optimizer; epsilon set anew for every step makes them one.

    Parameters
    ----------
    parameters : iterable of Tensor
    learning_rate : float
    """

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float) -> None:
        super().__init__(parameters, learning_rate, eps=_KERAS_EPSILON, fused=True)

    def step(self, closure: Any = None) -> Any:
        """Take one step."""
        for group in self.param_groups:
            past = self.state.get(group["params"][0], {}).get("step", 0)
            group["eps"] = _KERAS_EPSILON / math.sqrt(1 - group["betas"][1] ** (int(past) + 1))
        return super().step(closure)


def derive_seed(seed: int, *purpose: int) -> int:
    """Derive a seed for one purpose; purposes do not disturb each other.

    Examples
    --------
    >>> derive_seed(7, 0, 1) == derive_seed(7, 0, 1), derive_seed(7, 0, 1) == derive_seed(7, 0, 2)
    (True, False)
    """
    return int(np.random.SeedSequence([seed, *purpose]).generate_state(1, np.uint64)[0] >> 2)


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch use `count` threads inside the block, and the earlier number after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fit(
    build: Build,
    train: Examples,
    validation: Examples,
    config: TrainConfig,
    *,
    state: TrainState | None = None,
    on_epoch: OnEpoch | None = None,
) -> tuple[Network, TrainState]:
    """Train until the last epoch and keep the network of the lowest validation loss.

    A network whose validation probabilities are constant is given up and another one is started
    from another seed, at most five times. Equal arguments give equal weights, bit for bit, at an
    equal number of threads, also when `state` takes up an interrupted training.

    Parameters
    ----------
    build : callable
        Makes a network from a seed; its weights are set here unless `seed` is unused by it.
    train, validation : Examples
        What to fit on, and what to choose the epoch by.
    config : TrainConfig
    state : TrainState, optional
        Where an earlier call stopped.
    on_epoch : callable, optional
        Called with the state after every epoch and every restart.

    Returns
    -------
    network : Network
        In evaluation mode, with the kept weights.
    state : TrainState

    Raises
    ------
    DeadNetworkError
        When the first network and five others all end constant.
    """
    state = state or TrainState()
    call = on_epoch or _ignore
    while not state.finished:
        network, optimizer = _take_up(build, config, state)
        reason = _run_attempt(network, optimizer, (train, validation), config, state, call)
        if reason is None:
            state.finished = True
        else:
            _restart(state, reason)
        call(state)
    network = build(derive_seed(config.seed, state.attempt, 0))
    network.load_state_dict(state.best_weights)
    return network.eval(), state


def _ignore(state: TrainState) -> None:
    """Stand in for a listener."""


def build_original(side: int) -> Build:
    """Return a maker of the original network with Keras's default start."""

    def build(seed: int) -> Network:
        network = OriginalNet(side)
        initialize(network, seed)
        return network

    return build


def _take_up(
    build: Build, config: TrainConfig, state: TrainState
) -> tuple[Network, torch.optim.Adam]:
    """Make the attempt's network and optimizer, as they stood after the last epoch."""
    network = build(derive_seed(config.seed, state.attempt, 0))
    optimizer = KerasAdam(network.parameters(), config.learning_rate)
    if state.epoch:
        network.load_state_dict(state.weights)
        _load_optimizer(optimizer, network, state.optimizer)
    return network, optimizer


def _run_attempt(
    network: nn.Module,
    optimizer: torch.optim.Adam,
    examples: tuple[Examples, Examples],
    config: TrainConfig,
    state: TrainState,
    call: OnEpoch,
) -> str | None:
    """Train to the end; return why the network was given up, or None."""
    train, validation = examples
    while state.epoch < config.epochs:
        row = _train_epoch(network, optimizer, train, config, state)
        row |= _validate(network, validation)
        _record(network, optimizer, row, state)
        spreads = [past["val_spread"] for past in state.history]
        if len(spreads) == PATIENCE_WITH_CONSTANT and max(spreads) < CONSTANT_SPREAD:
            return f"constant output in each of its first {PATIENCE_WITH_CONSTANT} epochs"
        call(state)
    if state.best_row["val_spread"] < CONSTANT_SPREAD:
        return f"constant output in its best epoch ({state.best_epoch})"
    return None


def _train_epoch(
    network: nn.Module,
    optimizer: torch.optim.Adam,
    train: Examples,
    config: TrainConfig,
    state: TrainState,
) -> dict[str, float]:
    """Make one pass over the training patches; return the running loss and accuracy."""
    seed = derive_seed(config.seed, state.attempt, 1, state.epoch)
    order = np.random.default_rng(seed).permutation(len(train))
    reseed_dropout(network, seed)
    network.train()
    loss_sum = hits = 0.0
    for start in range(0, len(order), config.batch_size):
        rows = order[start : start + config.batch_size]
        loss, correct = train_step(network, optimizer, train.images[rows], train.labels[rows])
        loss_sum += loss * len(rows)
        hits += correct
    return {
        "epoch": state.epoch + 1,
        "loss": loss_sum / len(train),
        "accuracy": hits / len(train),
    }


def train_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, images: np.ndarray, labels: np.ndarray
) -> tuple[float, int]:
    """Take one step of the optimizer on the binary cross-entropy of one batch.

    Returns
    -------
    loss : float
        Mean over the batch, before the step.
    correct : int
        Patches on the right side of 0.5, before the step.
    """
    targets = torch.from_numpy(labels.astype(np.float32))
    logits = network(torch.from_numpy(normalize(images)))
    loss = functional.binary_cross_entropy_with_logits(logits, targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    correct = ((logits.detach() > 0) == (targets > 0.5)).sum()
    return float(loss.detach()), int(correct)


def _validate(network: nn.Module, validation: Examples) -> dict[str, float]:
    logits = predict_logits(network, validation.images)
    targets = torch.from_numpy(validation.labels.astype(np.float32))
    loss = functional.binary_cross_entropy_with_logits(torch.from_numpy(logits), targets)
    probabilities = sigmoid(logits)
    return {
        "val_loss": float(loss),
        "val_accuracy": float(((logits > 0) == (validation.labels == 1)).mean()),
        "val_spread": float(np.ptp(probabilities)),
    }


def predict_logits(network: nn.Module, images: np.ndarray) -> np.ndarray:
    """Predict patches a batch at a time.

    Parameters
    ----------
    network : nn.Module
        Put into evaluation mode.
    images : ndarray, shape (N, H, W), uint8
        May be memory-mapped; one batch is in memory.

    Returns
    -------
    ndarray, shape (N,), float32
        Logits of "with crater".
    """
    network.eval()
    logits = np.empty(len(images), np.float32)
    with torch.inference_mode():
        for start in range(0, len(images), _PREDICT_BATCH):
            batch = np.ascontiguousarray(images[start : start + _PREDICT_BATCH])
            logits[start : start + len(batch)] = network(torch.from_numpy(normalize(batch)))
    return logits


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Turn logits into probabilities, float32."""
    return torch.sigmoid(torch.from_numpy(np.asarray(logits, np.float32))).numpy()


def _record(
    network: nn.Module, optimizer: torch.optim.Adam, row: dict[str, float], state: TrainState
) -> None:
    """Put a finished epoch into the state."""
    state.epoch += 1
    state.history.append(row)
    state.weights = _copy(network.state_dict())
    state.optimizer = _dump_optimizer(optimizer, network)
    if not state.best_epoch or row["val_loss"] < state.best_row["val_loss"]:
        state.best_epoch = state.epoch
        state.best_weights = state.weights


def _restart(state: TrainState, reason: str) -> None:
    """Forget the attempt and count it, or give up."""
    state.restarts.append(f"network {state.attempt + 1} was dead: {reason}")
    if len(state.restarts) > MOST_RESTARTS:
        raise DeadNetworkError(
            f"all {len(state.restarts)} networks died: {reason}",
            "Try another --seed or a lower learning rate, and look at the images: a network that "
            "sees nothing gives the same answer for every patch.",
        )
    state.attempt += 1
    state.epoch = state.best_epoch = 0
    state.weights, state.optimizer, state.best_weights = {}, {}, {}
    state.history = []


def _copy(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _dump_optimizer(optimizer: torch.optim.Adam, network: nn.Module) -> dict[str, Tensor]:
    """Flatten Adam's memory into named tensors."""
    return {
        f"{name}/{key}": value.detach().clone()
        for name, parameter in network.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }


def _load_optimizer(
    optimizer: torch.optim.Adam, network: nn.Module, tensors: dict[str, Tensor]
) -> None:
    for name, parameter in network.named_parameters():
        stored = {
            key.rpartition("/")[2]: value
            for key, value in tensors.items()
            if key.rpartition("/")[0] == name
        }
        # The fused kernel walks memory: Adam's averages must lie as their parameter does.
        optimizer.state[parameter] = {
            key: value.clone() if value.ndim == 0 else torch.empty_like(parameter).copy_(value)
            for key, value in stored.items()
        }
