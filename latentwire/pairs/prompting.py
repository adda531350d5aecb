"""What a pair reads and where its answers end, as far as files alone do not say it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from c2c.chat import end_of_turn, printed_from_outside, template_text
from c2c.errors import C2CError
from latentwire.errors import LatentWireError, first_line
from latentwire.pairs.locate import LocatedPair

Ends = frozenset[int]  # tokens that end an answer


@dataclass(frozen=True)
class Prompting:
    """How a pair is asked. Both models read what the receiver's template makes, or, where each has
    a tokenizer of its own, what its own makes."""

    printed: str  # around a message, by a template that asks for the date; else ""
    unhashed_template: str  # of a file that is not among a model's hashed ones; else ""
    configured: dict[str, Ends]  # by generation config alone, of `receiver` and `sharer`
    ends: dict[str, Ends]  # that are used
    # As the first two, of the sharer's template where it is used
    sharer_printed: str = ""
    sharer_unhashed_template: str = ""

    def beside_files(self) -> dict[str, str]:
        """Further parts of a pair's identity; none where its files say everything."""
        parts = {}
        for part, template, printed in (
            ("prompt", self.unhashed_template, self.printed),
            ("sharer_prompt", self.sharer_unhashed_template, self.sharer_printed),
        ):
            if printed or template:
                digest = hashlib.sha256(f"{template}\0{printed}".encode()).hexdigest()
                parts[part] = f"sha256:{digest}"
        for model, ends in self.ends.items():
            if ends != self.configured[model]:
                parts[f"{model}_ends"] = ",".join(map(str, sorted(ends)))
        return parts


def prompting_of(
    located: LocatedPair,
    receiver_tokenizer: Any,
    sharer_tokenizer: Any,
    shared_tokenizer: bool = True,
) -> Prompting:
    """How the pair in these folders is asked.

    Raises LatentWireError for a template that cannot be used and a generation config that cannot
    be read.
    """
    used = _template(located.receiver, receiver_tokenizer)
    sharers = ("", "") if shared_tokenizer else _template(located.sharer, sharer_tokenizer)
    sides = (
        ("receiver", located.receiver, receiver_tokenizer),
        ("sharer", located.sharer, sharer_tokenizer),
    )
    configured = {name: configured_ends(folder) for name, folder, _ in sides}
    turn = end_of_turn(receiver_tokenizer)
    turns = {"receiver": turn, "sharer": turn if shared_tokenizer else None}
    ends = {name: configured[name] | _own_ends(own, turns[name]) for name, _, own in sides}
    return Prompting(*used, configured, ends, *sharers)


def _template(folder: Path, tokenizer: Any) -> tuple[str, str]:
    """What the template prints from outside, and the template where no hash covers its file."""
    try:
        template, printed = template_text(tokenizer), printed_from_outside(tokenizer)
    except C2CError as error:
        raise LatentWireError(f"{folder}: {error}") from None
    hidden = folder / "additional_chat_templates" / "default.jinja"
    return printed, template if hidden.exists() else ""


def _own_ends(tokenizer: Any, turn: int | None) -> Ends:
    """What ends a text for the model's own tokenizer and template, and a turn in the prompts."""
    found = (tokenizer.eos_token_id, turn, _end_of_own_turn(tokenizer))
    return frozenset(token for token in found if token is not None)


def _end_of_own_turn(tokenizer: Any) -> int | None:
    return end_of_turn(tokenizer) if getattr(tokenizer, "chat_template", None) else None


def configured_ends(folder: Path) -> Ends:
    """The tokens that end an answer by a model's generation config, or, without one, its config.

    Raises LatentWireError for one that cannot be read.
    """
    from transformers import GenerationConfig  # it takes seconds

    try:
        try:
            config = GenerationConfig.from_pretrained(folder, local_files_only=True)
        except OSError:  # there is none: as transformers reads it then
            config = GenerationConfig.from_pretrained(
                folder,
                config_file_name="config.json",
                local_files_only=True,
                _from_model_config=True,
            )
        ids = config.eos_token_id
        found = [] if ids is None else ids if isinstance(ids, list) else [ids]
        if not all(type(token) is int for token in found):
            raise ValueError(f"eos_token_id is {ids!r}")
        return frozenset(found)
    except Exception as error:  # whatever stands in the file
        raise LatentWireError(
            f"{folder}: its generation config cannot be read: {first_line(error)}"
        ) from None
