"""The half of the demonstration model that finds things by name and by example: its scenes, phrases and training."""
