"""Answers that fit the image, and answers that do not."""

import json
import math
import re
import struct

import nibabel as nib
import numpy as np
import pytest
from client_checks import answer_of, names, rest_answers, tiny_answer
from keras_scgm_client import Client, ServerError
from keras_scgm_client.answer import check_answer, white_matter
from keras_scgm_client.grid import parse_grid
from tiny_serving import THRESHOLD, nifti_bytes, random_voxels


def changed(offset, form, *values, file=None):
    data = bytearray(nifti_bytes((random_voxels(0) > THRESHOLD).astype(np.uint8)) if file is None else file)
    struct.pack_into(form, data, offset, *values)
    return bytes(data)


def as_float(values):
    image = nib.Nifti1Image(np.full((8, 9, 3), 0.25, np.float32), np.diag([-1.0, 1, 1, 1]))
    data = bytearray(image.to_bytes())
    data[352 : 352 + 4 * len(values)] = np.array(values, np.float32).tobytes()
    return bytes(data)


WRONG_ANSWERS = {
    "origin": (changed(292, "<f", 3.0), "not on the grid"),
    "flipped axis": (changed(280, "<f", 1.0), "not on the grid"),
    "qform": (changed(256, "<f", 0.5), "not on the grid"),
    "qform code": (changed(252, "<h", 2), "not on the grid"),
    "spacing": (changed(80, "<f", 2.0), "not on the grid"),
    "shape": (changed(42, "<2h", 9, 8), "not on the grid"),
    "type": (changed(70, "<h", 256), "type 256"),
    "scaled": (changed(112, "<f", 2.0), "scaled by 2"),
    "intercept": (changed(112, "<2f", 1.0, 1.0), "scaled by 1"),
    "values": (changed(360, "<B", 2), "other than 0 and 1"),
    "cut off": (changed(0, "<i", 348)[:-1], "bytes; check the connection"),
    "too long": (changed(0, "<i", 348) + b"\0", "bytes; check the connection"),
    "text": (b"no image", "no image"),
    "a mask for probabilities": (changed(0, "<i", 348), "type 2"),
    "over 1": (as_float([0.5, 1.01]), "other than 0 to 1"),
    "negative": (as_float([-0.01]), "other than 0 to 1"),
    "NaN": (as_float([np.nan]), "other than 0 to 1"),
    "infinite": (as_float([np.inf]), "other than 0 to 1"),
}


@pytest.mark.parametrize("what", WRONG_ANSWERS)
def test_answers_that_do_not_fit_the_image_are_not_written(image, what):
    file, message = WRONG_ANSWERS[what]
    soft = "for probabilities" in what or "0 to 1" in message
    name = "probability_bytes" if soft else "mask_bytes"
    before = names(image.parent)
    with (
        rest_answers(answer_of(**{name: file})) as (url, _),
        Client(url, soft=soft) as client,
        pytest.raises(ServerError, match=message),
    ):
        client.segment(image)
    assert names(image.parent) == before


@pytest.mark.parametrize("values", [[0.0, 1.0], [-0.0], [1 + 2**-23]])
@pytest.mark.parametrize("order", "<>")
def test_probabilities_that_are_accepted(values, order):
    data = nib.Nifti1Image.from_bytes(as_float(values))
    image = nib.Nifti1Image(
        np.asarray(data.dataobj), data.affine, data.header.as_byteswapped(order), dtype=np.float32
    )
    file = image.to_bytes()
    check_answer(file, parse_grid(file), "probabilities")


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("kind", ["mask", "probabilities"])
def test_white_matter_is_the_rest_of_the_cord(kind, byte_order):
    cord = np.random.default_rng(0).random((8, 9, 3)).astype(np.float32)
    gray_matter = cord * np.random.default_rng(1).random((8, 9, 3)).astype(np.float32)
    if kind == "mask":
        gray_matter, cord = ((each > 0.3).astype(np.uint8) for each in (gray_matter, cord))
    header = nib.Nifti1Header(endianness=byte_order)
    files = [
        nib.Nifti1Image(each, np.eye(4), header, dtype=each.dtype).to_bytes() for each in (gray_matter, cord)
    ]
    made = nib.Nifti1Image.from_bytes(white_matter(*files, kind))
    assert made.header == nib.Nifti1Image.from_bytes(files[0]).header
    np.testing.assert_array_equal(np.asarray(made.dataobj), cord - gray_matter)
    with pytest.raises(ServerError, match="gray matter outside the cord"):
        white_matter(*files[::-1], kind)


@pytest.mark.parametrize("what", ["values", "cut off", "spacing"])
def test_cords_that_do_not_fit_the_image_are_not_written(image, what):
    file, message = WRONG_ANSWERS[what]
    before, mask = names(image.parent), nifti_bytes(np.zeros((8, 9, 3), np.uint8))
    with (
        rest_answers(answer_of(mask_bytes=mask, cord_bytes=file)) as (url, _),
        Client(url) as client,
        pytest.raises(ServerError, match=message),
    ):
        client.segment(image)
    assert names(image.parent) == before


def test_areas_of_other_slices_are_not_written(image):
    """Of an answer that has verdicts; a server that cuts rows off would shift every area after it."""
    answer = tiny_answer(image)
    for name in ("area_mm2", "n_voxels"):
        short = {**answer, name: [answer[name][0][:2]]}
        with (
            rest_answers((200, json.dumps({"outputs": short}).encode(), {})) as (url, _),
            Client(url) as client,
            pytest.raises(ServerError, match="contradicts itself"),
        ):
            client.segment(image)
    short = {**answer, "n_slices": [2]}
    with (
        rest_answers((200, json.dumps({"outputs": short}).encode(), {})) as (url, _),
        Client(url) as client,
        pytest.raises(ServerError, match="areas of 2 slices for an image of 3"),
    ):
        client.segment(image)


WRONG_MEASUREMENTS = {
    "a text for an area": ({"area_mm2": [["x", 1.0, 1.0]]}, "could not convert"),
    "nothing for a count": ({"n_voxels": [[None, 1, 1]]}, "contradicts itself"),
    "a number for a text": ({"slice_reason": [[1, "", ""]]}, "int in place of a text"),
    "a character that no file can hold": ({"reason": ["\ud800"]}, "surrogates"),
    "no verdict": ({"verdict": ["perhaps"]}, "verdict perhaps"),
    "no verdict of a slice": ({"slice_verdict": [["pass", "", "pass"]]}, "contradicts itself"),
    "provenance without weights": ({"provenance": ["{}"]}, "weights"),
    "weights without a name": ({"provenance": ['{"weights": [{"name": 1}]}']}, "int in place of a text"),
    "nested provenance": (
        {"provenance": ['{"weights": [], "x": ' + "[" * 900 + "]" * 900 + "}"]},
        "too many",
    ),
    "a negative area": ({"area_mm2": [[-1.0, 1.0, 1.0]]}, "areas other than 0 to 360000"),
    "a cord larger than any slice": (
        {"cord_area_mm2": [[1e308] * 3]},
        "areas of the cord other than 0 to 360000",
    ),
    "an endless area": ({"area_mm2": [[math.inf, 1.0, 1.0]]}, "areas other than"),
    "more voxels than in any slice": (
        {"n_voxels": [[2**25, 1, 1]]},
        "counts of voxels other than 0 to 16777216",
    ),
    "an endless count": ({"n_voxels": [[math.inf, 1, 1]]}, "contradicts itself"),
    "a coefficient over 1": ({"predicted_dsc": [math.inf]}, "coefficients other than 0 to 1"),
    "an empty cord": ({"cord_bytes": [{"b64": ""}]}, "no image"),
}


@pytest.mark.parametrize("what", WRONG_MEASUREMENTS)
def test_measurements_that_no_server_gives_are_errors_of_their_image(image, what):
    change, message = WRONG_MEASUREMENTS[what]
    before = names(image.parent)
    content = json.dumps({"outputs": {**tiny_answer(image), **change}}).encode()
    with rest_answers((200, content, {})) as (url, _), Client(url) as client:
        (outcome,) = client.segment_all([image])
    assert isinstance(outcome.error, ServerError)
    assert re.search(message, str(outcome.error))
    assert names(image.parent) == before
