#!/usr/bin/env bash
# A real Slurm on this machine alone, to try `run_all.sh PROFILE --cluster slurm` without a cluster (test_slurm.py does):
#
#     local_slurm.sh install            Debian's slurm-wlm and munge (as root)
#     local_slurm.sh start DIR [NODES]  munged, slurmctld and NODES (default 1) slurmd on loopback; starts again what has died
#     local_slurm.sh stop DIR           cancel the jobs, end these daemons
#
# No systemd and no accounting. Keys, state and logs lie in DIR. /etc/slurm/slurm.conf becomes a link to DIR/slurm.conf: job steps
# lose SLURM_CONF on their way through Snakemake, so only the default place is found by all. The nodes share this machine's memory.
set -euo pipefail

die() { echo "local_slurm.sh: $*" >&2; exit 2; }
alive() { [ "$(cat "/proc/$(cat "$1" 2>/dev/null)/comm" 2>/dev/null)" = "$2" ]; } # PIDFILE NAME
own_link() { [ "$(readlink /etc/slurm/slurm.conf 2>/dev/null)" = "$dir/slurm.conf" ]; }

configure() { # slurm.conf for NODES nodes
    local host cpus memory i
    host=$(hostname -s)
    cpus=$(($(nproc) / nodes)); [ "$cpus" -ge 1 ] || cpus=1
    memory=$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
    # cred_expire: how long a requeued job waits before it starts again; SlurmdTimeout: until a dead node is noticed
    cat <<C
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge/run/socket,cred_expire=10
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort=6817
StateSaveLocation=$dir/state
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmdSpoolDir=$dir/spool/%n
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
MinJobAge=300
SchedulerParameters=sched_interval=2,defer
SlurmdTimeout=10
SlurmctldTimeout=10
KillWait=5
C
    for i in $(seq 1 "$nodes"); do
        echo "NodeName=n$i NodeHostname=$host NodeAddr=127.0.0.1 Port=$((6820 + i)) CPUs=$cpus Sockets=1 CoresPerSocket=$cpus" \
            "ThreadsPerCore=1 RealMemory=$memory State=UNKNOWN"
    done
    echo "PartitionName=main Nodes=$(seq -s, -f 'n%g' 1 "$nodes") Default=YES MaxTime=INFINITE State=UP"
}

start() {
    local i other
    for i in munged slurmctld slurmd sbatch; do
        command -v "$i" >/dev/null || die "there is no $i here: local_slurm.sh install, as root"
    done
    [ "$(id -u)" = 0 ] || die "start it as root: the daemons change users"
    [[ $nodes =~ ^[1-9][0-9]*$ ]] || die "NODES $nodes: give a whole number, 1 or more"
    if [ -e /etc/slurm/slurm.conf ] && ! own_link; then
        other=$(readlink /etc/slurm/slurm.conf) || die "this machine has a Slurm of its own: /etc/slurm/slurm.conf is a file"
        other=${other%/slurm.conf}
        alive "$other/slurmctld.pid" slurmctld && die "another local Slurm runs: local_slurm.sh stop $other"
    fi
    umask 022
    mkdir -p "$dir"/{state,log,munge/run} /etc/slurm
    chmod 700 "$dir/state" "$dir/munge"
    chmod 755 "$dir" "$dir/munge/run"
    chmod 711 "$dir/munge"
    configure >"$dir/slurm.conf"
    ln -sfn "$dir/slurm.conf" /etc/slurm/slurm.conf
    if ! alive "$dir/munge/pid" munged; then
        [ -s "$dir/munge/key" ] || (umask 077; head -c 128 /dev/urandom >"$dir/munge/key")
        munged --force --key-file="$dir/munge/key" --socket="$dir/munge/run/socket" --pid-file="$dir/munge/pid" \
            --log-file="$dir/munge/log" --seed-file="$dir/munge/seed" 2>>"$dir/log/munged.err" ||
            die "munged does not start: $(tail -n 1 "$dir/log/munged.err")"
    fi
    alive "$dir/slurmctld.pid" slurmctld || slurmctld || die "slurmctld does not start: $(tail -n 1 "$dir/log/slurmctld.log")"
    for i in $(seq -f 'n%g' 1 "$nodes"); do
        mkdir -p "$dir/spool/$i"
        alive "$dir/slurmd-$i.pid" slurmd || slurmd -N "$i" || die "slurmd does not start: $(tail -n 1 "$dir/log/slurmd-$i.log")"
    done
    for _ in $(seq 60); do
        # a node that does not answer carries a star
        [ "$(timeout 10 sinfo -h -N -o %T 2>/dev/null | grep -cE '^(idle|mixed|allocated|completing)$')" = "$nodes" ] && return
        sleep 0.5
    done
    die "the nodes did not come up within 30 s; see $dir/log: $(tail -n 1 "$dir/log/slurmctld.log")"
}

stop() {
    local file name pid
    if own_link && alive "$dir/slurmctld.pid" slurmctld; then
        timeout 10 squeue -h -o %i | xargs -r timeout 10 scancel || true
        for _ in $(seq 30); do [ -n "$(timeout 10 squeue -h 2>/dev/null)" ] || break; sleep 0.5; done
    fi
    for file in "$dir"/slurmd-*.pid "$dir/slurmctld.pid" "$dir/munge/pid"; do
        name=$(basename "$file" .pid); name=${name%%-*}; [ "$name" != pid ] || name=munged
        alive "$file" "$name" || continue
        pid=$(cat "$file")
        kill "$pid"
        for _ in $(seq 50); do alive "$file" "$name" || break; sleep 0.1; done
        alive "$file" "$name" && kill -9 "$pid"
        rm -f "$file"
    done
    for pid in $(pgrep -x slurmstepd); do # what a killed slurmd left: its working folder is DIR/log
        [ "$(readlink "/proc/$pid/cwd")" != "$dir/log" ] || kill -9 "$pid"
    done
    ! own_link || rm /etc/slurm/slurm.conf
}

case "${1:-}:$#" in
    install:1) apt-get install -y --no-install-recommends slurm-wlm munge ;;
    start:[23] | stop:2) dir=$(realpath -m "$2"); nodes=${3:-1}; "$1" ;;
    *) die "say install, start DIR [NODES] or stop DIR" ;;
esac
