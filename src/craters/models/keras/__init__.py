"""Keras model files: read from an allow-list, written without Keras; no code is executed.

Interface: `KerasModel`, `read_keras`, `build_keras_network`, `write_keras_h5`, `write_keras_zip`.
Needs torch and h5py, but not Keras.
"""

from craters.models.keras.network import KerasNet, build_keras_network
from craters.models.keras.reader import KerasModel, read_keras
from craters.models.keras.writer import write_keras_h5, write_keras_zip

__all__ = [
    "KerasModel",
    "KerasNet",
    "build_keras_network",
    "read_keras",
    "write_keras_h5",
    "write_keras_zip",
]
