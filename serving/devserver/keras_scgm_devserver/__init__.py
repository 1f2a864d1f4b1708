"""A development server that answers as TensorFlow Serving does, over REST and gRPC.

It is not TensorFlow Serving. It loads SavedModels as the server does (a graph in a C++ session, without Keras or
Python code of the model) and gives the same answers, so that clients and exported models can be tried on a machine
without the server. It neither batches requests nor reloads models nor collects metrics. For use by others run
TensorFlow Serving itself.
"""

from keras_scgm_devserver.errors import ServerError
from keras_scgm_devserver.limits import Limits
from keras_scgm_devserver.models import Catalogue, Model, ModelVersion
from keras_scgm_devserver.rest import NAME
from keras_scgm_devserver.server import Address, serve

__all__ = ["NAME", "Address", "Catalogue", "Limits", "Model", "ModelVersion", "ServerError", "serve"]
