"""A Slurm cluster of one node on this machine: its own munge, controller and node daemon."""

import getpass
import os
import platform
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SEARCHED = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "sinfo", "squeue", "scancel")
CPUS = 4  # declared, whatever the machine has: what runs side by side is part of the tests

CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
# A requeued job waits until its credentials have expired.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,batch_sched_delay=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobRequeue=1
PreemptType=preempt/none
KillWait=15
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing_programs() -> list[str]:
    """Those of Slurm's and munge's programs that this machine lacks."""
    return [name for name in PROGRAMS if _program(name) is None]


class Cluster:
    """The cluster; `env` is what makes Slurm's commands talk to it."""

    def __init__(self) -> None:
        # Not pytest's folder: a socket's path must be short, and munge wants it open to all.
        self.folder = Path(tempfile.mkdtemp(prefix="lw-slurm-"))
        self.folder.chmod(0o755)
        self.host = platform.node().partition(".")[0]
        self.env = {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": SEARCHED}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start all daemons; AssertionError with their logs when the node does not become idle."""
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        text = CONFIGURATION.format(
            host=self.host,
            controller_port=_free_port(),
            node_port=_free_port(),
            user=getpass.getuser(),
            folder=self.folder,
            cpus=CPUS,
        )
        Path(self.env["SLURM_CONF"]).write_text(text)
        self._daemon(
            *("munged", "--foreground", "--force", "--num-threads=2"),
            *(f"--socket={self.folder}/munge.socket", f"--key-file={key}"),
            *(f"--pid-file={self.folder}/munged.pid", f"--seed-file={self.folder}/munged.seed"),
        )
        self.wait_for(lambda: (self.folder / "munge.socket").exists(), 120, "munged")
        self._daemon("slurmctld", "-D", "-c")
        self._daemon("slurmd", "-D", "-N", self.host)
        self.wait_for(lambda: self.node_state() == "idle", 240, "the node to be idle")

    def stop(self) -> None:
        """Cancel what is queued, end the daemons and remove everything."""
        try:
            for job in self.slurm("squeue", "--noheader", "--format=%A").split():
                self.slurm("scancel", job)
            self.wait_for(lambda: not self.slurm("squeue", "--noheader"), 240, "an empty queue")
        finally:
            for daemon in reversed(self._daemons):
                daemon.terminate()
            for daemon in self._daemons:
                daemon.wait(timeout=30)
            shutil.rmtree(self.folder, ignore_errors=True)

    def slurm(self, program: str, *arguments: str) -> str:
        """What one of Slurm's commands printed; it must succeed."""
        done = subprocess.run(
            [str(_program(program)), *arguments],
            env=os.environ | self.env,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{program} {arguments}: {done.stderr}"
        return done.stdout.strip()

    def node_state(self) -> str:
        try:
            return self.slurm("sinfo", "--noheader", "--format=%T")
        except AssertionError:  # the controller is not up yet
            return ""

    def jobs(self, number: str) -> list[dict[str, str]]:
        """What Slurm says of every task of an array, finished ones too."""
        lines = self.slurm("scontrol", "show", "job", "--oneliner", number).splitlines()
        return [
            dict(word.partition("=")[::2] for word in line.split() if "=" in word) for line in lines
        ]

    def states(self, number: str) -> list[str]:
        return sorted(job["JobState"] for job in self.jobs(number))

    def wait_for(self, seen: Callable[[], object], seconds: float, what: str) -> None:
        """Wait until something is so; AssertionError with the daemons' logs if it never is."""
        deadline = time.monotonic() + seconds
        while not seen():
            if time.monotonic() > deadline:
                logs = [path.read_text()[-3000:] for path in sorted(self.folder.glob("*.log"))]
                raise AssertionError("\n".join([f"waited {seconds} s for {what}", *logs]))
            time.sleep(0.2)

    def _daemon(self, program: str, *arguments: str) -> None:
        with (self.folder / f"{program}.log").open("wb") as log:
            command = [str(_program(program)), *arguments]
            env = os.environ | self.env
            self._daemons.append(subprocess.Popen(command, stdout=log, stderr=log, env=env))


def _program(name: str) -> str | None:
    return shutil.which(name, path=SEARCHED)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
