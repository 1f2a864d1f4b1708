"""How large an image may be: the numbers of `keras_scgm.limits`, by which the served models refuse."""

MAX_SLICE_VOXELS = 2**24
"""Of an axial slice."""

MAX_FIELD_MM2 = 600.0 * 600.0
"""Field of view of an axial slice."""

MAX_UNPACKED_BYTES = 2**30
"""Of a file."""

FREE_UNPACKED_BYTES, UNPACKED_RATIO = 2**23, 8
"""A file may unpack to so many bytes, and to so many times its own size besides."""

FREE_SLICES, BYTES_PER_SLICE = 16, 3 * 2**12
"""A file may have so many axial slices, and one more for so many bytes of its own."""
