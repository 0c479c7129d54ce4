"""Finds concepts in a picture through a server, with the same interface as `finder`."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from sam3_triton import Sam3Client

from sam3_demo.concepts.finder import THRESHOLD, Found
from sam3_demo.concepts.phrases import VISUAL
from sam3_demo.concepts.samples import Query


class ServedFinder:
    """Answers queries about one picture at a time."""

    def __init__(self, client: Sam3Client) -> None:
        """
        Args:
            client: of a server with concept prompts.
        """
        self._client = client

    def look_at(self, image: NDArray[np.uint8]) -> None:
        """Takes a picture, uint8 [H, W, 3], RGB, for the queries that follow."""
        self._png = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
        self._size = np.tile(np.array(image.shape[1::-1], np.float32), 2)

    def find(self, query: Query) -> Found:
        """The instances of a concept.

        Raises:
            Sam3Error: the server did not answer, or with an error.
        """
        text = None if query.phrase.text == VISUAL else query.phrase.text
        boxes, labels = (query.boxes * self._size, query.labels) if len(query.boxes) else (None, None)
        answer = self._client.find(self._png, text=text, boxes=boxes, box_labels=labels, threshold=THRESHOLD)
        return Found(answer.masks, answer.scores, answer.boxes / self._size, answer.presence)
