"""What Triton's core asks of an ensemble: that its steps fit together and fit the models they name."""

from __future__ import annotations

from collections.abc import Mapping

from sam3_export.native_backends.core_rules import fits
from sam3_export.native_backends.repository import Finding, Findings, Model, Signature, Tensor


def findings(ensemble: Model, models: Mapping[str, Model], signatures: Mapping[str, Signature]) -> Findings:
    """Faults of an ensemble among `models`; a model without a signature has faults of its own, and is passed over."""
    yield from _flow(ensemble)
    declared = ensemble.declared()
    known = {tensor.name: (tensor, ensemble) for tensor in (*declared.inputs, *declared.outputs)}
    for step in ensemble.config.ensemble_scheduling.step:
        model = models.get(step.model_name)
        if model is None:
            yield Finding(f"the repository has no model {step.model_name!r}")
            continue
        if 0 < model.config.max_batch_size < ensemble.config.max_batch_size:
            yield Finding(f"max_batch_size is larger than {model.name}'s ({model.config.max_batch_size})")
        if model.name not in signatures:
            continue
        signature = signatures[model.name]
        for mapping, tensors, kind in (
            (step.input_map, signature.inputs, "input"),
            (step.output_map, signature.outputs, "output"),
        ):
            own = {tensor.name: tensor for tensor in tensors}
            for name, inner in mapping.items():
                if name not in own:
                    yield Finding(f"{model.name} has no {kind} {name!r}", inner)
                    continue
                first, source = known.setdefault(inner, (own[name], model))
                yield from _consistent(inner, first, source, own[name], model)
        for tensor in signature.inputs:
            if tensor.name not in step.input_map and not tensor.optional:
                yield Finding(f"{model.name}'s input {tensor.name!r} is not given", tensor.name)
        optional = {tensor.name for tensor in declared.inputs if tensor.optional}
        required = {tensor.name for tensor in signature.inputs if not tensor.optional}
        for name, inner in step.input_map.items():
            if inner in optional and name in required:
                yield Finding(f"optional, where {model.name} needs it as {name!r}", inner)


def _consistent(inner: str, first: Tensor, source: Model, second: Tensor, model: Model) -> Findings:
    if first.data_type != second.data_type:
        yield Finding(f"{first.data_type} in {source.name} ({source.label}), {second.data_type} in {model.name}", inner)
    # Triton compares the dims as they stand, and then with the batch axis, which a model that batches leaves out.
    one, other = ((-1, *t.dims) if m.batches else t.dims for t, m in ((first, source), (second, model)))
    if not fits(first.dims, second.dims) and not fits(one, other):
        yield Finding(f"{list(one)} in {source.name} ({source.label}), {list(other)} in {model.name}", inner)
    # Stricter than Triton: the one reading must hold, or the first request fails.
    elif not fits(one, other):
        yield Finding(f"with the batch axis {list(one)} in {source.name}, {list(other)} in {model.name}", inner)


def _flow(ensemble: Model) -> Findings:
    """Each tensor is written once and read by somebody; nothing depends on what is never written."""
    declared = ensemble.declared()
    inputs, outputs = ({tensor.name for tensor in tensors} for tensors in (declared.inputs, declared.outputs))
    steps = ensemble.config.ensemble_scheduling.step
    written = [inner for step in steps for inner in step.output_map.values()]
    read = {inner for step in steps for inner in step.input_map.values()}
    for inner in sorted({inner for inner in written if written.count(inner) > 1}):
        yield Finding("written by more than one step", inner)
    for inner in sorted(inputs - read):
        yield Finding("an input that no step reads", inner)
    for inner in sorted(outputs - set(written)):
        yield Finding("an output that no step writes", inner)
    for inner in sorted(set(written) - read - outputs):
        yield Finding("written, and read by nobody", inner)
    for inner in sorted(read - inputs - set(written)):
        yield Finding("read, and written by nobody", inner)
    for step in steps:
        if not step.input_map or not step.output_map:
            yield Finding(f"the step of {step.model_name!r} needs an input_map and an output_map")
