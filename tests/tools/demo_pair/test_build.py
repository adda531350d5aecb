"""The builder, in miniature, and what it leaves on disk."""

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from c2c.cache import geometry
from c2c.checkpoint import load_fuser
from c2c.load_model import load_model
from latentwire.errors import LatentWireError
from tools.demo_pair.build import build_demo_pair
from tools.demo_pair.readme import readme_text


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("pair")
    told: dict[str, list[int]] = defaultdict(list)

    def on_metrics(stage: str, figures: dict[str, float], step: int) -> None:
        assert all(math.isfinite(value) for value in figures.values())
        told[stage].append(step)

    report = build_demo_pair(folder, seed=5, device="cpu", on_metrics=on_metrics, quick=True)
    return folder, report, told


def test_every_stage_tells_its_figures(made: tuple[Path, dict[str, Any], dict[str, Any]]) -> None:
    _, report, told = made
    assert set(told) == {
        "sharer",
        "receiver",
        "fuser",
        "outliers",
        "dev_facts",
        "dev_graded",
        "test_facts",
        "test_graded",
    }
    assert set(report["training"]["seconds"]) == {"sharer", "receiver", "fuser"}
    assert set(report["training"]["last_metrics"]) == {"sharer", "receiver", "fuser"}
    assert set(report["seconds"]) == {"outliers", "measures"}


def test_what_is_saved_loads_as_a_pair(made: tuple[Path, dict[str, Any], dict[str, Any]]) -> None:
    folder, report, _ = made
    receiver, sharer = (
        load_model(folder / name, torch.float32, "cpu") for name in ("receiver", "sharer")
    )
    fuser = load_fuser(
        folder / "fuser" / "final", geometry(sharer.config), geometry(receiver.config)
    )
    config = receiver.config
    assert (config.model_type, sharer.config.model_type) == ("qwen3", "qwen2")
    assert config.head_dim != config.hidden_size // config.num_attention_heads
    assert fuser.layer_map.keys() == set(range(geometry(config).layers))
    tokenizers = [AutoTokenizer.from_pretrained(folder / name) for name in ("receiver", "sharer")]
    assert tokenizers[0].get_vocab() == tokenizers[1].get_vocab()
    assert receiver.generation_config.eos_token_id == tokenizers[0].eos_token_id
    bias = sharer.model.layers[0].self_attn.k_proj.bias
    magnitudes = torch.tensor(report["outliers"]["magnitudes"])
    dim = geometry(sharer.config).head_dim
    assert torch.equal(bias[dim // 2 - 1 :: dim], magnitudes[0, 0])


def test_the_report_is_on_disk_and_the_readme_says_what_it_is(
    made: tuple[Path, dict[str, Any], dict[str, Any]],
) -> None:
    folder, report, _ = made
    assert json.loads((folder / "build.json").read_text()) == json.loads(json.dumps(report))
    text = (folder / "README.md").read_text()
    assert text == readme_text(report)
    assert "they are not the paper's" in text


@pytest.mark.slow
def test_the_same_seed_makes_the_same_bytes(
    made: tuple[Path, dict[str, Any], dict[str, Any]], tmp_path: Path
) -> None:
    folder, _, _ = made
    build_demo_pair(tmp_path, seed=5, device="cpu", quick=True)
    for name in ("receiver/model.safetensors", "sharer/model.safetensors"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
    for name in ("data/demo_facts/test.jsonl", "receiver/tokenizer.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_what_comes_after_training_can_be_made_anew_without_it(
    made: tuple[Path, dict[str, Any], dict[str, Any]], tmp_path: Path
) -> None:
    folder, report, _ = made
    again = build_demo_pair(tmp_path, seed=5, device="cpu", quick=True, trained_dir=folder)
    assert json.dumps({**again, "seconds": 0}) == json.dumps({**report, "seconds": 0})
    for name in ("receiver", "sharer"):
        saved, before = (path / name / "model.safetensors" for path in (tmp_path, folder))
        assert saved.read_bytes() == before.read_bytes()


def test_a_pair_of_another_world_or_none_is_refused(
    made: tuple[Path, dict[str, Any], dict[str, Any]], tmp_path: Path
) -> None:
    folder, _, _ = made
    with pytest.raises(LatentWireError, match="another world"):
        build_demo_pair(tmp_path, seed=6, device="cpu", quick=True, trained_dir=folder)
    with pytest.raises(LatentWireError, match="no whole pair"):
        build_demo_pair(tmp_path, seed=5, device="cpu", quick=True, trained_dir=tmp_path)


@pytest.mark.parametrize("device", ["abacus", "meta"])
def test_another_device_is_refused(device: str, tmp_path: Path) -> None:
    with pytest.raises(LatentWireError, match=device):
        build_demo_pair(tmp_path, seed=0, device=device, quick=True)
