"""Run every case of a folder of C2C test vectors: ``python -m c2c.conformance DIR``.

The folder holds tiny models, fusers in the published layout, prompts, and for each condition the
logits, fused caches and greedy tokens that the public reference implementation produced.
"""

import argparse
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from c2c.cache import KVCache, from_transformers, geometry
from c2c.checkpoint import load_fuser
from c2c.errors import C2CError
from c2c.files import read_file
from c2c.fuser import Fuser
from c2c.load_model import load_model
from c2c.oracle_selection import (
    RateDistortionGreedy,
    TopTokens,
    fuse_rate_distortion,
    fuse_top_tokens,
)
from c2c.quantize import EPS, round_trip
from c2c.receiver import greedy, prefill
from c2c.sections import Section, split
from c2c.sharer import read

CLOSE = 1e-4  # most prompts' logits agree to this
ODD = 0.05  # a value on the edge between two codes may move a few prompts' this far
ALLOWED_ODD_SHARE = 2 / 12
# What a condition in cases.json says.
_CONDITION = {"name", "sharers", "proportion", "order", "quant", "select", "fusion", "cases"}
BITS = {"int8": 8, "int4": 4, "int3": 3, "int2": 2}


@dataclass(frozen=True)
class Sharer:
    model: PreTrainedModel
    fuser: Fuser


@dataclass(frozen=True)
class Outcome:
    """One condition over all prompts."""

    name: str
    differences: list[float]  # largest absolute logit difference, a prompt each
    tokens_equal: int
    prompts: int
    cache_difference: float
    mismatch: str  # what else is wrong (sections, selected tokens), or ""

    @property
    def passed(self) -> bool:
        odd = [d for d in self.differences if not d <= CLOSE]
        return (
            not self.mismatch
            and self.tokens_equal == self.prompts
            and median(self.differences) <= CLOSE
            and len(odd) <= ALLOWED_ODD_SHARE * self.prompts
            and all(d <= ODD for d in odd)
        )

    def line(self) -> str:
        tokens = "equal" if self.tokens_equal == self.prompts else "not equal"
        return (
            f"{'pass' if self.passed else 'FAIL'}  {self.name:<34}"
            f" largest difference {max(self.differences):.1e}"
            f" (median {median(self.differences):.1e}, caches {self.cache_difference:.1e}),"
            f" tokens {tokens} ({self.tokens_equal}/{self.prompts})"
            + (f"; {self.mismatch}" if self.mismatch else "")
        )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m c2c.conformance", description=__doc__)
    parser.add_argument("directory", type=Path, help="folder with cases.json")
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    options = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # paths may hold what a terminal cannot write
            stream.reconfigure(errors="backslashreplace")
    disable_progress_bar()
    torch.set_num_threads(1)  # the models are tiny: threads would only wait for each other
    try:
        outcomes = run(options.directory, options.device, lambda o: print(o.line(), flush=True))
    except C2CError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    passed = sum(outcome.passed for outcome in outcomes)
    print(f"{passed} passed, {len(outcomes) - passed} failed")
    return 0 if passed == len(outcomes) and outcomes else 1


def run(directory: Path, device: str, report: Callable[[Outcome], None]) -> list[Outcome]:
    """Evaluate all conditions in float32; `report` sees each outcome as it comes.

    Raises C2CError for a folder that holds no test vectors, and for a device that is not there.
    """
    _require_device(device)
    cases, expected = _read_vectors(directory)
    receiver = load_model(directory / "receiver", torch.float32, device)
    numbers = sorted({number for c in cases["conditions"] for number in c["sharers"]})
    sharers = {number: _load_sharer(directory, number, receiver, device) for number in numbers}
    outcomes = []
    for condition in cases["conditions"]:
        outcome = evaluate(condition, cases, expected, receiver, sharers)
        report(outcome)
        outcomes.append(outcome)
    return outcomes


def _require_device(device: str) -> None:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise C2CError(f"the device {device[:40]!r} cannot be used: {reason}") from None


def _read_vectors(directory: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The cases of a folder and the tensors that they expect."""
    try:
        cases = json.loads(read_file(directory / "cases.json").decode("utf-8-sig"))
        expected = load(read_file(directory / "expected.safetensors"))
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise C2CError(f"{directory} is not a folder of test vectors: {error}") from None
    found = cases.get("format") if isinstance(cases, dict) else None
    if type(found) is not int or found != 1:
        raise C2CError(f"{directory}: vector format {str(found)[:40]!r} is unknown, not 1")
    conditions, prompts = cases.get("conditions"), cases.get("prompts")
    whole = (
        isinstance(conditions, list)
        and all(isinstance(c, dict) and c.keys() >= _CONDITION for c in conditions)
        and isinstance(prompts, list)
        and all(isinstance(ids, list) and ids for ids in prompts)
        and type(cases.get("new_tokens")) is int
    )
    if not whole:
        raise C2CError(f"{directory}: cases.json is not whole: fetch the test vectors again")
    return cases, expected


def _load_sharer(directory: Path, number: int, receiver: PreTrainedModel, device: str) -> Sharer:
    """Sharer 1 lies in sharer/ and fuser/, sharer 2 in sharer2/ and fuser2/, and so on."""
    suffix = "" if number == 1 else str(number)
    model = load_model(directory / f"sharer{suffix}", torch.float32, device)
    fuser = load_fuser(
        directory / f"fuser{suffix}" / "final",
        geometry(model.config),
        geometry(receiver.config),
        device=device,
    )
    return Sharer(model, fuser)


@torch.inference_mode()
def evaluate(
    condition: dict[str, Any],
    cases: dict[str, Any],
    expected: dict[str, Tensor],
    receiver: PreTrainedModel,
    sharers: dict[int, Sharer],
) -> Outcome:
    """Run one condition on every prompt and compare with what the vectors hold."""
    name = condition["name"]
    differences, tokens_equal, cache_difference, mismatch = [], 0, 0.0, ""
    for index, (prompt, case) in enumerate(zip(cases["prompts"], condition["cases"], strict=True)):
        ids = torch.tensor([prompt], device=receiver.device)
        sharer_mask = sum(1 << (number - 1) for number in condition["sharers"])
        sections = (
            split(len(prompt), condition["proportion"], condition["order"], sharer_mask)
            if sharer_mask
            else split(len(prompt), 0.0, "front")
        )
        listed = [[s.sharer_mask, s.stop - s.start] for s in sections]
        if case["sections"] and case["sections"] != listed:
            mismatch = f"prompt {index}: sections {listed}, expected {case['sections']}"
        selected: list[Any] = []
        fused = any(section.sharer_mask > 0 for section in sections[:-1])
        caches = {n: read(sharers[n].model, ids) for n in condition["sharers"] if fused}

        def fuse(
            section: Section,
            own: KVCache,
            caches: dict[int, KVCache] = caches,
            selected: list[Any] = selected,
        ) -> KVCache:
            return _fuse(condition, sharers, caches, section, own, selected)

        prefilled = prefill(receiver, ids, sections, fuse)
        logits = expected[f"logits/{name}"][index]
        differences.append(float((prefilled.logits[0].cpu() - logits).abs().max()))
        if index in condition.get("caches", ()):
            ours = from_transformers(prefilled.cache)
            for kind, tensors in (("k", ours.keys), ("v", ours.values)):
                wanted = expected[f"fused_{kind}/{name}/p{index}"]
                difference = (torch.cat(tensors).cpu() - wanted).abs().max()
                cache_difference = max(cache_difference, float(difference))
        generated = greedy(receiver, prefilled, cases["new_tokens"])[0]
        tokens_equal += generated == case["generated"]
        if "selected" in case and selected:
            wrong = _wrong_layers(
                condition, case["selected"], selected[0], sharers[condition["sharers"][0]].fuser
            )
            if wrong:
                mismatch = f"prompt {index}: other tokens selected in layers {wrong}"
    return Outcome(
        name, differences, tokens_equal, len(cases["prompts"]), cache_difference, mismatch
    )


def _fuse(
    condition: dict[str, Any],
    sharers: dict[int, Sharer],
    caches: dict[int, KVCache],
    section: Section,
    own: KVCache,
    selected: list[Any],
) -> KVCache:
    """Fuse one marked section as the condition says."""
    fused = own
    for number, sharer in sharers.items():
        if not section.sharer_mask >> (number - 1) & 1:
            continue
        sent = caches[number].section(section.start, section.stop)
        parallel = condition["fusion"] == "parallel"
        base = own if parallel else fused
        if condition["select"]:
            output, chosen = _fuse_selected(condition, sharer.fuser, sent, base)
            selected.append(chosen)
        else:
            output = _fuse_quantized(condition, sharer.fuser, sent, base)
        fused = _add_change(fused, output, base) if parallel else output
    return fused


def _add_change(cache: KVCache, output: KVCache, base: KVCache) -> KVCache:
    """cache + (output - base), tensor by tensor."""

    def added(kind: str) -> tuple[Tensor, ...]:
        tensors = (getattr(part, kind) for part in (cache, output, base))
        return tuple(c + (o - b) for c, o, b in zip(*tensors, strict=True))

    return KVCache(added("keys"), added("values"))


def _quantizer(
    quant: dict[str, Any] | None, scheme: str | None = None
) -> Callable[[Tensor], Tensor]:
    scheme = scheme or (quant["scheme"] if quant else "fp16")
    if quant is None or scheme == "fp16":  # "leave as it is", no cast
        return lambda x: x
    if scheme not in BITS:
        raise C2CError(f"quantization scheme {scheme!r} is not one of fp16, {', '.join(BITS)}")
    return lambda x: round_trip(x, BITS[scheme], quant.get("axis", "head"), quant.get("eps", EPS))


def _fuse_quantized(
    condition: dict[str, Any], fuser: Fuser, sent: KVCache, own: KVCache
) -> KVCache:
    quant = condition["quant"]
    schedule = (quant or {}).get("layer_schedule")
    if not schedule:
        return fuser(sent.map(_quantizer(quant)), own)
    keys, values = list(own.keys), list(own.values)
    for layer, source in fuser.layer_map.items():
        scheme = schedule["default"]
        for override in schedule["overrides"]:
            if layer in override["layers"]:
                scheme = override["scheme"]
        quantizer = _quantizer(quant, scheme)
        keys[layer], values[layer] = fuser.merge_layer(
            layer,
            quantizer(sent.keys[source.sharer_layer]),
            quantizer(sent.values[source.sharer_layer]),
            own.keys[layer],
            own.values[layer],
        )
    return KVCache(tuple(keys), tuple(values))


def _fuse_selected(
    condition: dict[str, Any], fuser: Fuser, sent: KVCache, own: KVCache
) -> tuple[KVCache, dict[int, Any]]:
    select = condition["select"]
    if select["mode"] == "rd_greedy":
        rule = RateDistortionGreedy(
            tuple(select["candidates"]),
            select["budget_fraction"],
            select["index_bytes"],
            select["scale_overhead"],
        )
        fused, tokens = fuse_rate_distortion(fuser, sent, own, rule)
        return fused, dict(tokens)
    top = TopTokens(select["mode"], select["proportion"], select.get("min_tokens", 1))
    result, chosen = fuse_top_tokens(fuser, sent, own, top, _quantizer(condition["quant"]))
    return result, dict(chosen)


def _wrong_layers(
    condition: dict[str, Any], expected: list[Any], selected: dict[int, Any], fuser: Fuser
) -> list[int]:
    """Receiver layers in which other tokens were chosen than expected.

    Scores by change of the value are all zero behind a closed value gate: nothing to compare.
    """
    by_change = condition["select"]["mode"] in ("delta_proj_vnorm_topk", "rd_greedy")
    wrong = []
    for layer, wanted in enumerate(expected):
        if by_change and not fuser.projector(layer).is_open("value"):
            continue
        if isinstance(wanted, dict):
            wanted = {key: sorted(wanted[key]) for key in ("int8", "int4")}
        if selected[layer] != wanted:
            wrong.append(layer)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
