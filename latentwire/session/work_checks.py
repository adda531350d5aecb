"""The fast checks that matter only where something is computed: of the device, of what models and
fuser are made of, and of prompts. They bring torch and transformers, which take seconds to import.
"""

from c2c.cache import geometry
from latentwire.checks.device import check_device, check_memory
from latentwire.checks.downloads import known_bytes, unknown
from latentwire.checks.prompts import judge, lengths_of, most_tokens
from latentwire.checks.report import CheckSkipped, CheckWarning
from latentwire.checks.weights import configs, weights_bytes
from latentwire.environment import torch_dtype
from latentwire.errors import Unanswerable
from latentwire.evaluation.message import stem_and_options
from latentwire.interfaces.registry import require_fit, require_weights, without_weights
from latentwire.pairs.locate import LocatedPair, parts_of
from latentwire.parameters import INIT
from latentwire.session.pair_in_use import DATE_TOLD
from latentwire.session.preflight_state import PreflightState, require


def device_computes(opening: PreflightState, thorough: bool) -> str:
    """Does the chosen device compute? See `check_device`."""
    dtype = torch_dtype(require(opening.dtype_name))
    return check_device(require(opening.device), dtype, ask_driver=thorough)


def inspect_files(opening: PreflightState, located: LocatedPair) -> str:
    """Are the files whole, do their shapes fit, and what do they take in memory?"""
    dtype = torch_dtype(opening.dtype_name or "float32")
    opening.weights = weights_bytes(located, dtype)
    opening.sharer, opening.receiver = configs(located)
    shapes = geometry(opening.sharer), geometry(opening.receiver)
    if located.fuser is None:
        name = require(opening.pair).interface
        if name is None:
            return "whole; there is no fuser yet"
        if INIT.name in opening.values:  # `train` makes its weights
            require_weights(name)
            return f"whole; interface {name}, whose weights are to be trained"
        return f"whole; interface {name}, {without_weights(name, *shapes).describe()}"
    projectors = require_fit(located.fuser, *shapes)
    return f"whole, {projectors} projectors fit; the fuser is {located.fuser}"


def memory_suffices(opening: PreflightState) -> str:
    """Is there room for the pair's weights? See `check_memory`."""
    return check_memory(require(opening.device), *_weights(opening))


def _weights(opening: PreflightState) -> tuple[int | None, bool]:
    """Bytes in memory, and whether they are all. Of parts that are not here: their download's
    size, taken for 16 bits a number; None where no size is known."""
    if opening.weights is not None:
        return opening.weights, True
    numbers = known_bytes(opening.downloads) // 2
    parts = {source for _, source, _ in parts_of(require(opening.pair))}
    whole = len(opening.downloads) == len(parts) and not unknown(opening.downloads)
    return (numbers * torch_dtype(require(opening.dtype_name)).itemsize or None), whole


def prompts_fit(opening: PreflightState) -> str:
    """Tokenizers, template and the length of every prompt; after the store, which a session has."""
    if opening.downloads:
        raise CheckSkipped("the pair is still to be downloaded")
    session = opening.session()
    models = {"receiver": opening.receiver, "sharer": opening.sharer}
    rows = {name: config.get_text_config().vocab_size for name, config in models.items()}
    files = session.files
    files.check_embedded(rows)
    printed = files.prompting.printed or files.prompting.sharer_printed
    told = f"{DATE_TOLD}; " if printed else ""
    for name, dataset in opening.datasets.items():
        # Refused here where the pair's interface merges caches, or tokenizers do not serve it.
        if dataset.private or files.sharer_tokenizer is not None:
            session.asked(name)
    found = [
        lengths_of(
            session.dataset(name).task,
            session.dataset(name).examples[: session.examples(name)],
            files.tokenizer,
            lambda name=name: session.asked(name),  # type: ignore[misc]
            most_tokens(models),
        )
        for name in opening.datasets
    ]
    count = "one tokenizer" if files.sharer_tokenizer is None else "two tokenizers"
    return f"{count}, every token embedded; {told}{judge(found)}"


def options_readable(opening: PreflightState) -> str:
    """Can option logits be read of every question?"""
    if opening.downloads:
        raise CheckSkipped("the tokenizer is not here yet")
    files = opening.session().files
    said, lost = [], []
    for name, dataset in opening.datasets.items():
        if not dataset.task.has_options:
            said.append(f"{name}: none")
            continue
        counts = dataset.option_counts
        said.append(f"{name}: " + ", ".join(f"{n} of {len(o.labels)}" for o, n in counts.items()))
        for options, number in counts.items():
            try:
                for tokenizer in filter(None, (files.tokenizer, files.sharer_tokenizer)):
                    stem_and_options(tokenizer, options)
            except Unanswerable as reason:
                lost.append(f"{number} of {len(dataset.examples)} questions of {name}: {reason}")
    if lost:
        raise CheckWarning(f"logits and calibrated leave unanswered {'; '.join(lost)}")
    return f"questions by number of options: {'; '.join(said)}"
