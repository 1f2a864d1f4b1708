"""Size limits of images, equal to those of `keras_scgm.limits`, which the served models enforce."""

MAX_SLICE_VOXELS = 2**24
"""Voxels of an axial slice."""

MAX_FIELD_MM2 = 600.0 * 600.0
"""Field of view of an axial slice, mm2."""

MAX_UNPACKED_BYTES = 2**30
"""Size of an uncompressed file, bytes."""

FREE_UNPACKED_BYTES, UNPACKED_RATIO = 2**23, 8
"""An uncompressed file may have the first number of bytes plus the second number times the size of the file as sent."""

FREE_SLICES, BYTES_PER_SLICE = 16, 3 * 2**12
"""A file may have the first number of axial slices plus one for each of the second number of bytes as sent."""
