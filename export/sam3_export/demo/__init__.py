"""The demonstration checkpoint, the default of `sam3-export`. The project's folder demo/ trains it."""

from pathlib import Path

# In the layout of sam3.pt; its sizes are beside it, in sam3_demo.json.
CHECKPOINT = Path(__file__).parent / "sam3_demo.pt"
