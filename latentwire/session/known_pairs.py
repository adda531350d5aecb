"""The identity of a pair whose files a run of the store has seen before.

What of it is not in the files (see `prompting_of`) follows from tokenizers and templates, which
take seconds to load. It depends on nothing but the files, the code that looks and its libraries: a
digest of these stands on the run of every grid, beside what was found. That serves to see that all
is finished; before anything is computed, it is looked for again.
"""

import json
from importlib import metadata
from pathlib import Path

from c2c import chat
from latentwire.pairs import prompting, tokenizer
from latentwire.pairs.identity import hash_files
from latentwire.session.pair_in_use import PairInUse
from latentwire.session.session import Session
from latentwire.tracking.runs import digest_of

PAIR_FILES = "latentwire.pair_files"
BESIDE_FILES = "latentwire.beside_files"

_TEMPLATES = "additional_chat_templates/*.jinja"
_LIBRARIES = ("transformers", "tokenizers", "jinja2")
_CODE = [Path(str(module.__file__)) for module in (chat, prompting, tokenizer)]


def tags_of(files: PairInUse) -> dict[str, str]:
    """What a run keeps of its pair."""
    beside = dict(files.identity.items() - files.of_files.items())
    return {PAIR_FILES: _digest(files), BESIDE_FILES: json.dumps(beside, sort_keys=True)}


def recall(session: Session) -> bool:
    """Give the session's pair the identity that a run of its store remembers, if there is one."""
    files = session.files
    run = next(session.store.search(tags={PAIR_FILES: _digest(files)}), None)
    if run is None:
        return False
    files.identity = files.of_files | json.loads(run.data.tags[BESIDE_FILES])
    return True


def _digest(files: PairInUse) -> str:
    """What the parts of the identity beside the files follow from."""
    models = (files.located.receiver, files.located.sharer)
    return digest_of(
        [
            files.of_files,
            # No identity's hash holds these.
            [hash_files(each, [_TEMPLATES]) for each in models if any(each.glob(_TEMPLATES))],
            [path.read_text(encoding="utf-8") for path in _CODE],
            {name: metadata.version(name) for name in _LIBRARIES},
        ]
    )
