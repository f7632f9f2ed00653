#!/bin/bash
# A conversion on 16 nodes of a Slurm cluster: the plan, an array of workers, and the end once all of them are done.
#
#   bash slurm.sh s3://bucket/run-17 s3://bucket/run-17-hf --to hf
#
# SRC, DST and PLAN are seen by every node: addresses of a store, or paths of a shared file system. A worker that Slurm starts again does
# what it had not done; `scontrol requeue` or the last step's hint does the same by hand.
set -euo pipefail

src=$1 dst=$2
shift 2
plan=${PLAN:-$dst.plan.json}
workers=${WORKERS:-16}

ckptkit convert "$src" "$dst" "$@" --plan-to "$plan"

array=$(sbatch --parsable --requeue --array="0-$((workers - 1))" --cpus-per-task=4 --mem=4G --job-name=ckptkit-work \
    --wrap "ckptkit work '$plan'")
sbatch --dependency="afterok:$array" --job-name=ckptkit-finish --wrap "ckptkit finish '$plan'"
