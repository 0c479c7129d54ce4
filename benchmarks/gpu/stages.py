"""The stages that need nothing but PyTorch, transformers and the exporter."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import torch
from sam3_export.components import concept_prompts, text_encoder
from sam3_export.components.detector_modules import ConceptDetector, ServedConceptDetector
from sam3_export.components.image_encoder import ImageEncoder
from sam3_export.components.text_encoder import TextEncoder
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu import networks, traces
from benchmarks.gpu.context import Context, Figures
from benchmarks.gpu.messages import SkippedError
from benchmarks.gpu.networks import Half
from benchmarks.gpu.timing import Amount, median_ms, wall_ms

_PACKAGES = ("torch", "transformers", "numpy", "cupy-cuda13x", "cupy-cuda12x", "onnxruntime", "triton")
ENCODER_BATCHES, DECODER_BATCHES = (1, 4, 8), (1, 16)
_SMALL_BATCHES = (1, 2)
_COPIED_BYTES = 2**30
_CENTRE = (0.5, 0.5)
Save = Callable[[Figures], None]


def machine(context: Context, save: Save) -> None:
    """The device, versions, the peak of a large matrix product, and the bandwidth of copies."""
    figures: Figures = {"python": platform.python_version(), "packages": _versions()}
    figures["device"] = "the CPU"
    if context.device.type == "cuda":
        properties = torch.cuda.get_device_properties(context.device)
        figures |= {
            "device": properties.name,
            "memory_gigabytes": properties.total_memory / 1e9,
            "multiprocessors": properties.multi_processor_count,
            "cuda": torch.version.cuda,
        }
    save(figures)
    figures["gemm_tflops"] = context.gemm_tflops
    figures["copy_gigabytes_a_second"] = _bandwidths(context)
    save(figures)
    figures["parameters"] = context.checkpoint.parameters
    save(figures)


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _bandwidths(context: Context) -> dict[str, float]:
    """GB/s on the device (bytes read and written), and from and to pinned host memory."""
    size = _COPIED_BYTES // (1024 if context.small else 1)
    source = torch.empty(size, dtype=torch.uint8, device=context.device).random_()
    target = torch.empty_like(source)
    host = torch.empty(size, dtype=torch.uint8, pin_memory=context.device.type == "cuda")
    ways: dict[str, tuple[Callable[[], object], int]] = {
        "on_device": (lambda: target.copy_(source), 2),
        "to_host": (lambda: host.copy_(source), 1),
        "to_device": (lambda: target.copy_(host), 1),
    }
    amount = Amount(5, 0)
    return {
        name: factor * size / median_ms(call, context.device, amount) / 1e6 for name, (call, factor) in ways.items()
    }


def encoder(context: Context, save: Save) -> None:
    """The image encoder by precision, way and batch, against the arithmetic that it needs."""
    network, figures = context.network, Figures()
    inputs: dict[int, tuple[Tensor, ...]] = {
        batch: (network.pictures(batch),) for batch in (_SMALL_BATCHES if context.small else ENCODER_BATCHES)
    }
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counted:
            network.encoder.module(*inputs[1])
        figures["tflop_an_image"] = counted.get_total_flops() / 1e12
    _ways(context, save, figures, network.encoder, inputs)


def decoder(context: Context, save: Save) -> None:
    """The mask decoder by precision, way and batch, for one click on each image."""
    network = context.network
    inputs = {
        batch: _decoder_inputs(context, batch) for batch in (_SMALL_BATCHES if context.small else DECODER_BATCHES)
    }
    _ways(context, save, {}, network.decoder, inputs)


def _ways(context: Context, save: Save, figures: Figures, part: Half, inputs: Mapping[int, tuple[Tensor, ...]]) -> None:
    for precision in context.precisions:
        figures[precision] = ways = Figures()
        makers: dict[str, Callable[[], nn.Module]] = {
            "TorchScript": partial(networks.torchscript, part, precision, context.device, context.folder),
            "eager": partial(networks.eager, part, precision),
        }
        for way, make in makers.items():
            made = Figures()
            context.attempt(made, "module", make)
            ways[way] = batches = made["module"] if isinstance(made["module"], dict) else Figures()
            if not batches:
                for batch, arguments in inputs.items():
                    context.attempt(batches, str(batch), _timed, context, made["module"], arguments)
                    _per_image(context, batches[str(batch)], batch, precision, figures.get("tflop_an_image"))
            save(figures)


def _timed(context: Context, module: nn.Module, arguments: tuple[Tensor, ...]) -> Figures:
    with torch.inference_mode(), torch.jit.optimized_execution(False):  # as the profiles serve it
        call = partial(module, *arguments)
        row = context.time(call)
        row["wall_milliseconds"] = wall_ms(call, context.device, context.amount)
    return row


def _per_image(context: Context, row: Figures, batch: int, precision: str, tflop: float | None) -> None:
    if "milliseconds" not in row:
        return
    row["a_second"] = 1000 * batch / row["milliseconds"]
    if tflop is not None:
        row["tflops"] = tflop * row["a_second"]
        row["share_of_gemm"] = row["tflops"] / context.gemm_tflops[precision]


def _decoder_inputs(context: Context, batch: int) -> tuple[Tensor, ...]:
    network = context.network
    with torch.inference_mode():
        features = network.for_decoder(network.encoder.module(network.pictures(1)))
    prompt = network.prompt([_CENTRE] * batch)
    # Features of each image are its own in a server.
    return (*(feature.repeat(batch, 1, 1, 1) for feature in features), *(one.to(context.device) for one in prompt))


def compiled(context: Context, save: Save) -> None:
    """Image encoder and mask decoder through `torch.compile`: what an optimised engine could gain."""
    network, figures = context.network, Figures()
    backend = "aot_eager" if context.small else "inductor"
    figures["backend"] = backend
    decoder = network.decoder
    # CUDA graphs for the decoder, whose many small kernels wait for their launches.
    first, last = context.precisions[0], context.precisions[-1]
    plans = [
        ("decoder", decoder, first, 1, "reduce-overhead"),
        ("encoder", network.encoder, first, 1, None),
        ("encoder", network.encoder, last, 1, None),
        ("decoder", decoder, first, 16, "reduce-overhead"),
        ("encoder", network.encoder, first, 4, None),
    ]
    for title, part, precision, batch, mode in plans[: 1 if context.small else None]:
        options: Figures = {"backend": backend, "mode": None if context.small else mode, "dynamic": False}
        rows = figures.setdefault(title, {}).setdefault(precision, {})
        context.attempt(rows, str(batch), _compiled, context, part, precision, batch, options)
        save(figures)


def _compiled(context: Context, part: Half, precision: str, batch: int, options: Figures) -> Figures:
    network = context.network
    torch._dynamo.reset()
    arguments = (network.pictures(batch),) if part is network.encoder else _decoder_inputs(context, batch)
    module = torch.compile(networks.eager(part, precision), **options)
    with torch.inference_mode():
        started = time.monotonic()
        module(*arguments)
        seconds = time.monotonic() - started
        return {**context.time(partial(module, *arguments)), "compile_seconds": seconds}


def kernels(context: Context, save: Save) -> None:
    """Where the time of encoder and decoder goes, and what a warm click copies between host and device."""
    network, figures = context.network, Figures()
    calls, precision = 1 if context.small else 3, context.precisions[0]
    modules = {
        "encoder": networks.torchscript(network.encoder, precision, context.device, context.folder),
        "decoder": networks.torchscript(network.decoder, precision, context.device, context.folder),
    }
    inputs = {"encoder": (network.pictures(1),), "decoder": _decoder_inputs(context, 1)}
    features, prompt = inputs["decoder"][:3], network.prompt([_CENTRE])

    def click() -> list[Tensor]:
        return [one.cpu() for one in modules["decoder"](*features, *(one.to(context.device) for one in prompt))]

    with torch.inference_mode(), torch.jit.optimized_execution(False):
        for name, module in modules.items():
            events = traces.recorded(partial(module, *inputs[name]), context.device, calls, context.folder)
            figures[name] = traces.kernels(events, calls)
            save(figures)
        events = traces.recorded(click, context.device, calls, context.folder)
        figures["copies_of_a_warm_click"] = traces.copies(events, calls)
        figures["feature_bytes"] = sum(feature.nbytes for feature in features)
        save(figures)


def concepts(context: Context, save: Save) -> None:
    """Text encoder and concept detector, for one text on one image."""
    checkpoint, architecture = context.checkpoint, context.checkpoint.architecture
    if checkpoint.concepts is None:
        raise SkippedError("the network has no concept prompts")
    network, device, figures = checkpoint.concepts, context.device, Figures()
    shape = concept_prompts.PARITY_SHAPES[0]
    tokens = torch.from_numpy(concept_prompts.texts(architecture, shape, 0)).to(device)
    prompt = {
        name: torch.from_numpy(values).to(device)
        for name, values in concept_prompts.prompts(architecture, shape, 0).items()
    }
    no_centre = torch.zeros(1, architecture.hidden_size, 1, 1, device=device)
    with torch.inference_mode():
        trunk = ImageEncoder(checkpoint.model, no_centre).eval()(context.network.pictures(1))[-1]
        centre = trunk.mean((0, 2, 3), keepdim=True)
        features = (trunk - centre).half()
    texts = Half(TextEncoder(network).to(device), text_encoder.spec(architecture), {})
    detector = ServedConceptDetector(ConceptDetector(network, architecture.grid_size, centre.clone())).to(device)
    for precision in context.precisions:
        figures[precision] = rows = Figures()
        with torch.inference_mode():
            context.attempt(rows, "text encoder", _timed, context, networks.eager(texts, precision), (tokens,))
            text = texts.module(tokens)[0]
            part = networks.eager(Half(detector, texts.spec, {}), precision)
            context.attempt(rows, "concept detector", _timed, context, part, (features, text, *prompt.values()))
        save(figures)
