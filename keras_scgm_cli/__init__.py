"""The `keras-scgm` command.

It stands outside `keras_scgm` because importing that package imports Keras and TensorFlow, which takes
seconds and prints log lines: help and mistakes in the command line need not wait for it.
"""
