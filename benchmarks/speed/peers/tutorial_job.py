"""The original job in plain PyTorch, written as a good tutorial would, for `job`.

    python tutorial_job.py DATA THREADS SEED OUT.npy

Float32 NCHW tensors in memory, a DataLoader, Adam, a validation pass an epoch, the weights of the
lowest validation loss. A network that says the same for every validation patch is started again.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import numpy as np
import torch
from draw import draw_validation
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

BATCH = 32
PSEUDO_THRESHOLD = 0.25
PHASES = ((75, 3e-4), (50, 4e-4))  # epochs and step size
CONSTANT_SPREAD = 1e-6
MOST_RESTARTS = 5


def build_model() -> nn.Module:
    """Build the network of the original script."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(3),
        nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 6 * 6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 1),
    )  # fmt: skip


def read_images(path: Path) -> torch.Tensor:
    """Read patches as (n, 1, 48, 48) float32 in 0..1."""
    return torch.from_numpy(np.load(path).reshape(-1, 1, 48, 48).astype(np.float32) / 255)


@torch.no_grad()
def predict(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Return the probability of "with crater" of each patch."""
    model.eval()
    loader = DataLoader(TensorDataset(images), batch_size=1024)
    return torch.cat([torch.sigmoid(model(batch)).squeeze(1) for (batch,) in loader])


def train_epoch(model, loader, criterion, optimizer) -> None:
    """Take one step a batch."""
    model.train()
    for images, labels in loader:
        optimizer.zero_grad()
        loss = criterion(model(images).squeeze(1), labels)
        loss.backward()
        optimizer.step()


@torch.no_grad()
def validation_loss(model, loader, criterion) -> float:
    """Average the loss over the validation set."""
    model.eval()
    total = 0.0
    for images, labels in loader:
        total += criterion(model(images).squeeze(1), labels).item() * len(labels)
    return total / len(loader.dataset)


def train(phase: int, images: torch.Tensor, labels: torch.Tensor, validation: tuple) -> nn.Module:
    """Train one network; another one where it died."""
    epochs, rate = PHASES[phase]
    loader = DataLoader(TensorDataset(images, labels), batch_size=BATCH, shuffle=True)
    watched = DataLoader(TensorDataset(*validation), batch_size=BATCH)
    for _ in range(MOST_RESTARTS + 1):
        model = build_model()
        criterion = nn.BCEWithLogitsLoss()
        optimizer = torch.optim.Adam(model.parameters(), lr=rate)
        lowest, best = float("inf"), None
        for _ in range(epochs):
            train_epoch(model, loader, criterion, optimizer)
            loss = validation_loss(model, watched, criterion)
            if loss < lowest:
                lowest, best = loss, copy.deepcopy(model.state_dict())
        model.load_state_dict(best)
        said = predict(model, validation[0])
        if float(said.max() - said.min()) >= CONSTANT_SPREAD:
            return model
    sys.exit(f"phase {phase}: all {MOST_RESTARTS + 1} networks died")


def main(data: Path, threads: int, seed: int, out: Path) -> None:
    """Train both stages and save the predictions of the last one for the test set."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    images = read_images(data / "Xtrain1.npy")
    labels = torch.from_numpy(np.load(data / "Ytrain1.npy").reshape(-1).astype(np.float32))
    extra = read_images(data / "Xtrain1_extra.npy")
    rows, chosen = draw_validation(labels.numpy(), seed)
    validation = (images[chosen], labels[chosen])
    first = train(0, images[rows], labels[rows], validation)
    pseudo = extra[predict(first, extra) < PSEUDO_THRESHOLD]
    merged = torch.cat([images[rows], pseudo])
    merged_labels = torch.cat([labels[rows], torch.zeros(len(pseudo))])
    last = train(1, merged, merged_labels, validation)
    np.save(out, predict(last, read_images(data / "Xtest1.npy")).numpy())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
