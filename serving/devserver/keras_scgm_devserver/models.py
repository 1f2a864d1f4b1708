"""The models that are served: versions, labels and signatures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.text_format import Parse, ParseError
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from keras_scgm import checks
from keras_scgm.errors import InputError
from keras_scgm.export.warmup import read_warmup
from keras_scgm_devserver.errors import ServerError, first_line
from keras_scgm_devserver.rest_format import Arrays

_GRPC_CODE = {code.value[0]: code for code in grpc.StatusCode}


class ModelVersion:
    """One version of a model, loaded and warmed up.

    Args:
        folder: Folder of the SavedModel, named by the version's number.

    Raises:
        InputError: The folder holds no SavedModel that a session can load, or a warm-up request fails.
    """

    def __init__(self, folder: Path) -> None:
        self.number = int(folder.name)
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        try:
            with self._session.graph.as_default():
                self.meta_graph = tf.compat.v1.saved_model.load(self._session, ["serve"], str(folder))
        except (OSError, RuntimeError, ValueError, tf.errors.OpError) as error:
            raise InputError(f"{folder}: cannot be loaded ({first_line(error)}); export it again") from error
        self._session.graph.finalize()
        for request in read_warmup(folder):
            try:
                self.predict(request.signature, dict(request.inputs))
            except ServerError as error:
                raise InputError(f"{folder}: a warm-up request fails ({error}); export it again") from error

    def signature(self, name: str) -> Any:
        """SignatureDef of a name; the empty name stands for `serving_default`."""
        name = name or "serving_default"
        if name not in self.meta_graph.signature_def:
            raise ServerError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f'Serving signature name: "{name}" not found in signature def',
            )
        return self.meta_graph.signature_def[name]

    def input_dtypes(self, signature: str) -> dict[str, np.dtype[Any]]:
        """NumPy type of each input; `object` for strings."""
        inputs = self.signature(signature).inputs
        return {name: np.dtype(tf.as_dtype(info.dtype).as_numpy_dtype) for name, info in inputs.items()}

    def predict(self, signature: str, inputs: Arrays, outputs: Sequence[str] = ()) -> Arrays:
        """Run the graph.

        Args:
            signature: Name of the signature; empty for `serving_default`.
            inputs: Array of each input, by name.
            outputs: Names of the requested outputs; all if empty.

        Raises:
            ServerError: The request does not fit the signature, or an operation fails.
        """
        definition = self.signature(signature)
        if set(inputs) != set(definition.inputs):
            raise ServerError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"input keys {sorted(inputs)} do not match the signature's {sorted(definition.inputs)}",
            )
        for name, dtype in self.input_dtypes(signature).items():
            if inputs[name].dtype != dtype:
                raise ServerError(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"Expects {name} to be {dtype.name} but {inputs[name].dtype.name} is provided",
                )
        unknown = set(outputs) - set(definition.outputs)
        if unknown:
            raise ServerError(
                grpc.StatusCode.INVALID_ARGUMENT, f"output keys {sorted(unknown)} not in signature"
            )
        wanted = {name: definition.outputs[name].name for name in outputs or definition.outputs}
        feeds = {definition.inputs[name].name: array for name, array in inputs.items()}
        try:
            values: dict[str, Any] = self._session.run(wanted, feeds)
        except tf.errors.OpError as error:
            raise ServerError(_GRPC_CODE[error.error_code], error.message) from error
        except ValueError as error:
            # The Python session compares shapes; TensorFlow Serving leaves that to the graph.
            raise ServerError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
        return {
            name: np.asarray(value, object if isinstance(value, bytes) else None)
            for name, value in values.items()
        }


@dataclass(frozen=True)
class Model:
    """The served versions of a model, and the version labels."""

    versions: dict[int, ModelVersion]
    labels: Mapping[str, int] = field(default_factory=dict)


class Catalogue:
    """Models by name.

    Args:
        models: Served models, by name.
    """

    def __init__(self, models: Mapping[str, Model]) -> None:
        self.models = dict(models)

    @classmethod
    def load(cls, folder: str | Path, config: str | Path | None = None) -> Catalogue:
        """Load the models of a folder, or those that a configuration names.

        Args:
            folder: A model (a folder of numbered versions), or a folder of models.
            config: `models.config` of TensorFlow Serving, with version policies and labels. Models are expected in
                `folder`, under the last part of their `base_path`. Without a configuration the latest version of
                each model is served.

        Raises:
            InputError: No model was found, a file cannot be read, or a version is missing.
        """
        folder = checks.path("folder", folder)
        if config is not None:
            return cls({entry.name: _load_model(folder, entry) for entry in _read_config(Path(config))})
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; make one with keras-scgm export")
        candidates = [folder] if _versions(folder) else sorted(filter(_versions, folder.iterdir()))
        if not candidates:
            raise InputError(
                f"{folder}: holds no model with a numbered version; make one with keras-scgm export"
            )
        models = {}
        for path in candidates:
            latest, version = max(_versions(path).items())
            models[path.name] = Model({latest: ModelVersion(version)})
        return cls(models)

    def version(self, name: str, number: int | None = None, label: str = "") -> ModelVersion:
        """The requested version; the latest if neither number nor label is given."""
        model = self.models.get(name)
        if model is None:
            asked = f"Specific({name}, {number})" if number is not None else f"Latest({name})"
            raise ServerError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {asked}")
        if label:
            if label not in model.labels:
                raise ServerError(
                    grpc.StatusCode.INVALID_ARGUMENT, f"Unrecognized servable version label: {label}"
                )
            number = model.labels[label]
        if number is None:
            number = max(model.versions)
        if number not in model.versions:
            raise ServerError(
                grpc.StatusCode.NOT_FOUND, f"Servable not found for request: Specific({name}, {number})"
            )
        return model.versions[number]

    def status(self, name: str, number: int | None = None, label: str = "") -> Any:
        """GetModelStatusResponse of one version, or of all versions of a model."""
        model = self.models.get(name)
        if model is None:
            raise ServerError(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {name}")
        if label:
            number = self.version(name, label=label).number
        if number is not None and number not in model.versions:
            raise ServerError(grpc.StatusCode.NOT_FOUND, f"Could not find version {number} of model {name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for served in sorted(model.versions, reverse=True) if number is None else [number]:
            status = response.model_version_status.add(
                version=served, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE
            )
            status.status.error_code = 0
        return response

    def metadata(self, name: str, number: int | None = None, label: str = "") -> Any:
        """GetModelMetadataResponse with the signatures of a version."""
        version = self.version(name, number, label)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for signature_name, signature in version.meta_graph.signature_def.items():
            signatures.signature_def[signature_name].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = name
        response.model_spec.version.value = version.number
        response.metadata["signature_def"].Pack(signatures)
        return response


def _versions(folder: Path) -> dict[int, Path]:
    """The versions in the folder of a model, by number."""
    if not folder.is_dir():
        return {}
    return {
        int(path.name): path
        for path in folder.iterdir()
        if path.is_dir() and path.name.isascii() and path.name.isdigit()
    }


def _read_config(path: Path) -> list[Any]:
    try:
        config = Parse(path.read_text(encoding="utf-8"), ModelServerConfig())
    except (OSError, UnicodeDecodeError, ParseError) as error:
        raise InputError(
            f"{path}: not a models.config of TensorFlow Serving ({first_line(error)})"
        ) from error
    if not config.model_config_list.config:
        raise InputError(f"{path}: names no model; add one to model_config_list")
    return list(config.model_config_list.config)


def _load_model(folder: Path, config: ModelConfig) -> Model:
    path = folder / Path(config.base_path).name
    present = _versions(path)
    if not present:
        raise InputError(
            f"{path}: holds no numbered version of {config.name}; make one with keras-scgm export"
        )
    policy = config.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        wanted = sorted(present)
    elif kind == "specific":
        wanted = list(policy.specific.versions)
    else:
        wanted = sorted(present)[-(policy.latest.num_versions or 1) :]
    for number in [*wanted, *config.version_labels.values()]:
        if number not in present or number not in wanted:
            raise InputError(
                f"{path}: version {number} of {config.name} is missing or not served; correct the policy"
            )
    return Model({number: ModelVersion(present[number]) for number in wanted}, dict(config.version_labels))
