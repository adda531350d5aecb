#!/usr/bin/env bash
# From a bare CUDA image to the first finished chunk; docs/pods.md says how to use it.
#
# Everything that lasts lies in one folder, the volume. Each step looks first whether its work is
# there, so the same command goes on after a failure, or on the next pod with the same volume.
# `a && b || die` is meant here: die also when b fails.
# shellcheck disable=SC2015
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: runpod.sh [-e ENTRY] [-P NAME=VALUE ...] [options]

  -e, --entry-point ENTRY   entry point of the project (default: main)
  -P NAME=VALUE             a parameter of it; may be given again
  --volume DIR              the folder that outlasts the pod (default: /workspace)
  --repository URL          where to clone the project from, if this script is not in a checkout
  --ref NAME                branch or tag to clone (default: the repository's own)
  --experiment NAME         MLflow experiment (default: latentwire)
  --setup-only              stop before the entry point is started
  -h, --help                this text

Environment: PYTHON names the Python to use (3.11 to 3.14). HF_HOME, C2C_CKPT_ROOT and
MLFLOW_TRACKING_URI lie in the volume unless set. pip's own settings hold.
TEXT
}

# What a first run downloads for Linux on x86-64 and Python 3.11, summed from the lock's wheel
# sizes (docs/environments.md) and, for the default pair, from 16 bits a parameter.
readonly CUDA_PACKAGES_MB=3000 CPU_PACKAGES_MB=470 MODELS_MB=3500
readonly ASSUMED_MB_PER_S=40
# Installed packages take 2.2 times their wheels; the wheels are kept until all are installed.
readonly CUDA_ROOM_MB=14000 CPU_ROOM_MB=2500

# An address may hold a password or a token: before the @, or behind a "?".
hide() {
  sed -E -e 's#://[^[:space:]]*@#://***@#g' \
    -e 's#([?&;][^=&[:space:]]*(pass|pwd|token|secret|key)[^=&[:space:]]*=)[^&[:space:]]*#\1***#gI'
}
say() { printf 'runpod: %s\n' "$*" | hide; }
die() { printf 'runpod: %s\n' "$*" | hide >&2; exit "${status:-1}"; }
bad() { status=2 die "$*; --help lists the options"; }
now() { date +%s; }
minutes() { awk -v s="$1" 'BEGIN { if (s < 90) printf "%d s", s; else printf "%.0f min", s / 60 }'; }

entry=main volume=/workspace repository='' ref='' experiment=latentwire setup_only=false
parameters=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --setup-only) setup_only=true; shift; continue ;;
    -e | --entry-point | -P | --volume | --repository | --ref | --experiment) ;;
    *) bad "there is no option '$1'" ;;
  esac
  [ $# -ge 2 ] && [ -n "$2" ] || bad "$1 needs a value"
  case $1 in
    -e | --entry-point) entry=$2 ;;
    -P) [[ $2 =~ ^[A-Za-z_][A-Za-z0-9_]*=.*$ ]] || bad "-P takes NAME=VALUE, not '$2'"
        parameters+=("$2") ;;
    --volume) volume=$2 ;;
    --repository) repository=$2 ;;
    --ref) ref=$2 ;;
    --experiment) experiment=$2 ;;
  esac
  shift 2
done

began=$(now)
mkdir -p "$volume" 2>/dev/null && [ -w "$volume" ] \
  || die "the volume $volume cannot be written: mount it, or name another with --volume"
volume=$(cd "$volume" && pwd)
log=$volume/runpod.log
venv=$volume/venv
export HF_HOME=${HF_HOME:-$volume/hf}
export C2C_CKPT_ROOT=${C2C_CKPT_ROOT:-$volume/fusers}
export MLFLOW_TRACKING_URI=${MLFLOW_TRACKING_URI:-sqlite:///$volume/mlflow.db}
export TRITON_CACHE_DIR=${TRITON_CACHE_DIR:-$volume/triton}
# Wheels outlast a killed installation here, so it goes on where it was.
export PIP_CACHE_DIR=$volume/pip-cache PIP_DISABLE_PIP_VERSION_CHECK=1

# quietly WHAT COMMAND...: output goes to the log; a failure ends in one sentence with its last line.
quietly() {
  local what=$1 from
  shift
  from=$(($(wc -l <"$log") + 1))
  "$@" 2>&1 | hide >>"$log" \
    || die "$what failed: $(tail -n "+$from" "$log" | grep -v '^[[:space:]]*$' | grep -iv '^warning' | tail -n 1 || true) (all of it in $log)"
}
: >>"$log"
printf '=== %s %s\n' "$(date -u +%FT%TZ)" "$entry ${parameters[*]-}" | hide >>"$log"

# --- the machine -----------------------------------------------------------------------------
gpu=''
if command -v nvidia-smi >/dev/null; then
  gpu=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -n 1 || true)
fi
if [ -n "$gpu" ]; then
  say "GPU: $gpu"
  packages_mb=$CUDA_PACKAGES_MB room_mb=$CUDA_ROOM_MB models_mb=$MODELS_MB
else
  say "no GPU here: everything runs on the CPU, pair=auto is then the bundled pair"
  packages_mb=$CPU_PACKAGES_MB room_mb=$CPU_ROOM_MB models_mb=0
fi
say "volume: $volume"
if ! [ -e "$venv/.latentwire" ]; then
  say "to download, at most: torch with CUDA and packages $CUDA_PACKAGES_MB MB ($CPU_PACKAGES_MB MB" \
    "where pip is set up for a CPU build), the default pair $MODELS_MB MB (the bundled one: nothing)," \
    "questions 2 MB, system packages 100 MB"
  say "at $ASSUMED_MB_PER_S MB/s (assumed)" \
    "$(minutes $(((CUDA_PACKAGES_MB + MODELS_MB + 100) / ASSUMED_MB_PER_S))), and as long again to unpack;" \
    "the first package will show the rate"
fi

# --- system packages -------------------------------------------------------------------------
supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; }
has_venv() { "$1" -c 'import venv, ensurepip' 2>/dev/null; }
find_python() {
  local name found=''
  for name in ${PYTHON:+"$PYTHON"} python3 python3.11 python3.12 python3.13 python3.14; do
    command -v "$name" >/dev/null && supported "$name" || continue
    if has_venv "$name"; then command -v "$name"; return; fi
    found=${found:-$(command -v "$name")}
  done
  [ -n "$found" ] && printf '%s\n' "$found"
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

install_system_packages() {
  [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; } \
    || die "not root and no sudo: have an administrator install $*, then start again"
  command -v apt-get >/dev/null || die "no apt-get here: install $* by hand, then start again"
  quietly "apt-get update" as_root apt-get -o DPkg::Lock::Timeout=300 update
  quietly "installing $*" as_root env DEBIAN_FRONTEND=noninteractive apt-get \
    -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends "$@"
}

if [ -n "${PYTHON:-}" ]; then
  command -v "$PYTHON" >/dev/null && supported "$PYTHON" \
    || die "PYTHON=$PYTHON is not a Python of 3.11 to 3.14"
fi
missing=()
command -v git >/dev/null || missing+=(git)
[ -s /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
python=$(find_python || true)
if [ -z "$python" ]; then
  missing+=(python3 python3-venv)
elif ! has_venv "$python" && ! [ -e "$venv/.latentwire" ]; then
  missing+=("$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')")
fi
if [ -n "$gpu" ]; then # Triton compiles a few lines of C for every kernel
  command -v cc >/dev/null || missing+=(gcc libc6-dev)
  if [ -z "$python" ]; then
    missing+=(python3-dev)
  elif [[ $python == /usr/bin/* ]]; then # any other brings its headers
    [ -e "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] \
      || missing+=("$("$python" -c 'import sys; print("python%d.%d-dev" % sys.version_info[:2])')")
  fi
fi
step=$(now)
if [ ${#missing[@]} -eq 0 ]; then
  say "system packages: already there"
else
  say "system packages: installing ${missing[*]}"
  install_system_packages "${missing[@]}"
  say "system packages: done in $(minutes $(($(now) - step)))"
  python=$(find_python || true)
fi
if [ -z "$python" ]; then
  # An older distribution: its own Python fetches a newer one onto the volume.
  say "Python: this system has none of 3.11 to 3.14, fetching 3.12 (30 MB) to $volume/python"
  export UV_PYTHON_INSTALL_DIR=$volume/python UV_CACHE_DIR=$volume/pip-cache/uv
  [ -x "$volume/tools/bin/uv" ] || {
    quietly "making $volume/tools" python3 -m venv --clear "$volume/tools"
    quietly "installing uv" "$volume/tools/bin/python" -m pip install uv
  }
  quietly "fetching Python 3.12" "$volume/tools/bin/uv" python install 3.12
  python=$("$volume/tools/bin/uv" python find 3.12) || die "Python 3.12 was fetched and cannot be found"
fi

# --- checkout --------------------------------------------------------------------------------
own=''
if [ -n "${BASH_SOURCE[0]:-}" ] && [ -f "$(dirname "${BASH_SOURCE[0]}")/../MLproject" ]; then
  own=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
fi
checkout=$volume/latentwire
case $own/ in "$volume"/*) [ -n "$repository" ] || checkout=$own ;; esac
if [ -f "$checkout/MLproject" ]; then
  say "checkout: already there, $checkout"
else
  [ ! -e "$checkout" ] || die "$checkout is there and is not a checkout: move it away"
  # Made beside its place and moved, so that half a copy is never taken for a whole one.
  rm -rf "$checkout.partial"
  if [ -n "$repository" ]; then
    say "checkout: cloning $repository"
    quietly "cloning $repository" git clone ${ref:+--branch "$ref"} "$repository" "$checkout.partial"
    [ -f "$checkout.partial/MLproject" ] || die "$repository is not this project: it has no MLproject"
  elif [ -n "$own" ]; then
    say "checkout: copying $own to $checkout"
    copied=''
    # A program that writes there meanwhile (git refreshes its index) makes tar refuse its own copy. In
    # the end one is taken of which tar says no more than that something changed (status 1).
    for tolerated in 0 0 1; do
      rm -rf "$checkout.partial" && mkdir -p "$checkout.partial"
      if (cd "$own" && { tar --exclude=./.venv --exclude=./mlruns --exclude='./mlflow.db*' --exclude=./outputs \
        --exclude=./outbox --exclude=__pycache__ --exclude='./.*_cache' \
        --no-same-owner -cf - . || [ $? -le "$tolerated" ]; }) 2>>"$log" |
        tar -xf - --no-same-owner -C "$checkout.partial" 2>>"$log"; then
        copied=yes
        break
      fi
      sleep 1
    done
    [ -n "$copied" ] || die "$own could not be copied to $checkout.partial (why is in $log)"
  else
    die "there is no checkout in $volume: say where to clone it from with --repository URL"
  fi
  mv "$checkout.partial" "$checkout"
fi
grep -qxF "  $entry:" "$checkout/MLproject" \
  || bad "there is no entry point '$entry', only $(sed -n 's/^  \([a-z0-9_]*\):$/\1/p' "$checkout/MLproject" | xargs)"

# --- Python environment ----------------------------------------------------------------------
minor() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }
wanted="$(cat "$checkout/constraints.txt" "$checkout/pyproject.toml" | sha256sum | cut -c1-64) $(minor "$python") $checkout"
stamp=$venv/.latentwire
step=$(now)
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && [ "$(minor "$venv/bin/python")" = "$(minor "$python")" ]; then
  say "Python environment: already there, $venv"
else
  free_mb=$(df -Pm "$volume" | awk 'NR == 2 { print $4 }')
  [ "$free_mb" -ge "$((room_mb + models_mb))" ] || [ -e "$stamp" ] \
    || die "$volume has $free_mb MB free and needs $((room_mb + models_mb)): take a larger volume"
  # Without a stamp an installation was cut off, and a package may be there in part.
  if ! [ -e "$stamp" ] || [ "$(minor "$venv/bin/python")" != "$(minor "$python")" ]; then
    say "Python environment: making $venv with $(minor "$python")"
    quietly "making $venv" "$python" -m venv --clear "$venv"
  fi
  pip=("$venv/bin/python" -m pip)
  # The first download of some size tells how long the rest takes.
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  quietly "downloading a first package" "${pip[@]}" --no-cache-dir download --no-deps \
    --dest "$scratch" "$(grep '^scipy==' "$checkout/constraints.txt")"
  kb_per_s=$(($(du -sk "$scratch" | cut -f1) / ($(now) - step + 1)))
  [ "$kb_per_s" -gt 0 ] || kb_per_s=1
  say "Python environment: installing packages, up to $CUDA_PACKAGES_MB MB;" \
    "at $((kb_per_s / 1000)) MB/s (measured) about $(minutes $((packages_mb * 2000 / kb_per_s)))"
  step=$(now)
  rm -f "$stamp"
  quietly "installing packages" "${pip[@]}" install --constraint "$checkout/constraints.txt" \
    --editable "$checkout"
  printf '%s\n' "$wanted" >"$stamp"
  rm -rf "$PIP_CACHE_DIR"
  say "Python environment: done in $(minutes $(($(now) - step))), $(du -sm "$venv" | cut -f1) MB"
fi
export PATH=$venv/bin:$PATH

# --- models and questions --------------------------------------------------------------------
# The project's own functions look for what the parameters name; a sentence says what went wrong.
step=$(now)
say "models and questions of the pair: looking in $HF_HOME"
cd "$checkout" # where mlflow runs the entry point, so that relative paths mean the same
"$venv/bin/python" - "$entry" "${gpu:+gpu}" "$MODELS_MB" ${parameters[@]+"${parameters[@]}"} <<'PYTHON' || exit 1
import sys
from pathlib import Path


def ready(entry: str, gpu: str, models_mb: str, given: dict[str, str]) -> None:
    import time

    import yaml

    from latentwire.errors import LatentWireError

    project = yaml.safe_load((Path(PROJECT) / "MLproject").read_text())
    known = project["entry_points"][entry]["parameters"]
    if unknown := set(given) - set(known):
        raise LatentWireError(f"{entry} has no parameter {', '.join(sorted(unknown))}; it has {', '.join(known)}")

    import torch

    from latentwire.environment import choose_device
    from latentwire.pairs.load import choose_pair, load_pair
    from latentwire.pairs.locate import locate_pair
    from latentwire.tasks.registry import load_dataset

    if gpu and not torch.cuda.is_available() and not given.get("device", "auto").startswith("cpu"):
        raise LatentWireError(
            f"torch {torch.__version__} cannot use this pod's GPU: take a pod with a newer driver"
            " (CUDA 13 needs 580 or later), or -P device=cpu"
        )
    if not {"pair", "data_dir"} <= set(known) or given.get("dry_run", "false").lower() == "true":
        print("runpod: models and questions: none needed", flush=True)
        return
    device = choose_device(given.get("device", "auto"))
    pair = load_pair(choose_pair(given.get("pair", "auto"), device.startswith("cuda"))[0])
    try:
        locate_pair(pair, download=False)
        print(f"runpod: models and fuser of {pair.name}: already there", flush=True)
    except LatentWireError:
        print(
            f"runpod: models and fuser of {pair.name}: downloading ({models_mb} MB for the default"
            " pair, larger models more)",
            flush=True,
        )
        began = time.monotonic()
        located = locate_pair(pair)
        seconds = time.monotonic() - began
        folders = (located.receiver, located.sharer, located.fuser)
        size_mb = sum(p.stat().st_size for f in folders for p in f.rglob("*") if p.is_file()) / 1e6
        print(
            f"runpod: models and fuser of {pair.name}: {size_mb:.0f} MB in {seconds:.0f} s,"
            f" {size_mb / max(seconds, 1):.0f} MB/s if none of it was here",
            flush=True,
        )
    names = given.get("dataset", "auto")
    data_dir = Path(given["data_dir"]) if given.get("data_dir") else None
    for name in pair.datasets if names == "auto" else names.split(","):
        rows = len(load_dataset(name.strip(), data_dir).examples)
        print(f"runpod: questions of {name.strip()}: {rows} there", flush=True)


PROJECT = __import__("latentwire").__path__[0] + "/.."
try:
    ready(*sys.argv[1:4], dict(text.split("=", 1) for text in sys.argv[4:]))
except Exception as error:
    sys.exit(f"runpod: {error}")
PYTHON
say "models and questions: done in $(minutes $(($(now) - step)))"
if $setup_only; then
  say "set up in $(minutes $(($(now) - began))); start it without --setup-only to run $entry"
  exit 0
fi

# --- run -------------------------------------------------------------------------------------
options=()
for parameter in ${parameters[@]+"${parameters[@]}"}; do options+=(-P "$parameter"); done
say "running $entry; runs go to $MLFLOW_TRACKING_URI"
# In the volume: MLflow puts a new experiment's artifacts below the working directory.
cd "$volume"
result=0
mlflow run "$checkout" -e "$entry" --env-manager local --experiment-name "$experiment" \
  ${options[@]+"${options[@]}"} || result=$?
"$venv/bin/python" - "$began" <<'PYTHON' || true
import sys

from latentwire.tracking.store import open_store

began = float(sys.argv[1])
chunks = [
    run.info.end_time / 1000
    for run in open_store().search("tags.`latentwire.level` = 'chunk' and status = 'FINISHED'")
]
new = [end for end in chunks if end >= began]
first = f", the first of them {min(new) - began:.0f} s after this script began" if new else ""
print(f"runpod: {len(chunks)} finished chunks in the store, {len(new)} from this start{first}", flush=True)
PYTHON
[ "$result" = 0 ] || status=$result die \
  "$entry ended with status $result; finished chunks are kept, the same command goes on from them"
say "$entry is done, $(minutes $(($(now) - began))) after this script began; see the runs with:" \
  "$venv/bin/mlflow ui --backend-store-uri $MLFLOW_TRACKING_URI"
