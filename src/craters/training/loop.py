"""The training loop: fit one network to arrays, without file or terminal output."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from craters.data import normalize, pad_for_shifts, shift_and_flip
from craters.errors import ConfigError, DeadNetworkError
from craters.models import CompactNet, Network, initialize, make_network, reseed_dropout
from craters.training.attempt import Attempt, Build, TrainState, prepare_attempt, record_epoch
from craters.training.device import in_mixed_precision, to_device
from craters.training.optimizer import AdamW
from craters.training.recipes import TrainConfig, derive_seed

if TYPE_CHECKING:
    from craters.training.start import Start

CONSTANT_SPREAD = 1e-6  # validation probabilities in a smaller range count as constant
PATIENCE_WITH_CONSTANT = 10  # epochs from the start with constant output: dead, not slow
MOST_RESTARTS = 5

_PREDICT_BATCH = 64  # the maps of larger ones leave the caches, and memory is given back after each
_WATCHED = 32  # training patches to detect a dead network; more would slow small trainings


@dataclasses.dataclass(frozen=True)
class Examples:
    """Patches with their targets: images (N, H, W) uint8, labels (N,) of 0 and 1."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


OnEpoch = Callable[[TrainState], None]


class Objective(Protocol):
    """Training objective: the loss that a step minimizes."""

    def __call__(
        self,
        network: nn.Module,
        images: np.ndarray,
        labels: np.ndarray,
        random: np.random.Generator,
    ) -> tuple[Tensor, int]:
        """Return the loss of one batch, and how many of its patches were classified correctly.

        Parameters
        ----------
        network : nn.Module
            In training mode.
        images : ndarray, shape (B, S, S), uint8
            Labeled patches, shifted and flipped.
        labels : ndarray, shape (B,)
        random : numpy Generator
            Source of all randomness in the step.
        """


@dataclasses.dataclass(frozen=True)
class Supervised:
    """Supervised objective: binary cross-entropy with the labels.

    Parameters
    ----------
    label_smoothing : float
    mixed_precision : bool
    """

    label_smoothing: float = 0.0
    mixed_precision: bool = False

    def __call__(
        self,
        network: nn.Module,
        images: np.ndarray,
        labels: np.ndarray,
        random: np.random.Generator,  # noqa: ARG002
    ) -> tuple[Tensor, int]:
        """Return the cross-entropy, and the number of correct patches."""
        batch = to_device(normalize(images), network)
        with in_mixed_precision(self.mixed_precision, network):
            logits = network(batch)
        return cross_entropy(logits.float(), labels, self.label_smoothing)


def cross_entropy(logits: Tensor, labels: np.ndarray, smoothing: float) -> tuple[Tensor, int]:
    """Return the cross-entropy with smoothed labels, and the number of correct predictions."""
    targets = torch.from_numpy(labels.astype(np.float32)).to(logits.device)
    smoothed = targets * (1 - smoothing) + smoothing / 2
    loss = functional.binary_cross_entropy_with_logits(logits, smoothed)
    return loss, int(((logits.detach() > 0) == (targets > 0.5)).sum())


def fit(
    build: Build,
    train: Examples,
    validation: Examples | None,
    config: TrainConfig,
    *,
    objective: Objective | None = None,
    state: TrainState | None = None,
    on_epoch: OnEpoch | None = None,
) -> tuple[Network, TrainState]:
    """Train a network; keep the epoch of the lowest validation loss, or the last.

    A network with constant validation probabilities is abandoned, and training restarts from
    another seed, at most five times. On the CPU, weights are bit-for-bit reproducible with the same
    arguments and number of threads, also when resuming from `state`; on a GPU, the same seed draws
    the same weights, batches and augmentations, but sums may differ in the last digits.

    Parameters
    ----------
    build : callable
        Returns a network with initial weights drawn from a seed.
    train, validation : Examples
        Patches to fit, and patches to select the epoch. Without validation the last epoch must be
        kept, and the validation columns of the history are of the first 32 training patches, which
        only serve to detect a dead network.
    config : TrainConfig
    objective : Objective, optional
        By default cross-entropy with the labels, with the label smoothing of `config`.
    state : TrainState, optional
        State of an interrupted training, to resume it.
    on_epoch : callable, optional
        Called with the state after every epoch and every restart.

    Returns
    -------
    network : Network
        In evaluation mode, with the kept weights, on the CPU.
    state : TrainState
        Its tensors are on the CPU.

    Raises
    ------
    DeadNetworkError
        If the first network and all five restarts end constant.
    """
    if validation is None and (config.keep == "best" or config.patience):
        raise ConfigError("without validation patches the last epoch has to be kept")
    state = state or TrainState()
    call = on_epoch or _ignore
    if objective is None:
        objective = Supervised(config.label_smoothing, config.mixed_precision)
    while not state.finished:
        attempt = prepare_attempt(build, len(train), config, state)
        reason = _run_attempt(attempt, objective, train, validation, state, call)
        if reason is None:
            state.finished = True
        else:
            _restart(state, reason)
        call(state)
    network = build(derive_seed(config.seed, state.attempt, 0))
    network.load_state_dict(state.best_weights)
    return network.eval(), state


def _ignore(state: TrainState) -> None:
    """Ignore the state after an epoch."""


def build_network(
    name: str,
    side: int,
    symmetry: tuple[str, ...] = ("identity",),
    start: Start | None = None,
) -> Build:
    """Return a function that builds a network from a seed, with random or given weights.

    With a start, the seed has no effect.
    """

    def build(seed: int) -> Network:
        if start is not None:
            return start.build(side, symmetry)
        network = make_network(name, side, symmetry)
        initialize(network, seed)
        return network

    return build


def _run_attempt(
    attempt: Attempt,
    objective: Objective,
    train: Examples,
    validation: Examples | None,
    state: TrainState,
    call: OnEpoch,
) -> str | None:
    """Train to the end; return why the network was abandoned, or None."""
    config = attempt.config
    padded = pad_for_shifts(train.images, config.shift)
    few = Examples(train.images[:_WATCHED], train.labels[:_WATCHED])
    while state.epoch < config.epochs and not _out_of_patience(config, state):
        row = _train_epoch(attempt, objective, padded, train, state)
        row |= _validate(attempt.evaluated, validation or few)
        record_epoch(attempt, row, state)
        spreads = [past["val_spread"] for past in state.history]
        if len(spreads) == PATIENCE_WITH_CONSTANT and max(spreads) < CONSTANT_SPREAD:
            return f"constant output in each of its first {PATIENCE_WITH_CONSTANT} epochs"
        call(state)
    if state.best_row["val_spread"] < CONSTANT_SPREAD:
        return f"constant output in its best epoch ({state.best_epoch})"
    return None


def _out_of_patience(config: TrainConfig, state: TrainState) -> bool:
    if not config.patience or not state.history:
        return False
    losses = [row["val_loss"] for row in state.history]
    return len(losses) - 1 - int(np.argmin(losses)) >= config.patience


def _train_epoch(
    attempt: Attempt,
    objective: Objective,
    padded: np.ndarray,
    train: Examples,
    state: TrainState,
) -> dict[str, float]:
    """Train one epoch; return the running loss and accuracy."""
    config = attempt.config
    seed = derive_seed(config.seed, state.attempt, 1, state.epoch)
    random = np.random.default_rng(seed)
    order = _draw_order(train.labels, config, random)
    reseed_dropout(attempt.network, seed)
    attempt.network.train()
    if config.keep_statistics:
        _keep_statistics(attempt.network)
    loss_sum = hits = seen = 0.0
    for number in range(attempt.steps):
        rows = order[number * config.batch_size : (number + 1) * config.batch_size]
        images = train.images[rows]
        if config.shift or config.symmetry != ("identity",):
            images = shift_and_flip(padded, rows, images.shape[1], config.symmetry, random)
        step = state.epoch * attempt.steps + number
        attempt.before_step(step)
        loss, correct = objective(attempt.network, images, train.labels[rows], random)
        descend(attempt.optimizer, loss)
        attempt.after_step(step)
        loss_sum += float(loss.detach()) * len(rows)
        hits, seen = hits + correct, seen + len(rows)
    return {"epoch": state.epoch + 1, "loss": loss_sum / seen, "accuracy": hits / seen}


def _keep_statistics(network: nn.Module) -> None:
    """Set the BatchNorm layers of a network in training mode to evaluation mode."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def _draw_order(labels: np.ndarray, config: TrainConfig, random: np.random.Generator) -> np.ndarray:
    """Shuffle all rows, or draw a balanced sample of the same size."""
    if not config.balanced:
        return random.permutation(len(labels))
    parts = []
    for label, count in ((0, len(labels) // 2), (1, len(labels) - len(labels) // 2)):
        rows = np.flatnonzero(labels == label)
        repeats = [random.permutation(rows) for _ in range(-(-count // len(rows)))]
        parts.append(np.concatenate(repeats)[:count])
    return random.permutation(np.concatenate(parts))


def descend(optimizer: AdamW, loss: Tensor) -> None:
    """Take one step of the optimizer down a loss."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


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
    """Predict the logits of patches, in batches.

    Parameters
    ----------
    network : nn.Module
        Set to evaluation mode.
    images : ndarray, shape (N, H, W), uint8
        May be memory-mapped; one batch at a time is in memory.

    Returns
    -------
    ndarray, shape (N,), float32
        Logits of "with crater".
    """
    network.eval()
    return np.concatenate([np.empty(0, np.float32), *_in_batches(network, network, images)])


def predict_pooled(network: CompactNet, images: np.ndarray) -> np.ndarray:
    """Predict the pooled features of each view, shape (N, V, K); see `predict_logits`."""
    return np.concatenate(list(_in_batches(network, network.eval().pooled, images)))


def _in_batches(
    network: nn.Module, call: Callable[[Tensor], Tensor], images: np.ndarray
) -> Iterator[np.ndarray]:
    """Yield the output of a method of a network for batches of patches."""
    with torch.inference_mode():
        for start in range(0, len(images), _PREDICT_BATCH):
            batch = np.ascontiguousarray(images[start : start + _PREDICT_BATCH])
            yield call(to_device(normalize(batch), network)).cpu().numpy()


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Convert logits to probabilities, float32, with torch.

    Probabilities in existing run folders were computed with torch. `evaluation.sigmoid`, which
    needs only NumPy, differs from it in the last digit, so that it cannot replace this function.
    """
    return torch.sigmoid(torch.from_numpy(np.asarray(logits, np.float32))).numpy()


def _restart(state: TrainState, reason: str) -> None:
    """Reset the state for another attempt; raise after too many."""
    state.restarts.append(f"network {state.attempt + 1} was dead: {reason}")
    if len(state.restarts) > MOST_RESTARTS:
        raise DeadNetworkError(
            f"all {len(state.restarts)} networks died: {reason}",
            "Look at the images and labels first (craters audit): where the images do not show "
            "what the labels say, another --seed does not help. Else try a lower learning rate or "
            "another --seed.",
        )
    state.attempt += 1
    state.epoch = state.best_epoch = 0
    state.weights, state.optimizer, state.average, state.best_weights = {}, {}, {}, {}
    state.history = []
