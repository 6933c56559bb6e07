#!/usr/bin/env bash
# A real SLURM on one machine, two nodes of one core each, and what a cluster does to a run: finished, told to stop and
# requeued, preempted, refused; a sweep by submitit, one run of it out of time, one told to move. Prints a table; ends only
# what it started. Needs Debian's slurm-wlm and munge, root, and for the sweep hydra-submitit-launcher.
#   apt-get install -y --no-install-recommends slurm-wlm munge
#   tests/scale/slurm.sh [finished] [requeued] [preempted] [refused] [evaluated] [submitit]
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
place=$(mktemp -d)
python=$(command -v python)
started=()
finish() {
  # Jobs first: without their daemons they would go on as orphans. This cluster's only, whatever SLURM_CONF was before.
  if [ -f "$place/slurm.conf" ]; then
    SLURM_CONF=$place/slurm.conf timeout 20 bash -c '
      squeue -h -o %i | xargs -r -n 1 scancel --full --signal=KILL
      squeue -h -o %i | xargs -r scancel
      while squeue -h | grep -q .; do sleep 0.2; done' 2> /dev/null || true
  fi
  for id in "${started[@]}"; do kill "$id" 2>/dev/null || true; done
  wait 2>/dev/null || true
  [ -n "${KEEP:-}" ] && echo "kept: $place" || rm -rf "$place"
}
trap finish EXIT

cluster() {
  mkdir -p "$place"/{munge,state,spool}
  dd if=/dev/urandom of="$place/munge/munge.key" bs=1024 count=1 status=none
  chmod 400 "$place/munge/munge.key"
  cat > "$place/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmctldPort=16817
AuthType=auth/munge
AuthInfo=socket=$place/munge/socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$place/state
SlurmdSpoolDir=$place/spool/%n
SlurmctldPidFile=$place/slurmctld.pid
SlurmdPidFile=$place/slurmd-%n.pid
SlurmctldLogFile=$place/slurmctld.log
SlurmdLogFile=$place/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=60
NodeName=n0 NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=16820 CPUs=1 State=UNKNOWN
NodeName=n1 NodeHostname=$(hostname) NodeAddr=127.0.0.1 Port=16821 CPUs=1 State=UNKNOWN
PartitionName=low Nodes=n0,n1 Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=120
PartitionName=high Nodes=n0,n1 MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
CONF
  export SLURM_CONF=$place/slurm.conf
  chmod 711 "$place" "$place/munge"
  munged -F -f --key-file="$place/munge/munge.key" --socket="$place/munge/socket" --pid-file="$place/munge/pid" \
    --log-file="$place/munge/log" --seed-file="$place/munge/seed" > "$place/munged.out" 2>&1 &
  started+=($!)
  until [ -S "$place/munge/socket" ]; do sleep 0.2; done
  slurmctld -D -f "$SLURM_CONF" > "$place/controller.out" 2>&1 &
  started+=($!)
  for node in n0 n1; do
    slurmd -D -N "$node" -f "$SLURM_CONF" > "$place/$node.out" 2>&1 &
    started+=($!)
  done
  until [ "$(sinfo -h -t idle -o %D 2>/dev/null | head -1)" = 2 ]; do sleep 0.5; done
}

# The tiny run of tests/pipeline.
settings() {
  sed -n '/^TINY = \[/,/^\]/p' tests/pipeline/conftest.py | grep -o '"[^"]*"' | tr -d '"'
}

# On both nodes.
tiny() {
  settings | sed "s/.*/'&'/" | tr '\n' ' '
  echo "'hydra.run.dir=$1' trainer=multinode trainer.accelerator=cpu trainer.num_nodes=2 trainer.devices=1"
}

job() { # job NAME OVERRIDES…: submit the batch script of conf/trainer/multinode.yaml, print its number
  cat > "$place/$1.sh" <<SCRIPT
#!/usr/bin/env bash
#SBATCH --job-name=$1 --nodes=2 --ntasks-per-node=1 --requeue --open-mode=append --partition=low
#SBATCH --output=$place/$1.log --chdir=$root
export MASTER_ADDR=127.0.0.1 OMP_NUM_THREADS=1
srun --kill-on-bad-exit=1 "$python" train.py $(tiny "$place/$1") ${*:2}
rc=\$?
echo "\$rc" >> "$place/$1.codes"
[ \$rc = 143 ] && scontrol requeue \$SLURM_JOB_ID
exit \$rc
SCRIPT
  sbatch --parsable "$place/$1.sh"
}

training() { # training NAME: wait for the first checkpoint
  until [ -f "$place/$1/checkpoints/last.ckpt" ]; do sleep 0.1; done
}

over() { # over ID: wait until the job has left the queue for good
  until ! squeue -h -j "$1" 2>/dev/null | grep -q .; do
    sleep 1
    scontrol release "$1" > /dev/null 2>&1 || true
  done
}

row() { # row NAME [FOLDER]: exit codes, whether it is finished, rows of its log and how many of them twice
  local log=${2:-$place/$1}/metrics.csv kimg
  kimg=$([ -f "$log" ] && tail -n +2 "$log" | cut -d, -f1 || true)
  printf '| %-10s | %-9s | %-6s | %-8s | %-5s |\n' "$1" "$(tr '\n' ' ' < "$place/$1.codes" 2>/dev/null)" \
    "$([ -f "${2:-$place/$1}/report.json" ] && echo yes || echo no)" "$(echo "$kimg" | grep -c .)" \
    "$(echo "$kimg" | sort | uniq -d | grep -c . || true)"
}

finished() { over "$(job finished)"; }

requeued() {
  local id
  id=$(job requeued)
  training requeued
  scancel --signal=USR1 "$id"
  until [ -s "$place/requeued.codes" ]; do sleep 0.5; done
  over "$id"
}

preempted() {
  local id
  id=$(job preempted)
  training preempted
  sbatch --parsable --partition=high --nodes=2 --ntasks-per-node=1 --output=/dev/null --wrap="sleep 5" > /dev/null
  over "$id"
}

refused() { over "$(job refused pruning.ratio=1.5)"; }

evaluated() { # evaluate.py under srun, of the finished run
  local code=0
  MASTER_ADDR=127.0.0.1 OMP_NUM_THREADS=1 srun -N2 --kill-on-bad-exit=1 --chdir="$root" "$python" evaluate.py \
    "model=$place/finished" "hydra.run.dir=$place/evaluated" > "$place/evaluated.log" 2>&1 || code=$?
  echo $code > "$place/evaluated.codes"
}

# A sweep of two runs, one a node. submitit asks SLURM for SIGUSR2 before the time is over: one run gets less time than it
# needs, the other is told at once, as in a preemption. Both are queued again by submitit and go on.
submitit() {
  local code=0 first second
  mapfile -t all < <(settings)
  OMP_NUM_THREADS=1 "$python" train.py -m "${all[@]}" kimg=0.8 pruning.ratio=0.5,0.6 "hydra.sweep.dir=$place/submitit" \
    hydra/launcher=submitit_slurm hydra.launcher.partition=low hydra.launcher.timeout_min=60 \
    hydra.launcher.signal_delay_s=60 hydra.launcher.max_num_timeout=3 > "$place/submitit.log" 2>&1 &
  local sweep=$!
  started+=("$sweep")
  until [ "$(ls "$place"/submitit/*/checkpoints/last.ckpt 2>/dev/null | wc -l)" = 2 ]; do
    sleep 0.2
    kill -0 "$sweep" 2>/dev/null || break
  done
  read -r first second < <(squeue -h -t RUNNING -o %i | xargs)
  scancel --signal=USR2 "$first"
  scontrol update "JobId=$second" "TimeLimit=$(minutes_left "$second")"
  while kill -0 "$sweep" 2>/dev/null; do
    sleep 1
    for id in $(squeue -h -t PENDING -o %i); do scontrol release "$id" > /dev/null 2>&1 || true; done
  done
  wait "$sweep" || code=$?
  echo "$code" > "$place/submitit.codes"
}

minutes_left() { # minutes_left JOB: a time limit, counted from its start, that is over in one to two minutes
  local began
  began=$(date -d "$(squeue -h -j "$1" -o %S)" +%s)
  echo $((($(date +%s) - began) / 60 + 2))
}

cd "$root"
export PYTHONPATH=$root/src${PYTHONPATH:+:$PYTHONPATH}
cluster
printf '| %-10s | %-9s | %-6s | %-8s | %-5s |\n| --- | --- | --- | --- | --- |\n' what "codes" report "log rows" twice
for what in "${@:-finished}"; do
  case $what in
    finished | requeued | preempted | refused | evaluated) "$what"; row "$what" ;;
    submitit) submitit; for folder in "$place"/submitit/*/; do [ -f "$folder/config.yaml" ] && row submitit "$folder"; done ;;
    *) echo "error: $what: allowed: finished, requeued, preempted, refused, evaluated, submitit" >&2; exit 2 ;;
  esac
done
