"""SavedModels for TensorFlow Serving, and a development stand-in for the server."""
