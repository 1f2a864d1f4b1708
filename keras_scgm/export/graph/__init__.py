"""The whole segmentation in TensorFlow's core operations, module by module as in `keras_scgm`."""
