"""DICOM series as input and DICOM segmentations as output (optional extra `dicom`)."""
