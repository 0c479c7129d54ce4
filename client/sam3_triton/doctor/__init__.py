"""`sam3 doctor`: finds faults in client, server and repository, and suggests fixes."""

from sam3_triton.doctor.examination import examine

__all__ = ["examine"]
