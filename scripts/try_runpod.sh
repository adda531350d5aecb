#!/usr/bin/env bash
# Tries runpod.sh for real in clean Debian roots: a first start, a second, a pod that was replaced
# while its volume was kept, and a user who is not root. Needs root and debootstrap.
#
# What the machine's pip needs goes in by TRY_BINDS (paths, mounted read-only at the same place;
# a pip configuration in /etc counts) and by the environment (PIP_*).
set -euo pipefail
[ $# -ge 1 ] || { echo "usage: try_runpod.sh WORK_DIR [SUITE]" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "try_runpod.sh: root is needed, to make a root file system" >&2; exit 1; }
command -v debootstrap >/dev/null || { echo "try_runpod.sh: install debootstrap first" >&2; exit 1; }
mkdir -p "$1"
work=$(cd "$1" && pwd) suite=${2:-bookworm}
here=$(cd "$(dirname "$0")/.." && pwd)
volume=$work/volume
mkdir -p "$volume"

if ! [ -f "$work/base/etc/debian_version" ]; then
  rm -rf "$work/base.partial"
  debootstrap --variant=minbase "$suite" "$work/base.partial" >"$work/debootstrap.log" 2>&1 \
    || { tail -n 1 "$work/debootstrap.log" >&2; exit 1; }
  mv "$work/base.partial" "$work/base"
fi

# new_pod NAME: a fresh root. Its mounts live in pod()'s own mount namespace alone.
new_pod() {
  [ ! -e "$work/$1" ] || rm -rf --one-file-system "${work:?}/$1"
  cp -a "$work/base" "$work/$1"
  cp /etc/resolv.conf "$work/$1/etc/resolv.conf"
}

# pod NAME USER COMMAND...: runs a command in it.
pod() {
  local root=$work/$1 user=$2
  shift 2
  local settings=()
  mapfile -t settings < <(env | grep '^PIP_' || true)
  # shellcheck disable=SC2016
  env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LANG=C.UTF-8 \
    OMP_NUM_THREADS=1 ${settings[@]+"${settings[@]}"} ROOT="$root" VOLUME="$volume" HERE="$here" \
    BINDS="${TRY_BINDS:-}" RUN_AS="$user" unshare --mount --propagation private bash -euc '
      mkdir -p "$ROOT/workspace" "$ROOT/source"
      mount --bind "$VOLUME" "$ROOT/workspace"
      mount --bind "$HERE" "$ROOT/source"
      for path in $BINDS; do
        if [ -d "$path" ]; then mkdir -p "$ROOT$path"; else mkdir -p "$ROOT$(dirname "$path")"; touch "$ROOT$path"; fi
        mount --bind "$path" "$ROOT$path"
        mount -o remount,bind,ro "$ROOT$path"
      done
      mount -t proc proc "$ROOT/proc"
      mount --rbind /dev "$ROOT/dev"
      exec chroot ${RUN_AS:+--userspec="$RUN_AS"} "$ROOT" "$@"' pod "$@"
}

attempt() { # TITLE POD USER ARGUMENTS...
  local title=$1 began
  shift
  printf '\n=== %s\n' "$title"
  began=$(date +%s)
  local result=0
  pod "$1" "$2" bash "${@:3}" || result=$?
  printf '=== status %s after %s s\n' "$result" "$(($(date +%s) - began))"
  return "$result"
}

small=(-e m0 -P limit=4 -P dataset=demo_facts)
new_pod pod1
attempt "first start, as root, nothing there" pod1 "" /source/scripts/runpod.sh "${small[@]}"
attempt "second start" pod1 "" /workspace/latentwire/scripts/runpod.sh "${small[@]}"
new_pod pod2
attempt "the pod was replaced, the volume kept" pod2 "" \
  /workspace/latentwire/scripts/runpod.sh "${small[@]}" -P seed=43
new_pod pod3
attempt "not root, no sudo, packages missing: has to stop" pod3 1000:1000 \
  /source/scripts/runpod.sh --volume /tmp/volume "${small[@]}" && exit 1
attempt "not root, in a pod that has the packages" pod2 1000:1000 \
  /source/scripts/runpod.sh --volume /tmp/volume --setup-only "${small[@]}"
pod pod2 "" timeout --signal KILL 45 bash \
  /source/scripts/runpod.sh --volume /tmp/killed "${small[@]}" || true
attempt "killed after 45 s, then started again" pod2 "" \
  /source/scripts/runpod.sh --volume /tmp/killed "${small[@]}"
attempt "a published pair without a network: has to stop" pod2 "" \
  /workspace/latentwire/scripts/runpod.sh -e m0 -P pair=qwen3_0.6b+qwen2.5_0.5b && exit 1
attempt "an entry point that is not there: has to stop" pod2 "" \
  /workspace/latentwire/scripts/runpod.sh -e m9 && exit 1
# A pod with a GPU's tools but a torch that cannot use it.
printf '#!/bin/sh\necho "Pretended GPU, 470.00"\n' >"$work/pod2/usr/local/bin/nvidia-smi"
chmod +x "$work/pod2/usr/local/bin/nvidia-smi"
attempt "a GPU that torch cannot use: has to stop" pod2 "" \
  /workspace/latentwire/scripts/runpod.sh "${small[@]}" && exit 1
attempt "the same with -P device=cpu -P pair=demo" pod2 "" \
  /workspace/latentwire/scripts/runpod.sh "${small[@]}" -P device=cpu -P pair=demo
printf '\nAll attempts ended as they should.\n'
