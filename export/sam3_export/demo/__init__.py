"""The demonstration checkpoint, which `sam3-export` takes by default. The folder demo/ of the project trains it."""

from pathlib import Path

# In the layout of sam3.pt; its sizes are beside it, in sam3_demo.json.
CHECKPOINT = Path(__file__).parent / "sam3_demo.pt"
