"""The original job in TensorFlow/Keras as its script does it, for `job`.

    python keras_job.py DATA THREADS SEED OUT.npy

Trains on a random four fifths of the labels, adds what is confidently "without crater", trains
again, and writes the probabilities of Xtest1.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
from draw import draw_validation
from keras_original import PSEUDO_THRESHOLD, predict, read_images, train_phase


def main(data: Path, threads: int, seed: int, out: Path) -> None:
    """Train both stages and save the predictions of the last one for the test set."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    images = read_images(data / "Xtrain1.npy")
    labels = np.load(data / "Ytrain1.npy").reshape(-1).astype(np.float32)
    extra = read_images(data / "Xtrain1_extra.npy")
    train, chosen = draw_validation(labels, seed)
    validation = (images[chosen], labels[chosen])
    first, _, _ = train_phase(0, seed, (images[train], labels[train]), validation)
    pseudo = extra[predict(first, extra) < PSEUDO_THRESHOLD]
    merged = np.concatenate([images[train], pseudo])
    merged_labels = np.concatenate([labels[train], np.zeros(len(pseudo), np.float32)])
    last, _, _ = train_phase(1, seed, (merged, merged_labels), validation)
    np.save(out, predict(last, read_images(data / "Xtest1.npy")))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
