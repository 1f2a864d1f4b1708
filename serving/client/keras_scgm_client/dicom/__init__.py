"""A DICOM gateway: T2*-weighted series in, segmentations and pictures out, through the same server."""
