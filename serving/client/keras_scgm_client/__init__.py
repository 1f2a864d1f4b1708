"""Sends images to a TensorFlow Serving server of keras-scgm models and writes the masks."""

from keras_scgm_client.client import Client, Job
from keras_scgm_client.errors import ClientError, ImageError, ServerError, ServerUnavailable, SettingsError

__all__ = ["Client", "ClientError", "ImageError", "Job", "ServerError", "ServerUnavailable", "SettingsError"]
