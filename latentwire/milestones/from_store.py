"""How milestones begin that read the store and compute no answers."""

from typing import TYPE_CHECKING

from latentwire.garbage import importing
from latentwire.pairs.load import is_file_name, load_pair
from latentwire.parameters import Values

if TYPE_CHECKING:  # it takes seconds to import: a help text must not
    from latentwire.tracking.store import Store


def store_for(values: Values) -> "Store":
    """The store, opened. A pair's file is read first: what is wrong with it is said at once."""
    if is_file_name(values["pair"]):
        load_pair(values["pair"])
    with importing():
        from latentwire.tracking.store import open_store

    return open_store()
