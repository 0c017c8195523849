"""The original job in plain TensorFlow/Keras, for `keras_parity`. Needs no other file of ours.

    python keras_original.py DATA SEED SPLIT.npz OUT.npz [same]

SPLIT.npz holds `train` and `validation`: row numbers of Xtrain1. With `same`, both phases start
from the weights in SPLIT.start0.h5 and SPLIT.start1.h5 and take patches and dropout masks in the
order that SPLIT.npz holds (the last phase only where as many pseudo-labels were added); without,
Keras draws all that by itself. As in the package, the weights of the lowest validation loss are
kept, and a network that says the same for every validation patch is counted as dead and started
again from another seed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

SIDE = 48
BATCH = 32
PSEUDO_THRESHOLD = 0.25
PHASES = ((75, 3e-4), (50, 4e-4))  # epochs and step size
CONSTANT_SPREAD = 1e-6
PATIENCE_WITH_CONSTANT = 10
MOST_RESTARTS = 5


class Keeper(keras.callbacks.Callback):
    """Keep the weights of the lowest validation loss; stop a network that says nothing.

    Parameters
    ----------
    validation : ndarray, shape (n, 48, 48, 1)
    """

    def __init__(self, validation: np.ndarray) -> None:
        super().__init__()
        self.validation = validation
        self.lowest = np.inf
        self.kept: list[np.ndarray] = []
        self.epoch = 0
        self.seen_alive = False

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Compare the loss; look for life until it is found."""
        loss = (logs or {})["val_loss"]
        if loss < self.lowest:
            self.lowest, self.epoch, self.kept = loss, epoch + 1, self.model.get_weights()
        if not self.seen_alive and epoch < PATIENCE_WITH_CONSTANT:
            self.seen_alive = np.ptp(predict(self.model, self.validation)) >= CONSTANT_SPREAD
            if epoch + 1 == PATIENCE_WITH_CONSTANT and not self.seen_alive:
                self.model.stop_training = True


def read_images(path: Path) -> np.ndarray:
    """Read patches as (n, 48, 48, 1) float32 in 0..1."""
    return np.load(path).reshape(-1, SIDE, SIDE, 1).astype(np.float32) / 255


@keras.saving.register_keras_serializable()
class GivenDropout(keras.layers.Layer):
    """Dropout by masks that are given, one row a patch in the order of training."""

    def load(self, masks: np.ndarray) -> None:
        """Take the masks of the next epoch."""
        self.masks.assign(masks.astype(np.float32) * 2)
        self.place.assign(0)

    def prepare(self, count: int) -> None:
        """Make room for the masks of `count` patches."""
        self.masks = tf.Variable(tf.zeros((count, 8)), trainable=False)
        self.place = tf.Variable(0, trainable=False)

    def call(self, units: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Apply the next rows."""
        if not training:
            return units
        count = tf.shape(units)[0]
        kept = self.masks[self.place : self.place + count]
        self.place.assign_add(count)
        return units * kept


def build_model(learning_rate: float, count: int = 0) -> keras.Model:
    """Build and compile the network of the original script; `count` patches of given masks."""
    layers = keras.layers
    dropout = layers.Dropout(0.5, name="dropout")
    if count:
        dropout = GivenDropout(name="dropout")
        dropout.prepare(count)
    model = keras.Sequential(
        [
            layers.Input((SIDE, SIDE, 1)),
            layers.Conv2D(16, (3, 3), activation="relu"),
            layers.MaxPooling2D((3, 3)),
            layers.Conv2D(32, (3, 3), activation="relu"),
            layers.MaxPooling2D((2, 2)),
            layers.Flatten(),
            layers.Dense(8, activation="relu"),
            dropout,
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    optimizer = keras.optimizers.Adam(learning_rate)
    model.compile(optimizer=optimizer, loss="binary_crossentropy", metrics=["accuracy"])
    return model


def predict(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return the probability of "with crater" of each patch."""
    return model.predict(images, batch_size=1024, verbose=0)[:, 0]


def fit(model: keras.Model, train: tuple, epochs: int, drawn: tuple | None, **more) -> None:
    """Train in Keras's own order, or in a given one with given dropout masks."""
    if drawn is None:
        model.fit(*train, epochs=epochs, **more)
        return
    dropout = model.get_layer("dropout")
    for epoch, (order, masks) in enumerate(zip(*drawn, strict=True)):
        dropout.load(masks)
        shuffled = [array[order] for array in train]
        model.fit(*shuffled, initial_epoch=epoch, epochs=epoch + 1, shuffle=False, **more)
        if model.stop_training:
            return


def train_phase(
    phase: int,
    seed: int,
    train: tuple,
    validation: tuple,
    start: Path | None = None,
    drawn: tuple | None = None,
) -> tuple[keras.Model, Keeper, int]:
    """Train one network, another one where it died; return it with the number of dead ones."""
    epochs, learning_rate = PHASES[phase]
    for dead in range(MOST_RESTARTS + 1):
        sequence = np.random.SeedSequence([seed, phase, dead])
        keras.utils.set_random_seed(int(sequence.generate_state(1)[0]))
        given = drawn if dead == 0 else None
        model = build_model(learning_rate, 0 if given is None else len(train[0]))
        if start is not None and dead == 0:
            model.set_weights(keras.models.load_model(start, compile=False).get_weights())
        keeper = Keeper(validation[0])
        fit(
            model,
            train,
            epochs,
            given,
            batch_size=BATCH,
            validation_data=validation,
            callbacks=[keeper],
            verbose=0,
        )
        model.set_weights(keeper.kept)
        if keeper.seen_alive and np.ptp(predict(model, validation[0])) >= CONSTANT_SPREAD:
            return model, keeper, dead
    sys.exit(f"phase {phase}: all {MOST_RESTARTS + 1} networks died")


def main(data: Path, seed: int, split: Path, out: Path, same: bool) -> None:
    """Train both stages on the given split and save the probabilities."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    images = read_images(data / "Xtrain1.npy")
    labels = np.load(data / "Ytrain1.npy").reshape(-1).astype(np.float32)
    extra = read_images(data / "Xtrain1_extra.npy")
    with np.load(split) as rows:
        train, chosen = rows["train"], rows["validation"]
        drawn = [
            (rows[f"orders{phase}"], rows[f"masks{phase}"]) if same else None for phase in (0, 1)
        ]
    starts = [split.with_suffix(f".start{number}.h5") if same else None for number in (0, 1)]
    validation = (images[chosen], labels[chosen])

    first, first_keeper, first_dead = train_phase(
        0, seed, (images[train], labels[train]), validation, starts[0], drawn[0]
    )
    pseudo = extra[predict(first, extra) < PSEUDO_THRESHOLD]
    merged = np.concatenate([images[train], pseudo])
    merged_labels = np.concatenate([labels[train], np.zeros(len(pseudo), np.float32)])
    if same and drawn[1][0].shape[1] != len(merged):
        drawn[1] = None
    last, last_keeper, last_dead = train_phase(
        1, seed, (merged, merged_labels), validation, starts[1], drawn[1]
    )
    np.savez(
        out,
        initial=predict(first, validation[0]),
        final=predict(last, validation[0]),
        test=predict(last, read_images(data / "Xtest1.npy")),
        pseudo_labels=len(pseudo),
        restarts=[first_dead, last_dead],
        best_epochs=[first_keeper.epoch, last_keeper.epoch],
    )


if __name__ == "__main__":
    main(*(Path(sys.argv[1]), int(sys.argv[2])), *map(Path, sys.argv[3:5]), "same" in sys.argv[5:])
