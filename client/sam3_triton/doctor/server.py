"""Checks of the server and of the models that it has loaded."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from sam3_triton.client import Sam3Client
from sam3_triton.conversations import PROBE_IMAGE
from sam3_triton.doctor.findings import Finding, fault, megabytes, ok, skipped, warning
from sam3_triton.doctor.inspector import Inspector
from sam3_triton.errors import ConceptsNotServedError, DeadlineExceededError, Sam3Error, ServerUnavailableError
from sam3_triton.served_model import ServedModel
from sam3_triton.wire import Address

ENCODER, TEXT_ENCODER, CACHE = "sam3_image_encoder", "sam3_text_encoder", "sam3_embedding_cache"
DETECTOR = "sam3_concept_detector"
# The models that every repository of this project serves. Which of a server's models are components, written by
# sam3-export, shows in the backends that their configs name.
MODELS = ("sam3", "sam3_encode", CACHE, "sam3_preprocess", ENCODER, "sam3_mask_postprocess")
_PREFIX = "sam3"
_EXPORTED_BACKENDS = ("onnxruntime", "pytorch")
KNOWN_GOOD = "2.51"
# SAM 3's own size (docs/cache.md), for clicks alone, and with the features for concept prompts.
SAM3_BYTES_PER_IMAGE, _SAM3_BYTES_PER_IMAGE_WITH_CONCEPTS = 10_616_832, 21_233_664
_CONCEPT_FEATURES = "BACKBONE_FEATURES"
TIMEOUT_S = 5.0
_OTHER_PROTOCOL_TIMEOUT_S = 2.0
_LOADING = {"loading": "wait until it is loaded"}
_BYTES = {"TYPE_FP32": 4, "TYPE_FP16": 2, "TYPE_BF16": 2}


@dataclass(frozen=True)
class Configs:
    """The models' configs as loaded, and for each config that could not be read, the reason."""

    by_model: dict[str, dict[str, Any]]
    missing: dict[str, str]

    @classmethod
    def of(cls, inspector: Inspector) -> Configs:
        """Reads the configs of all models that the server lists, or that an ensemble uses."""
        configs: dict[str, dict[str, Any]] = {}
        missing: dict[str, str] = {}
        waiting = [*MODELS, *_listed(inspector)]
        while waiting:
            model = waiting.pop(0)
            if model in configs or model in missing:
                continue
            try:
                configs[model] = inspector.config(model)
            except Sam3Error as error:
                missing[model] = f"the config of {model} cannot be read ({error})"
            else:
                steps = configs[model].get("ensemble_scheduling", {}).get("step", [])
                waiting += [str(step["model_name"]) for step in steps]
        return cls(configs, missing)

    @property
    def components(self) -> list[str]:
        """The models whose artifacts `sam3-export` writes."""
        return sorted(model for model, config in self.by_model.items() if config.get("backend") in _EXPORTED_BACKENDS)

    def lacking(self, *models: str) -> str:
        """Why one of these configs is missing; empty if all are there."""
        return next((self.missing[model] for model in models if model in self.missing), "")

    def parameter(self, model: str, name: str) -> str | None:
        """A parameter of a model's config; None if it is not set."""
        value: str | None = self.by_model[model].get("parameters", {}).get(name, {}).get("string_value")
        return value

    def kinds(self, model: str) -> set[str]:
        """Where a model's instances run: CPU, GPU, ..."""
        groups = self.by_model[model].get("instance_group", [])
        return {str(group.get("kind", "KIND_AUTO")).removeprefix("KIND_") for group in groups}

    def is_stand_in(self, model: str) -> bool:
        """Whether this project's stand-in backend runs the model instead of a native one."""
        return self.by_model[model].get("runtime") == "model.py"

    def largest_batch(self, model: str) -> int:
        """How many requests one execution of a model takes."""
        return max(1, int(self.by_model[model].get("max_batch_size", 0)))

    @property
    def has_concept_features(self) -> bool:
        """Whether the image encoder also computes the features for concept prompts."""
        outputs = self.by_model.get(ENCODER, {}).get("output", [])
        return any(output.get("name") == _CONCEPT_FEATURES for output in outputs)

    @property
    def sam3s_bytes_per_image(self) -> int:
        """Bytes of one image in the cache, if the model is of SAM 3's own size."""
        return _SAM3_BYTES_PER_IMAGE_WITH_CONCEPTS if self.has_concept_features else SAM3_BYTES_PER_IMAGE

    def bytes_per_image(self) -> int | None:
        """Bytes of one image in the cache; None if the encoder's config leaves axes open."""
        outputs = self.by_model[ENCODER].get("output", [])
        sizes = [
            _BYTES.get(str(output.get("data_type")), 0) * prod(max(0, int(axis)) for axis in output.get("dims", [0]))
            for output in outputs
        ]
        return sum(sizes) if sizes and all(sizes) else None


def _listed(inspector: Inspector) -> list[str]:
    """This project's models in the server's list; none if the server keeps it closed, which `check_models` reports."""
    try:
        return [entry["name"] for entry in inspector.models() if entry["name"].startswith(_PREFIX)]
    except Sam3Error:
        return []


def check_server(inspector: Inspector, address: Address) -> tuple[bool, list[Finding]]:
    """Checks whether a server answers and is ready, and which version it is."""
    try:
        metadata, live, ready = inspector.metadata(), inspector.is_live(), inspector.is_ready()
    except Sam3Error as error:
        advice = _other_protocol(address) or "start one (sam3-serve), or say where it is (--url)"
        return False, [fault("server", str(error), advice)]
    version = str(metadata.get("version", "unknown"))
    state = f"{'live' if live else 'not live'}, {'ready' if ready else 'not ready'}"
    text = f"Triton {version} at {address.netloc}, {state}"
    if not (live and ready):
        return True, [fault("server", text, "wait until its models are loaded, or see its log")]
    if version != KNOWN_GOOD and not version.startswith(f"{KNOWN_GOOD}."):
        return True, [warning("server", text, f"this project is tested with {KNOWN_GOOD}")]
    return True, [ok("server", text)]


def _other_protocol(address: Address) -> str | None:
    other = replace(address, grpc=not address.grpc)
    scheme = ("grpc" if other.grpc else "http") + ("s" if other.tls else "")
    try:
        with Inspector(other, _OTHER_PROTOCOL_TIMEOUT_S) as inspector:
            inspector.metadata()
    except Sam3Error:
        return None
    return f"that port speaks {'gRPC' if other.grpc else 'HTTP'}: --url {scheme}://{other.netloc}"


def check_models(inspector: Inspector) -> Iterator[Finding]:
    """Whether every model is ready, and if not, why."""
    try:
        index = inspector.models()
    except Sam3Error as error:
        yield skipped("models", f"the server does not list its models ({error})")
        return
    models = sorted({*MODELS, *(entry["name"] for entry in index if entry["name"].startswith(_PREFIX))})
    states = {model: [entry for entry in index if entry.get("name") == model] for model in models}
    ready = [model for model, found in states.items() if any(entry.get("state") == "READY" for entry in found)]
    if len(ready) == len(models):
        yield ok("models", f"all {len(models)} are ready")
    for model in models:
        if model in ready:
            continue
        if not states[model]:
            yield fault("models", f"{model} is missing in the server's repository", "copy it there, and restart")
            continue
        entry = states[model][0]
        state = entry.get("state", "").lower() or "in the repository but was never loaded"
        reason = f": {entry['reason']}" if entry.get("reason") else ""
        yield fault("models", f"{model} is {state}{reason}", _LOADING.get(state, "load it, or restart the server"))


def check_profile(configs: Configs) -> Finding:
    """Checks that all components were loaded with the same profile, and says which."""
    if reason := configs.lacking(ENCODER):
        return skipped("profile", reason)
    profiles = {model: configs.parameter(model, "profile") for model in configs.components}
    if len(set(profiles.values())) > 1:
        text = "the profiles differ: " + ", ".join(f"{_title(model)} {name!r}" for model, name in profiles.items())
        advice = (
            "start it with sam3-serve --profile, or copy ensemble_configs/<profile>/<model>.pbtxt to "
            "<model>/configs/<profile>.pbtxt for each model: Triton silently uses config.pbtxt if one is missing"
        )
        return fault("profile", text, advice)
    (name,) = set(profiles.values())
    if name is None:
        return warning("profile", "the configs name no profile", "add the parameter `profile` to them")
    return ok("profile", f"{name}, for {' and '.join(map(_title, profiles))}")


def check_instances(configs: Configs) -> Finding:
    """Says which backend runs each component, and on what."""
    if reason := configs.lacking(ENCODER):
        return skipped("instances", reason)
    parts = []
    for model in configs.components:
        config = configs.by_model[model]
        count = sum(int(group.get("count", 1)) for group in config.get("instance_group", []))
        stand_in = " (this project's stand-in)" if configs.is_stand_in(model) else ""
        kinds = "/".join(sorted(configs.kinds(model)))
        parts.append(f"{_title(model)} {count} x {kinds}, {config.get('backend')}{stand_in}")
    return ok("instances", "; ".join(parts))


def _title(model: str) -> str:
    """`sam3_image_encoder` as "image encoder"."""
    return model.removeprefix("sam3_").replace("_", " ")


def check_model(url: str, exported: ServedModel | None) -> Finding:
    """Says which model the server runs, and checks that it is the repository's.

    Args:
        exported: the model in the repository; None if there is none to compare with.
    """
    try:
        with Sam3Client(url, TIMEOUT_S) as client:
            served = client.model()
    except Sam3Error as error:
        return skipped("model", f"the server does not say which model it runs ({error})")
    if exported in (None, served):
        return ok("model", str(served) if exported is None else f"{served}, as in the repository")
    advice = "restart the server, if it is to serve this repository; otherwise name its own with --repository"
    return fault("model", f"the server runs {served}, but the repository has {exported}", advice)


def check_click(url: str) -> Finding:
    """Sends a real click, which goes through every model that clicks need."""
    started = time.monotonic()
    try:
        with Sam3Client(url) as client:
            client.probe()
    except DeadlineExceededError as error:
        advice = "run this again (a server's first click encodes a picture: up to a minute without a GPU); see its log"
        return fault("click", str(error), advice)
    except ServerUnavailableError as error:
        dead = "process has died" in str(error)
        advice = "restart the server (sam3-serve does so by itself)" if dead else "see above what is not ready"
        return fault("click", str(error), advice)
    except Sam3Error as error:
        return fault("click", str(error), "see the server's log")
    return ok("click", f"a mask came back in {1000 * (time.monotonic() - started):.0f} ms")


def check_concepts(url: str, exported: bool | None) -> Finding:
    """Sends a text, which goes through every model of concept prompts, if the server has them.

    Args:
        exported: whether the repository has concept prompts; None if there is none to compare with.
    """
    started = time.monotonic()
    try:
        with Sam3Client(url) as client:
            client.find(PROBE_IMAGE, text="object", max_instances=1)
    except ConceptsNotServedError:
        if exported:
            text = "the repository has concept prompts, but the server does not serve them"
            return fault("concepts", text, "restart the server, if it is to serve this repository")
        return ok("concepts", "not served: the model was exported without concept prompts")
    except Sam3Error as error:
        return fault("concepts", str(error), "see the faults above and the server's log")
    return ok("concepts", f"served: an answer came back in {1000 * (time.monotonic() - started):.0f} ms")


def check_cache(configs: Configs) -> Finding:
    """Checks how many images the cache has room for."""
    if reason := configs.lacking(CACHE):
        return skipped("cache", reason)
    text = configs.parameter(CACHE, "cache_bytes")
    if text is None or not text.isdecimal():
        return skipped("cache", f"the parameter cache_bytes of {CACHE} is not a number, but {text!r}")
    budget, known = int(text), None if ENCODER in configs.missing else configs.bytes_per_image()
    image = known or configs.sam3s_bytes_per_image
    size = f"{megabytes(image)}{'' if known else ', assuming SAM 3'}"
    if budget == 0:
        return warning("cache", "keeps nothing: every click runs the encoder", "raise cache_bytes (docs/cache.md)")
    if budget < image:
        text = f"its {megabytes(budget)} are too few for one image ({size})"
        return warning("cache", text, "raise cache_bytes (docs/cache.md)")
    return ok("cache", f"{megabytes(budget)}, room for {budget // image} images ({size} each)")
