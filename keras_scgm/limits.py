"""Limits of the size of images and requests: the same for the command, the served graph and the client.

No scanner produces images near the first two limits. The limits of a request grow with its size, so that a few bytes
cannot cause much work on a server; an image beyond them can be sent uncompressed, or segmented by the command.
"""

MAX_SLICE_VOXELS = 2**24
"""Voxels of an axial slice: 4096 x 4096."""

MAX_FIELD_MM2 = 600.0 * 600.0
"""Field of view of an axial slice; a larger one indicates wrong units."""

MAX_REQUEST_FILES = 2
"""Files of a request. Each may need a search for the cord, which takes the time of 8 slices for the smallest file."""

MAX_UNPACKED_BYTES = 2**30
"""Size of a file of a request after decompression."""

FREE_UNPACKED_BYTES, UNPACKED_RATIO = 2**23, 8
"""Bytes after decompression: an allowance shared by the files of a request, and a multiple of each file's own size."""

FREE_SLICES, BYTES_PER_SLICE = 16, 3 * 2**12
"""Axial slices: an allowance shared by the files of a request, and the bytes of a file that allow one more slice."""
