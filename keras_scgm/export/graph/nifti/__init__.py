"""NIfTI files in TensorFlow's core operations: bytes to voxels, and results to bytes.

The rules are those of `keras_scgm.nifti` and `keras_scgm.volume`, without Python and nibabel. A file that cannot be
used is an INVALID_ARGUMENT error of one line: which file of the request, what is wrong with it, and what to do.
"""

from keras_scgm.export.graph.nifti.image import StoredImage as StoredImage
from keras_scgm.export.graph.nifti.reading import read_nifti as read_nifti
