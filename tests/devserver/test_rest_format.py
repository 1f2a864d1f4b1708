"""TensorFlow Serving's JSON to arrays, and arrays to JSON."""

import json

import numpy as np
import pytest
from keras_scgm_devserver.rest_format import FormatError, format_outputs, parse_document, parse_inputs

FLOATS = {"slices": np.dtype(np.float32)}


STRINGS = {"nifti_bytes": np.dtype(object)}


@pytest.mark.parametrize(
    ("document", "dtypes", "expected"),
    [
        ({"inputs": [[1, 2.5]]}, FLOATS, [[1, 2.5]]),
        ({"inputs": {"slices": 3}}, FLOATS, 3),
        ({"instances": [[1], [2]]}, FLOATS, [[1], [2]]),
        ({"instances": [{"slices": [1]}, {"slices": [2]}]}, FLOATS, [[1], [2]]),
        ({"inputs": "text"}, STRINGS, b"text"),
        ({"inputs": {"b64": "AAE="}}, STRINGS, b"\0\1"),
        ({"instances": [{"b64": "AAE="}, "x"]}, STRINGS, [b"\0\1", b"x"]),
        ({"inputs": []}, STRINGS, []),
    ],
)
def test_requests_to_arrays(document, dtypes, expected):
    arrays, layout = parse_inputs(document, dtypes)
    ((name, array),) = arrays.items()
    assert array.dtype == dtypes[name]
    assert layout == ("row" if "instances" in document else "column")
    np.testing.assert_array_equal(array, np.array(expected, dtypes[name]))


@pytest.mark.parametrize(
    ("document", "dtypes"),
    [
        ({"inputs": [1], "instances": [1]}, FLOATS),
        ({"instances": []}, FLOATS),
        ({"instances": 1}, FLOATS),
        ({"inputs": [[1], [2, 3]]}, FLOATS),
        ({"inputs": [True]}, FLOATS),
        ({"inputs": [1e300]}, FLOATS),
        ({"inputs": [None]}, FLOATS),
        ({"inputs": [1.5]}, {"n": np.dtype(np.int32)}),
        ({"inputs": [1]}, {**FLOATS, **STRINGS}),
        ({"instances": [1]}, {**FLOATS, **STRINGS}),
        ({"instances": [{"slices": 1}, 2]}, FLOATS),
        ({"instances": [{"other": 1}]}, FLOATS),
        ({"inputs": [["a"], "b"]}, STRINGS),
        ({"inputs": ["a", ["b"]]}, STRINGS),
        ({"inputs": [["a"], ["b", "c"]]}, STRINGS),
        ({"inputs": [{"b64": 1}]}, STRINGS),
    ],
)
def test_requests_that_are_refused(document, dtypes):
    with pytest.raises(FormatError):
        parse_inputs(document, dtypes)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[1]",
        b"{",
        b'{"signature_name": 1}',
        b"[" * 100_000,
        b'{"inputs": "\\ud800"}',
        b'{"\\udc00": 1}',
    ],
)
def test_bodies_that_are_refused(body):
    with pytest.raises(FormatError):
        parse_document(body)


def test_arrays_to_answers():
    file = np.array([b"\0\1"], object)
    assert json.loads(format_outputs({"mask_bytes": file}, "column")) == {"outputs": [{"b64": "AAE="}]}
    two = {"a": np.array([1.0, np.nan], np.float32), "text": np.array([b"x", b"y"], object)}
    assert (
        format_outputs(two, "row") == b'{"predictions": [{"a": 1.0, "text": "x"}, {"a": NaN, "text": "y"}]}'
    )
    assert json.loads(format_outputs({"a": np.array([1, 2])}, "row")) == {"predictions": [1, 2]}
    with pytest.raises(FormatError, match="inconsistent batch sizes"):
        format_outputs({"a": np.zeros(2), "b": np.zeros(3)}, "row")
    with pytest.raises(FormatError, match="scalar"):
        format_outputs({"a": np.zeros(())}, "row")
