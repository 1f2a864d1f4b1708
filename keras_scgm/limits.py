"""How large an image may be: the same for the command, the served graph and the client.

No scanner comes near the first two. Those of a request bound what a server does by what it was sent, so that a few
bytes cannot keep it busy; an image that exceeds them can be sent uncompressed, or segmented by the command.
"""

MAX_SLICE_VOXELS = 2**24
"""Of an axial slice: 4096 x 4096."""

MAX_FIELD_MM2 = 600.0 * 600.0
"""Field of view of an axial slice; a larger one has wrong units."""

MAX_REQUEST_FILES = 2
"""Each may need a search, which takes the time of 8 slices however small the file is."""

MAX_UNPACKED_BYTES = 2**30
"""Of a file of a request."""

FREE_UNPACKED_BYTES, UNPACKED_RATIO = 2**23, 8
"""The files of a request may unpack to so many bytes together, and each to so many times its own size besides."""

FREE_SLICES, BYTES_PER_SLICE = 16, 3 * 2**12
"""The files of a request may have so many axial slices together, and each one more for so many bytes of its own."""
