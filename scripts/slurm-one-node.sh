#!/usr/bin/env bash
# Runs the recipes of docs/how-to/cluster.md through a Slurm of one node, as they stand in the page, and compares what they make
# with what one process makes: bash scripts/slurm-one-node.sh [FOLDER OF THE PROGRAMS, by default target/debug]
#
# The Slurm is the script's own: munged, slurmctld and slurmd, on loopback alone, as whoever calls it, with ports and files of
# their own, without systemd, containers and cgroups. All of it ends with the script, however that ends. Where Slurm is not
# installed the script says what is missing and is content.
set -euo pipefail
cd "$(dirname "$0")/.."
page=$PWD/docs/how-to/cluster.md
programs=$(realpath -- "${1:-${CARGO_TARGET_DIR:-target}/debug}")
export PATH=$programs:$PATH:/usr/sbin LC_ALL=C

missing=()
for program in munged slurmctld slurmd sbatch squeue scancel scontrol sinfo; do
    command -v "$program" >/dev/null || missing+=("$program")
done
if [ ${#missing[@]} != 0 ]; then
    echo "skipped: no ${missing[*]} here (Debian: apt-get install munge slurm-wlm)"
    exit 0
fi
for program in skn-train skn-probe skn-merge skn-verify; do
    [ -x "$programs/$program" ] || { echo "$programs/$program: no such program; cargo build --bins makes it"; exit 1; }
done

work=$(mktemp -d "${TMPDIR:-/tmp}/skn-slurm.XXXXXX")
# munged refuses a socket below a folder that others can't look into.
chmod 711 "$work"
export SLURM_CONF=$work/slurm.conf HF_HOME=$work/cache

numbers=()
# start NAME COMMAND..: a server, which stays the script's child. What is typed to end the script (^C) is not for it: it is
# needed to end the jobs.
start() {
    setsid "${@:2}" >"$work/$1.said" 2>&1 &
    numbers+=($!)
}
# What else this Slurm has started: whatever was given its file of settings, which nobody else has.
left() {
    for place in /proc/[0-9]*/environ; do
        number=$(basename "$(dirname "$place")")
        if [ "$number" != $$ ] && tr '\0' '\n' 2>/dev/null <"$place" | grep -x "SLURM_CONF=$SLURM_CONF" >/dev/null; then
            echo "$number"
        fi
    done 2>/dev/null
}
# Ends what was started, by its number: the jobs, then the servers, of which the last one started may need those before it.
end() {
    code=$?
    trap '' INT TERM HUP EXIT
    cd /
    if [ $code != 0 ]; then
        echo "failed; what was said:"
        tail -n 40 "$work"/run/*.out "$work"/*.said 2>/dev/null || true
    fi
    timeout 20 scancel --user="$(id -un)" 2>/dev/null || true
    for _ in $(seq 100); do
        [ -n "$(timeout 20 squeue --noheader 2>/dev/null)" ] || break
        sleep 0.2
    done
    for ((place = ${#numbers[@]} - 1; place >= 0; place--)); do
        kill "${numbers[place]}" 2>/dev/null || continue
        (sleep 20 && kill -KILL "${numbers[place]}") 2>/dev/null &
        wait "${numbers[place]}" || true
        kill $! 2>/dev/null || true
    done
    for number in $(left); do kill -KILL "$number" 2>/dev/null || true; done
    rm -rf "$work"
    exit $code
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# --- A Slurm of one node ---------------------------------------------------------------------------------------------------

free_port() {
    local port
    for _ in $(seq 100); do
        port=$((20000 + RANDOM % 12000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
    return 1
}
host=$(hostname -s)
mkdir "$work/state" "$work/spool" "$work/run"
(umask 077 && head -c 1024 /dev/urandom >"$work/munge.key")
# The waiting time of a job that is requeued is that of its credentials.
cat >"$SLURM_CONF" <<CONF
ClusterName=skn
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/munge
AuthInfo=socket=$work/munge.socket,cred_expire=5
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=1
SlurmctldParameters=preempt_send_user_signal
KillWait=10
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=$host NodeAddr=127.0.0.1 CPUs=8 State=UNKNOWN
PartitionName=plain Nodes=ALL Default=YES State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=120
PartitionName=urgent Nodes=ALL State=UP PriorityTier=2 PreemptMode=OFF
CONF

# until_true SECONDS WHAT COMMAND..: waits for it.
until_true() {
    local seconds=$1 what=$2
    shift 2
    for _ in $(seq $((seconds * 10))); do
        if "$@"; then return; fi
        sleep 0.1
    done
    echo "not within $seconds s: $what"
    return 1
}
start munged munged --foreground --key-file="$work/munge.key" --socket="$work/munge.socket" --pid-file="$work/munged.pid" \
    --log-file="$work/munged.log" --seed-file="$work/munge.seed" --num-threads=2
until_true 10 "munged listens" test -S "$work/munge.socket"
start slurmctld slurmctld -D -f "$SLURM_CONF"
start slurmd slurmd -D -f "$SLURM_CONF"
is_idle() { sinfo --noheader --format=%T 2>/dev/null | grep -x idle >/dev/null; }
until_true 30 "the node is idle" is_idle
echo "Slurm of one node: $(sinfo --version)"

# --- The recipes -----------------------------------------------------------------------------------------------------------

# shown NAME: the file of that name that the page shows, into the folder of the jobs.
shown() {
    awk -v mark="file=$1" '
        inside && /^```$/ { exit }
        inside { print }
        /^```/ && index($0 " ", " " mark " ") { inside = 1 }' "$page" >"$work/run/$1"
    [ -s "$work/run/$1" ] || { echo "$page: shows no $1"; return 1; }
}
states() { squeue --noheader --states=all --array --format='%i %T' 2>/dev/null; }
are_over() {
    local now
    now=$(states) && [ -n "$now" ] || return 1
    ! grep -vE ' (COMPLETED|FAILED|CANCELLED|TIMEOUT|NODE_FAIL|OUT_OF_MEMORY|BOOT_FAIL|DEADLINE)$' <<<"$now" >/dev/null
}
# Waits for all jobs, which must have succeeded; one that can never start has not.
all_done() {
    until_true "$1" "all jobs are over: $(states | tr '\n' ';')" are_over
    if states | grep -v ' COMPLETED$'; then
        echo "a job did not succeed"
        return 1
    fi
}
# The files of a run that are the same for the same command, each with its SHA-256.
hashes() {
    (cd "$1" && find . -type f ! -path './shards/*' ! -name run.json ! -name .lock ! -name '*.previous.safetensors' -print0 |
        sort -z | xargs -0 sha256sum)
}
same() {
    hashes "$1" >"$work/expected"
    hashes "$2" >"$work/found"
    if ! diff "$work/expected" "$work/found"; then
        echo "$2: not what one process makes"
        return 1
    fi
    echo "  the same SHA-256 as of one process: $(wc -l <"$work/found") files"
}

for name in train.sh probe.sh submit.sh machine.sh parallel.sh mpi.sh; do shown "$name"; done
cd "$work/run"

echo "submit.sh: a training, arrays of tasks, merges behind them; the training is preempted"
bash submit.sh
# While it trains, a job comes that may take the whole node.
until_true 120 "the training began" grep -q . RUN/metrics.jsonl 2>/dev/null
sbatch --parsable --partition=urgent --exclusive --wrap 'echo urgent' >/dev/null
train=$(squeue --noheader --states=all --name=skn-train --format=%i)
all_done 600
restarts=$(scontrol show job "$train" | sed -n 's/.*Restarts=\([0-9]*\).*/\1/p')
if [ "$restarts" = 0 ] || ! grep -q 'stopped by SIGUSR1: a checkpoint' slurm-"$train".out; then
    echo "the training was not preempted: it restarted $restarts times"
    exit 1
fi
echo "  preempted: $(grep -h 'stopped by' slurm-"$train".out)"

# The same without Slurm. The training's line is the page's.
line=$(sed -n 's/^\(skn-train .*\) --resume --threads .*/\1/p' train.sh)
${line/RUN/WHOLE} --quiet >/dev/null
cp -r WHOLE TRAINED
skn-probe --resume_from WHOLE --out WHOLE --quiet >/dev/null
same WHOLE RUN
skn-verify RUN >/dev/null

# again WHAT COMMAND..: the same training, probed in another way of the page.
again() {
    rm -rf RUN
    cp -r TRAINED RUN
    echo "$1"
    if ! "${@:2}" >said.out 2>&1; then
        cat said.out
        return 1
    fi
    same WHOLE RUN
}
again "machine.sh: xargs" bash machine.sh
if command -v parallel >/dev/null; then
    again "parallel.sh: GNU parallel" bash parallel.sh
else
    echo "parallel.sh: skipped: no parallel here (Debian: apt-get install parallel)"
fi
if ldd "$programs/skn-probe" | grep libmpi >/dev/null && srun --mpi=list 2>&1 | grep pmix >/dev/null; then
    again "mpi.sh: srun with MPI" sbatch --wait mpi.sh
else
    echo "mpi.sh: skipped: the programs are built without --features mpi, or this Slurm has no pmix"
fi
echo "all recipes that can run here made the same"
