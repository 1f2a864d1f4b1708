"""Converts TensorFlow Serving's JSON requests to arrays, and arrays to JSON answers.

The rules are those of its REST documentation: `instances` is a list of rows, `inputs` has one value per input.
Binary strings are `{"b64": ...}`; outputs are written in this form if their name ends in `_bytes`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Layout = Literal["row", "column"]
Arrays = dict[str, NDArray[Any]]

_ACCEPTED_KINDS = {"f": "iuf", "i": "iu", "u": "iu", "b": "b"}


class FormatError(ValueError):
    """A request that TensorFlow Serving answers with INVALID_ARGUMENT; the message is the reason."""


def parse_document(body: bytes) -> dict[str, Any]:
    """Parse the JSON object of a predict request.

    Raises:
        FormatError: The body is not JSON, or not an object.
    """
    if not body:
        raise FormatError("JSON Parse error: The document is empty")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"JSON Parse error: {error}") from error
    if b"\\u" in body:
        try:
            json.dumps(document, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise FormatError("JSON Parse error: The surrogate pair in string is invalid.") from error
    if not isinstance(document, dict):
        raise FormatError("JSON Value: is not object")
    if not isinstance(document.get("signature_name", ""), str):
        raise FormatError("'signature_name' key must be a string value.")
    return document


def parse_inputs(document: Mapping[str, Any], dtypes: Mapping[str, np.dtype[Any]]) -> tuple[Arrays, Layout]:
    """Convert the inputs of a predict request to arrays.

    Args:
        document: JSON object of the request.
        dtypes: NumPy type of each input of the signature; `object` for strings.

    Raises:
        FormatError: An input is missing, unknown, ragged or of another type.
    """
    if ("instances" in document) == ("inputs" in document):
        raise FormatError("expecting exactly one of 'inputs' or 'instances' keys")
    if "instances" in document:
        columns = _columns_of(document["instances"], dtypes)
        return {name: _to_array(value, dtypes[name], name) for name, value in columns.items()}, "row"
    value = document["inputs"]
    if not isinstance(value, dict) or _is_binary(value):
        if len(dtypes) > 1:
            raise FormatError("inputs is a plain value/list, but expecting an object")
        value = {next(iter(dtypes)): value}
    missing = sorted(set(dtypes) - set(value))
    if missing:
        raise FormatError(f"Missing named input: {missing[0]} in 'inputs' object.")
    return {name: _to_array(value[name], dtype, name) for name, dtype in dtypes.items()}, "column"


def format_outputs(outputs: Mapping[str, NDArray[Any]], layout: Layout) -> bytes:
    """Format the JSON answer of a predict request.

    Raises:
        FormatError: Outputs by row differ in the size of their first axis.
    """
    values = {name: _to_json(array, name.endswith("_bytes")) for name, array in outputs.items()}
    if layout == "column":
        content = next(iter(values.values())) if len(values) == 1 else values
        return json.dumps({"outputs": content}).encode()
    if any(array.ndim == 0 for array in outputs.values()):
        raise FormatError("a scalar output cannot be written by row; use 'inputs'")
    if len({array.shape[0] for array in outputs.values()}) > 1:
        raise FormatError("outputs have inconsistent batch sizes; use 'inputs'")
    rows: list[Any]
    if len(values) == 1:
        rows = next(iter(values.values()))
    else:
        rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    return json.dumps({"predictions": rows}).encode()


def _columns_of(instances: Any, names: Mapping[str, Any]) -> dict[str, list[Any]]:
    if not isinstance(instances, list) or not instances:
        raise FormatError("Expecting 'instances' to be a list with at least one value")
    named = [isinstance(instance, dict) and not _is_binary(instance) for instance in instances]
    if not any(named):
        if len(names) > 1:
            raise FormatError("instances is a plain list, but expecting list of objects")
        return {next(iter(names)): instances}
    if not all(named) or any(set(instance) != set(names) for instance in instances):
        raise FormatError(f"keys of every instance must be equal to: {','.join(sorted(names))}")
    return {name: [instance[name] for instance in instances] for name in names}


def _to_array(value: Any, dtype: np.dtype[Any], name: str) -> NDArray[Any]:
    if dtype.kind == "O":
        shape: list[int] = []
        inner = value
        while isinstance(inner, list):
            shape.append(len(inner))
            inner = inner[0] if inner else None
        strings = list(_strings(value, len(shape), name))
        array = np.empty(len(strings), object)
        array[:] = strings
        if array.size != np.prod(shape, dtype=int):
            raise FormatError(f"input {name}: Encountered list at unexpected size")
        return array.reshape(shape)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise FormatError(f"input {name}: lists of unequal size or depth") from error
    if array.size and array.dtype.kind not in _ACCEPTED_KINDS[dtype.kind]:
        raise FormatError(f"JSON Value of input {name} is not of expected type: {dtype.name}")
    try:
        with np.errstate(over="raise"):
            return array.astype(dtype, casting="unsafe" if dtype.kind in "fb" else "same_kind")
    except (FloatingPointError, TypeError) as error:
        raise FormatError(f"input {name} does not fit {dtype.name}") from error


def _strings(value: Any, depth: int, name: str) -> Any:
    if isinstance(value, list):
        if depth == 0:
            raise FormatError(f"input {name}: Encountered list at unexpected level")
        for item in value:
            yield from _strings(item, depth - 1, name)
    elif depth:
        raise FormatError(f"input {name}: value found at incorrect level in the JSON DOM")
    elif isinstance(value, str):
        yield value.encode()
    elif _is_binary(value):
        try:
            yield base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, ValueError) as error:
            raise FormatError("Unable to base64 decode") from error
    else:
        raise FormatError(f"JSON Value of input {name} is not of expected type: string")


def _is_binary(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str)


def _to_json(array: NDArray[Any], binary: bool) -> Any:
    if array.dtype.kind != "O":
        return array.tolist()
    texts = np.empty(array.shape, object)
    for index, value in np.ndenumerate(array):
        data = bytes(value)
        texts[index] = {"b64": base64.b64encode(data).decode()} if binary else data.decode(errors="replace")
    return texts.tolist()
