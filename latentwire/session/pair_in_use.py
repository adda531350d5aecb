"""A pair's files, tokenizers and models, each loaded when it is first asked for."""

import logging
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

from c2c.chat import PINNED_DAY
from latentwire.environment import fit_threads, torch_dtype
from latentwire.errors import NotCached
from latentwire.pairs.identity import (
    Hash,
    combined_identity,
    file_sha256,
    fuser_identity,
    manifest,
    pair_identity,
    require_pinned,
)
from latentwire.pairs.locate import LocatedPair, locate_pair
from latentwire.pairs.pair import UNTRAINED_SEED, Pair
from latentwire.pairs.prompting import Prompting, prompting_of
from latentwire.pairs.tokenizer import (
    check_can_be_aligned,
    check_embedded,
    check_same_tokenizer,
    load_tokenizer,
)

if TYPE_CHECKING:  # they take seconds to import, and a start that finds all finished needs none
    import torch
    from transformers import PreTrainedModel

    from c2c.interface import Interface
    from latentwire.evaluation.loaded_pair import LoadedPair

UNTRAINED = f"untrained, seed {UNTRAINED_SEED}"  # in fingerprints

log = logging.getLogger("latentwire")

DATE_TOLD = f"the chat template asks for the date and is always told {PINNED_DAY:%F}"


@dataclass
class PairInUse:
    """A pair on a device; what is loaded stays for everything that uses it."""

    pair: Pair
    device: str
    dtype_name: str
    may_download: bool

    @property
    def dtype(self) -> "torch.dtype":
        return torch_dtype(self.dtype_name)

    def on(self, device: str) -> "PairInUse":
        """The pair on another device: nothing is in memory, and its files are not hashed again."""
        other = replace(self, device=device)
        other.located, other.identity = self.located, self.identity
        return other

    def with_fuser_of(self, pair: Pair) -> "PairInUse":
        """A pair of the same models whose fuser is another: what is known and loaded of the models
        stays."""
        assert pair.fuser and pair.fuser.path
        other = replace(self, pair=pair)
        other.located = replace(self.located, fuser=pair.fuser.path)
        trained = ("fuser", "interface")  # which the fuser's files name
        models = {part: name for part, name in self.identity.items() if part not in trained}
        other.identity = models | fuser_identity(pair.fuser.path)
        for name in ("_tokenizers", "prompting", "models"):
            if name in vars(self):
                setattr(other, name, getattr(self, name))
        return other

    @cached_property
    def located(self) -> LocatedPair:
        return locate_pair(self.pair, download=self.may_download)

    @cached_property
    def _hashed(self) -> Hash:
        """Each file's hash, of which each is read once: weights may be many gigabytes."""
        return cache(file_sha256)

    def manifest(self) -> dict[str, dict[str, dict[str, str | int]]]:
        """The files that answers come from, as they were when the pair was identified."""
        return manifest(self.located, self._hashed)

    @cached_property
    def of_files(self) -> dict[str, str]:
        """Revisions or hashes of receiver, sharer and fuser; LatentWireError for another hash than
        the pair pins."""
        identity = pair_identity(self.located, self._hashed)
        require_pinned(self.pair, identity)
        named = {"interface": self.pair.interface} if self.pair.interface else {}
        apart = {} if self.pair.shared_tokenizer else {"tokenizers": "two"}
        fresh = {"weights": UNTRAINED} if self.pair.untrained else {}
        return identity | named | apart | fresh

    @cached_property
    def identity(self) -> dict[str, str]:
        """`of_files`, and what of prompts and the ends of answers is not in the files."""
        return self.of_files | self.prompting.beside_files()

    @property
    def tokenizer(self) -> Any:
        """The receiver's tokenizer, once it is seen to agree with the sharer's, or to be one that
        prompts can be aligned with."""
        return self._tokenizers[0]

    @property
    def sharer_tokenizer(self) -> Any:
        """The sharer's, where it has one of its own; None where both read the same ids."""
        return None if self.pair.shared_tokenizer else self._tokenizers[1]

    def check_embedded(self, rows: dict[str, int]) -> None:
        """See `tokenizer.check_embedded`; of each model that which makes its prompts."""
        if self.sharer_tokenizer is None:
            return check_embedded(self.tokenizer, rows)
        for name, tokenizer in zip(("receiver", "sharer"), self._tokenizers, strict=True):
            check_embedded(tokenizer, {name: rows[name]}, name)

    @cached_property
    def _tokenizers(self) -> tuple[Any, Any]:
        """The receiver's and the sharer's."""
        receiver, sharer = map(load_tokenizer, (self.located.receiver, self.located.sharer))
        check = check_same_tokenizer if self.pair.shared_tokenizer else check_can_be_aligned
        check(receiver, sharer)
        return receiver, sharer

    @cached_property
    def prompting(self) -> Prompting:
        """What the template prints, and the tokens that end an answer."""
        return prompting_of(self.located, *self._tokenizers, self.pair.shared_tokenizer)

    @cached_property
    def models(self) -> "tuple[PreTrainedModel, PreTrainedModel]":
        """Receiver and sharer, frozen."""
        from c2c.load_model import load_model

        log.info("loading pair %s on %s in %s", self.pair.name, self.device, self.dtype)
        self.fit_threads()
        receiver = load_model(self.located.receiver, self.dtype, self.device)
        sharer = receiver
        if self.located.sharer != self.located.receiver:
            sharer = load_model(self.located.sharer, self.dtype, self.device)
        models = {"receiver": receiver, "sharer": sharer}
        self.check_embedded({n: m.get_input_embeddings().num_embeddings for n, m in models.items()})
        for name, model in models.items():
            model.generation_config.eos_token_id = sorted(self.prompting.ends[name])
        self._tell()
        return receiver, sharer

    @cached_property
    def in_memory(self) -> "LoadedPair":
        """Models and interface."""
        from c2c.cache import geometry
        from latentwire.interfaces.registry import load_interface, load_untrained, without_weights

        receiver, sharer = self.models
        shapes = geometry(sharer.config), geometry(receiver.config)
        if self.located.fuser:
            load = load_untrained if self.pair.untrained else load_interface
            interface = load(self.located.fuser, *shapes, self.dtype, self.device)
        else:
            interface = without_weights(self.pair.interface or "", *shapes)
        if not interface.layers_read("key") and not interface.layers_read("value"):
            log.warning(
                "every gate of the fuser is closed, so nothing would be sent and C2C will equal the"
                " receiver alone; take another fuser, or train it again"
            )
        return self.with_interface(interface)

    def inserts(self) -> bool:
        """Whether the message is put before the receiver's prompt, not merged into its cache."""
        from latentwire.interfaces.registry import inserts

        return inserts(self.located.fuser, self.pair.interface)

    def with_interface(self, interface: "Interface") -> "LoadedPair":
        """The models with an interface that is in memory, in their dtype and on their device."""
        from latentwire.channel.endpoint import Endpoint
        from latentwire.channel.packet import IDENTITY_BYTES
        from latentwire.evaluation.loaded_pair import LoadedPair

        identity = bytes.fromhex(combined_identity(self.identity))[:IDENTITY_BYTES]
        endpoint = Endpoint.of(interface, identity)
        return LoadedPair(*self.models, interface, self.tokenizer, endpoint, self.sharer_tokenizer)

    def fit_threads(self) -> None:
        """Have torch use as many threads as such models are quickest with; nothing where their
        files are still to be downloaded."""
        try:
            located = locate_pair(self.pair, download=False)
        except NotCached:
            return
        folders = {located.receiver, located.sharer, located.fuser} - {None}
        files = (
            path for folder in folders if folder for path in folder.iterdir() if path.is_file()
        )
        fit_threads(sum(path.stat().st_size for path in files), self.device)

    def _tell(self) -> None:
        """Say what is unusual about the pair that was loaded."""
        if self.prompting.printed or self.prompting.sharer_printed:
            log.info("%s", DATE_TOLD)
        for name, ends in self.prompting.ends.items():
            if ends != self.prompting.configured[name]:
                known = ", ".join(map(str, sorted(ends)))
                log.info("the %s's answers end at tokens %s, not only at its config's", name, known)
