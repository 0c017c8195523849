"""Make keras2.h5, keras2.keras and keras2_expected.npz, and those of keras2_student, by Keras 2.

python -m venv KERAS2 && KERAS2/bin/pip install tensorflow-cpu==2.15.1 "numpy<2"
KERAS2/bin/python tests/golden/make_keras2.py
"""

from pathlib import Path

import keras
import numpy as np

HERE = Path(__file__).parent
layers = keras.layers
assert keras.__version__.startswith("2.")


def main() -> None:
    """Write the files."""
    keras.utils.set_random_seed(7)
    chain = [
        layers.Rescaling(1 / 255),
        layers.Conv2D(4, 3, activation="relu"),
        layers.BatchNormalization(),
        layers.MaxPooling2D(2),
        layers.Conv2D(6, 3, strides=2, padding="same"),
        layers.LeakyReLU(0.1),
        layers.AveragePooling2D(3, strides=2, padding="same"),
        layers.Flatten(),
        layers.Dense(5, activation="tanh"),
        layers.Dropout(0.3),
    ]
    sequential = keras.Sequential([layers.Input((28, 28, 1)), *chain, layers.Dense(1, "sigmoid")])
    start = layers.Input((28, 28, 1))
    last = start
    for layer in (
        layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Activation("swish"),
        layers.AveragePooling2D(2), layers.Conv2D(6, 3, activation="relu"),
        layers.GlobalAveragePooling2D(), layers.Dense(2), layers.Softmax(),
    ):  # fmt: skip
        last = layer(last)
    functional = keras.Model(start, last)
    random = np.random.default_rng(0)
    for model in (sequential, functional):
        model.set_weights(
            [
                weight + (0.05 * random.random(weight.shape)).astype(np.float32)
                for weight in model.get_weights()
            ]
        )
    images = random.integers(0, 256, (20, 28, 28)) * np.linspace(0.1, 1, 20)[:, None, None]
    images = images.astype(np.uint8)
    sequential.save(HERE / "keras2.h5")
    functional.save(HERE / "keras2.keras")
    np.savez_compressed(
        HERE / "keras2_expected.npz",
        images=images,
        h5=sequential.predict(images[..., None].astype(np.float32), verbose=0)[:, 0],
        keras=functional.predict(images[..., None] / np.float32(255), verbose=0)[:, 1],
    )


def student() -> None:
    """Write models with augmentation, adapted normalization and models within the model."""
    keras.utils.set_random_seed(8)
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (20, 28, 28)) * np.linspace(0.1, 1, 20)[:, None, None]
    images = images.astype(np.uint8)
    batch = images[..., None].astype(np.float32)

    def chain() -> list[keras.layers.Layer]:
        normalization = layers.Normalization()
        normalization.adapt(batch)
        return [
            keras.Sequential(
                [layers.RandomFlip(), layers.RandomRotation(0.1), layers.RandomZoom(0.1)],
                name="augmentation",
            ),
            normalization,
            keras.Sequential([layers.Conv2D(3, 5, strides=2), layers.BatchNormalization()]),
            layers.ReLU(),
            layers.RandomContrast(0.1),
            layers.Conv2D(4, 3),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.AlphaDropout(0.1),
        ]

    sequential = keras.Sequential(
        [layers.Input((28, 28, 1)), *chain(), layers.Dense(1, activation="sigmoid")]
    )
    start = layers.Input((28, 28, 1))
    last = start
    for layer in (*chain(), layers.Dense(2, activation="softmax")):
        last = layer(last)
    functional = keras.Model(start, last)
    sequential.save(HERE / "keras2_student.h5")
    functional.save(HERE / "keras2_student.keras")
    np.savez_compressed(
        HERE / "keras2_student_expected.npz",
        images=images,
        h5=sequential.predict(batch, verbose=0)[:, 0],
        keras=functional.predict(batch, verbose=0)[:, 1],
    )


if __name__ == "__main__":
    main()
    student()
