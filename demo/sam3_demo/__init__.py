"""The demonstration, and the scenes, training and evaluation of its small network of SAM 3's architecture."""
