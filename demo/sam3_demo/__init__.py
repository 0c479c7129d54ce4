"""A small demonstration network of SAM 3's architecture: its scenes, its training and its evaluation."""
