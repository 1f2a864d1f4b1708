"""SavedModels for TensorFlow Serving, and networks in other formats."""
