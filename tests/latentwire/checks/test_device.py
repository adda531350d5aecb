"""Devices and their memory."""

from collections import namedtuple
from typing import Any

import psutil
import pytest
import torch

from latentwire.checks import device
from latentwire.checks.device import check_device, check_memory, nvidia_driver
from latentwire.checks.report import CheckWarning
from latentwire.errors import LatentWireError

Memory = namedtuple("Memory", "available total")


def free(monkeypatch: pytest.MonkeyPatch, gigabytes: float) -> None:
    found = Memory(int(gigabytes * 1e9), int(64e9))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: found)


def test_a_cpu_computes() -> None:
    assert check_device("cpu", torch.float32, ask_driver=False).startswith("cpu, ")


def test_a_device_that_cannot_compute_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def ones(*_: Any, **__: Any) -> torch.Tensor:
        raise RuntimeError("CUDA driver version is insufficient\nmore lines")

    monkeypatch.setattr(torch, "ones", ones)
    with pytest.raises(LatentWireError, match=r"by torch: CUDA driver version is insufficient$"):
        check_device("cuda", torch.bfloat16, ask_driver=False)


def test_a_gpu_that_torch_does_not_see_is_doubted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "nvidia_driver", lambda: "470.1")
    with pytest.raises(CheckWarning, match=r"an NVIDIA GPU with driver 470\.1 is here"):
        check_device("cpu", torch.float32, ask_driver=True)
    assert check_device("cpu", torch.float32, ask_driver=False)


@pytest.mark.parametrize(
    ("script", "version"), [("echo 550.54\necho 550.54", "550.54"), ("exit 9", None), ("", None)]
)
def test_the_driver_is_what_nvidia_smi_says(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, script: str, version: str | None
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nvidia_driver() == version
    program.unlink()
    assert nvidia_driver() is None


def test_memory_holds_weights_and_work(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 8)
    assert check_memory("cpu", 2 * 10**9) == "8.0 of 64.0 GB free, the pair's weights take 2.00 GB"
    assert "at least 2.00 GB" in check_memory("cpu", 2 * 10**9, whole=False)
    with pytest.raises(CheckWarning, match=r"work needs about 0\.5 GB more"):
        check_memory("cpu", int(7.9e9))
    with pytest.raises(LatentWireError, match=r"take 8\.10 GB"):
        check_memory("cpu", int(8.1e9))
    with pytest.raises(CheckWarning, match="only when its files are here"):
        check_memory("cpu", None)


def test_a_gpus_own_memory_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda name: (10**9, 80 * 10**9))
    free(monkeypatch, 1000)
    with pytest.raises(LatentWireError, match=r"1\.0 of 80\.0 GB free"):
        check_memory("cuda:0", 2 * 10**9)
