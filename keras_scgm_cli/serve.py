"""`keras-scgm serve`: starts the development server with exported models."""

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from keras_scgm_cli.say import say
from keras_scgm_cli.stderr import import_keras_scgm


def serve(
    folder: Annotated[Path, typer.Argument(help="Output folder of keras-scgm export, or one model in it.")],
    config: Annotated[
        Path | None, typer.Option(help="A models.config with version policies and labels.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; there is no access control.")
    ] = "127.0.0.1",
    rest_port: Annotated[int, typer.Option(help="0 selects a free port.", min=0, max=65535)] = 8501,
    grpc_port: Annotated[int, typer.Option(help="0 selects a free port.", min=0, max=65535)] = 8500,
) -> None:
    """Development server with the REST and gRPC interfaces of TensorFlow Serving.

    For trying exported models and clients on this machine. For use by others see serving/README.md.

    \b
    Example:
      keras-scgm serve models/
    """
    import_keras_scgm()
    import tensorflow as tf

    from keras_scgm.errors import InputError

    try:
        import keras_scgm_devserver as dev_server
    except ImportError as error:
        if not (error.name or "").startswith(("grpc", "tensorflow_serving", "waitress")):
            raise
        raise InputError(f"{error.name} is not installed; pip install 'keras-scgm[serving]'") from error

    tf.get_logger().setLevel("ERROR")
    catalogue = dev_server.Catalogue.load(folder, config)
    stop = threading.Event()
    for received in (signal.SIGINT, signal.SIGTERM):
        signal.signal(received, lambda *_: stop.set())
    with dev_server.serve(catalogue, host, rest_port, grpc_port) as address:
        for name, model in catalogue.models.items():
            labels = "".join(f", {label} is {number}" for label, number in model.labels.items())
            say(f"{name}: version {', '.join(map(str, sorted(model.versions)))}{labels}")
        say(f"{dev_server.NAME}; REST {address.rest_url}, gRPC {address.grpc}; stop with Ctrl-C")
        stop.wait()
