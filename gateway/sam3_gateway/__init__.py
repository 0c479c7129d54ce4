"""The HTTP service in front of Triton."""
