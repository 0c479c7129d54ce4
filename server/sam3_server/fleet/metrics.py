"""Joins the metrics of several replicas into one scrape."""

from __future__ import annotations

import re
from collections.abc import Mapping

_SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(\{(?P<labels>.*)\})?(?P<value> .*)")
_COMMENT = re.compile(r"# (?P<kind>HELP|TYPE) (?P<name>\S+) .*")
_PART = re.compile(r"_(bucket|sum|count)$")


def join(scrapes: Mapping[int, str | None]) -> str:
    """Joins scrapes in Prometheus' text format; each sample gets the label `replica`, and each metric is listed once.

    Args:
        scrapes: by replica; None: the replica has none now. `sam3_replica_up` is 1 for those that have one.
    """
    comments: dict[str, dict[str, str]] = {}
    samples: dict[str, list[str]] = {}
    for replica, text in scrapes.items():
        for line in (text or "").splitlines():
            if comment := _COMMENT.fullmatch(line):
                comments.setdefault(comment["name"], {}).setdefault(comment["kind"], line)
            elif sample := _SAMPLE.fullmatch(line):
                name = sample["name"]
                metric = name if name in comments else _PART.sub("", name)
                labels = ",".join(filter(None, [f'replica="{replica}"', sample["labels"]]))
                samples.setdefault(metric, []).append(f"{name}{{{labels}}}{sample['value']}")
    lines = ["# HELP sam3_replica_up Whether the replica's metrics could be read.", "# TYPE sam3_replica_up gauge"]
    lines += [f'sam3_replica_up{{replica="{replica}"}} {int(text is not None)}' for replica, text in scrapes.items()]
    for metric, of_metric in samples.items():
        lines += [*comments.get(metric, {}).values(), *of_metric]
    return "\n".join(lines) + "\n"
