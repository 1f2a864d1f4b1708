"""A development server that speaks the REST and gRPC of TensorFlow Serving."""
