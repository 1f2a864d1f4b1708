"""NIfTI files and nibabel images as volumes."""

from keras_scgm.nifti.affine import axis_codes as axis_codes
from keras_scgm.nifti.other_files import conversion_hint as conversion_hint
from keras_scgm.nifti.other_files import holds_dicom as holds_dicom
from keras_scgm.nifti.reading import Layout as Layout
from keras_scgm.nifti.reading import read_layout as read_layout
from keras_scgm.nifti.reading import read_mask as read_mask
from keras_scgm.nifti.reading import read_volume as read_volume
from keras_scgm.nifti.reading import volume_from_image as volume_from_image
