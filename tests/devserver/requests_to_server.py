"""Requests that the tests of the server share."""

import base64

from tiny_serving import nifti_bytes, random_voxels

NIFTI = "/v1/models/gm_nifti"


SLICES = "/v1/models/gm_slices"


def encoded(data):
    return {"b64": base64.b64encode(data).decode()}


VOXELS = random_voxels(0)


IMAGE = nifti_bytes(VOXELS, compress=True)


def place_of(url):
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)
