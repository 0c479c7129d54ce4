"""`sam3 doctor`: what is wrong with client, server and repository, and what to do about it."""

from sam3_triton.doctor.examination import examine

__all__ = ["examine"]
