#!/usr/bin/env bash
# A real SLURM of one node on loopback: slurm.sh start|stop FOLDER. munge, slurmctld and slurmd, no cgroups, no accounting,
# GPUS (default 2) pretended GPUs. FOLDER holds every file but the link /etc/slurm/slurm.conf: the workflow engine drops
# SLURM_* variables before it submits, so that commands inside a job find the cluster by that path alone. Needs root.
set -euo pipefail
folder=$(realpath -m "$2")
host=$(hostname -s)
gpus=${GPUS:-2}

start() {
  if [ -e /etc/slurm/slurm.conf ] && [ ! -L /etc/slurm/slurm.conf ]; then
    echo "/etc/slurm/slurm.conf is a file of a real cluster: it is left alone" >&2
    exit 1
  fi
  mkdir -p "$folder"/{state,spool,log} /etc/slurm
  install -d -o munge -g munge -m 755 "$folder/munge"
  head -c 1024 /dev/urandom > "$folder/munge/munge.key"
  chown munge:munge "$folder/munge/munge.key"
  chmod 400 "$folder/munge/munge.key"
  for number in $(seq 0 $((gpus - 1))); do : > "$folder/gpu$number"; done
  echo "NodeName=$host Name=gpu File=$folder/gpu[0-$((gpus - 1))]" > "$folder/gres.conf"
  cat > "$folder/slurm.conf" <<CONF
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/munge.socket
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
ReturnToService=2
SlurmdParameters=config_overrides
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
MailProg=/bin/true
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
PropagateResourceLimits=NONE
MinJobAge=1800
KillWait=60
GresTypes=gpu
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(getconf _NPROCESSORS_ONLN) RealMemory=$(($(awk '/MemTotal/{print $2}' /proc/meminfo) / 1024 - 512)) Gres=gpu:$gpus State=UNKNOWN
PartitionName=debug Nodes=$host Default=YES MaxTime=60 DefMemPerCPU=512 State=UP OverSubscribe=NO
CONF
  runuser -u munge -- /usr/sbin/munged --force --socket="$folder/munge/munge.socket" \
    --key-file="$folder/munge/munge.key" --pid-file="$folder/munge/munged.pid" \
    --log-file="$folder/munge/munged.log" --seed-file="$folder/munge/munged.seed"
  ln -sfn "$folder/slurm.conf" /etc/slurm/slurm.conf
  slurmctld -f "$folder/slurm.conf" -c
  slurmd -f "$folder/slurm.conf"  # beside which it finds gres.conf
  for _ in $(seq 120); do
    sinfo -h -o %T 2>/dev/null | grep -q idle && return 0
    sleep 0.5
  done
  echo "SLURM did not come up" >&2
  tail -n 20 "$folder"/log/*.log >&2
  exit 1
}

stop() {
  scancel --user root 2>/dev/null || true
  for file in slurmd.pid slurmctld.pid munge/munged.pid; do
    [ -s "$folder/$file" ] || continue
    daemon=$(cat "$folder/$file")
    kill "$daemon" 2>/dev/null || true
    for _ in $(seq 100); do kill -0 "$daemon" 2>/dev/null || break; sleep 0.1; done
  done
  [ "$(readlink /etc/slurm/slurm.conf)" != "$folder/slurm.conf" ] || rm -f /etc/slurm/slurm.conf
}

"$1"
