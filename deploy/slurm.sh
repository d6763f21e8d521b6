#!/bin/bash
#SBATCH --job-name=vitrail
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=96
#SBATCH --signal=TERM@120
#SBATCH --requeue
# The signal comes two minutes before the end of the job's time, or when it is preempted: the run ends after its step, saved,
# and goes on where it was when Slurm starts the job again.
set -euo pipefail
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 # a machine that comes back must not find the addresses of dead processes
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node 8 --max-restarts 20 \
  --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$head:29500" \
  -m vitrail pretrain imagenet-b16 --train /data/imagenet@train --test /data/imagenet@test --out /runs/b16 --sharding hybrid
