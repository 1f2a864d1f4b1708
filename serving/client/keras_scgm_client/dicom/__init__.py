"""DICOM gateway: receives T2*-weighted series, has them segmented by the server and sends the results."""
