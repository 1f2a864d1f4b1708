"""Client of TensorFlow Serving with keras-scgm models: sends images and writes the masks."""

from keras_scgm_client.client import Client, Outcome
from keras_scgm_client.errors import ClientError, ImageError, ServerError, ServerUnavailable, SettingsError

__version__ = "0.1.0"

__all__ = [
    "Client",
    "ClientError",
    "ImageError",
    "Outcome",
    "ServerError",
    "ServerUnavailable",
    "SettingsError",
    "__version__",
]
