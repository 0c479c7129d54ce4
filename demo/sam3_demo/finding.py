"""The second half of `make demo`: finds every instance of a phrase and of an example box, and draws them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from sam3_server.layout import REPORT
from sam3_triton import Instances, Sam3Client, overlay_instances
from sam3_triton.masks import open_image

# The training's scene of seed 414, of 504 x 504 pixels; training began at seed 1,000,000.
SCENE = Path("demo/shapes.jpg")
PHRASE = "black star"
EXAMPLE = (222, 151, 329, 262)  # x0, y0, x1, y1 in pixels, around the small orange star
# SAM 3 itself takes most of a minute for the first question on two cores.
_TIMEOUT_S = 600


def find_twice(triton_url: str, repository: Path, out: Path) -> None:
    """Finds a phrase and an example in the bundled scene, prints what was found, and writes found.png into `out`.

    Does nothing if the export in `repository` has no concept models.

    Raises:
        Sam3Error: the server did not answer, or with an error.
    """
    if "concepts" not in json.loads((repository / REPORT).read_text()):
        print("The installed export has no concept models, so nothing is searched for by name or by example.")
        return
    print(f"Triton at {triton_url}: {SCENE}, every instance of a concept")
    with Sam3Client(triton_url, timeout_s=_TIMEOUT_S) as client:
        by_name = _timed(client, f'"{PHRASE}"', text=PHRASE)
        by_example = _timed(client, f"like the box {EXAMPLE}", boxes=[EXAMPLE])
    overlay_instances(open_image(SCENE.read_bytes()), [by_name, by_example]).save(out / "found.png")
    print(f"Wrote {out}/found.png.")


def _timed(client: Sam3Client, name: str, **prompt: Any) -> Instances:
    started = time.monotonic()
    found = client.find(SCENE, **prompt)
    milliseconds = 1000 * (time.monotonic() - started)
    scores = ", ".join(f"{score:.2f}" for score in found.scores)
    print(f"  {name + ':':35} {milliseconds:6.0f} ms   ({f'scores {scores}' if scores else 'nothing found'})")
    return found
