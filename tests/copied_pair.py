"""A pair of one's own: a copy of the bundled one, to be changed."""

import shutil
from pathlib import Path

from latentwire.pairs.load import load_pair


def pair_of(folder: Path, sha256: str = "") -> Path:
    """Copy the bundled pair into a folder; its YAML file, which pins the fuser's `sha256`."""
    demo = load_pair("demo")
    lines = ["name: mine", "description: a copy", "shared_tokenizer: true"]
    for part in ("receiver", "sharer", "fuser"):
        shutil.copytree(getattr(demo, part).path, folder / part)
        lines += [f"{part}:", f"  path: {part}"]
    if sha256:
        lines.append(f"  sha256: {sha256}")
    path = folder / "mine.yaml"
    path.write_text("\n".join([*lines, "datasets: [demo_facts]"]) + "\n")
    return path
