"""The HTTP service in front of Triton. It needs the extra `gateway`."""
