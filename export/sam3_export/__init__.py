"""Turns a SAM 3 checkpoint into the image encoder and the mask decoder that Triton serves."""
