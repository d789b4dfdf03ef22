#!/usr/bin/env python3
"""What processes of an MPI job cost beside threads of one: python benches/ranks.py [texts] [rounds]

Needs mpirun, and programs with the feature (cargo build --bins --features skn/mpi, in the profile that is to be measured; PROGRAMS names
their folder). Probes the demo's model on so many texts (4,000 unless said) by one process of two threads, then by 1, 2 and 4 processes of
one thread each, in turns. Prints medians of wall time and of processor time (all processes), and what MPI carried.
"""
import os, re, resource, shutil, statistics, subprocess, sys, tempfile, time
from pathlib import Path

texts, rounds = (int(x) for x in (sys.argv[1:] + ["4000", "5"][len(sys.argv) - 1:])[:2])
root = Path(__file__).resolve().parent.parent
programs = Path(os.environ.get("PROGRAMS", root / "target/debug")).resolve()
for needed in (shutil.which("mpirun"), programs / "skn-probe"):
    if not needed or not Path(needed).exists():
        sys.exit("needs mpirun and skn-probe, built with --features skn/mpi")

with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
    (folder / "task.toml").write_text('name = "reviews"\ntext = ["text"]\nlabels = ["negative", "positive"]\n[splits]\ntrain = "train"\n')
    words = [["awful", "dull", "cold"], ["good", "warm", "fine"]]
    rows = [f"the soup was {words[n % 2][n % 3]} and the {'wine' if n % 5 else 'bread'} {'too ' * (n % 11)}{n},{n % 2}" for n in range(texts)]
    (folder / "rows.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    environment = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1", OMPI_MCA_hwloc_base_binding_policy="none")

    def probe(ranks, threads):
        out = folder / "run"
        shutil.rmtree(out, ignore_errors=True)
        line = [str(programs / "skn-probe"), "--model", "demo", "--task-file", "task.toml", "--data", "rows.csv", "--prompt_size", "16",
                "--fire-bits", "--threads", str(threads), "--out", str(out), "-v"]
        if ranks:
            line = ["mpirun", "--oversubscribe", "-n", str(ranks)] + line
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        said = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True)
        if said.returncode:
            sys.exit(said.stderr)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = sum(getattr(after, of) - getattr(before, of) for of in ("ru_utime", "ru_stime"))
        carried = re.findall(r"MPI: (\d+) bytes sent, (\d+) received", said.stderr)
        hashes = subprocess.run("find . -type f ! -name run.json ! -name .lock | sort | xargs sha256sum", shell=True, cwd=out, capture_output=True, text=True)
        return time.monotonic() - began, used, [int(n) for n in (carried[-1] if carried else (0, 0))], hashes.stdout

    ways = [("one process, 2 threads", 0, 2), ("1 process, 1 thread", 1, 1), ("2 processes, 1 thread each", 2, 1), ("4 processes, 1 thread each", 4, 1)]
    found = {name: [] for name, _, _ in ways}
    for _ in range(rounds):
        for name, ranks, threads in ways:
            found[name].append(probe(ranks, threads))
    if len({run[3] for runs in found.values() for run in runs}) != 1:
        sys.exit("the files differ")
    base = statistics.median(run[0] for run in found[ways[0][0]])
    print("| | seconds | beside one process | CPU seconds | sent by rank 0 | received by it |\n|---|---|---|---|---|---|")
    for name, runs in found.items():
        wall, used = (statistics.median(run[n] for run in runs) for n in (0, 1))
        sent, received = runs[0][2]
        print(f"| {name} | {wall:.2f} | {wall / base:.2f} | {used:.2f} | {sent / 1e6:.2f} MB | {received / 1e6:.2f} MB |")
