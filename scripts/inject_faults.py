"""Break a small study in every way that is known, and check that nothing is lost.

A small study is run once undisturbed and once for each plan of `PLANS`, which injects faults at
random moments: processes are killed, signals sent, disks filled, files damaged, clocks moved. After
each the ledger must hold the same evaluations as undisturbed, none twice, the front be the same, no
process be left, no run of MLflow's be open, and `study.log` name the fault.

    python scripts/inject_faults.py --output runs/faults

writes `outcomes.jsonl` and `table.md` there; run again with another `--seed`, it adds to them. For
Linux. Plans with a full disk need mount namespaces; without, they are left out, and that is said.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from faults import acts, files
from faults.acts import end_and_go_on, kill_one
from faults.outcome import Outcome, table
from faults.running import PHASES, Bench, Fault, disturbed
from faults.study import SmallStudy

DISK_MB = 512
AWAY, FULL = "does not answer", "DiskFullError|without a word"


def workers(bench: Bench) -> list[Outcome]:
    worker = Fault(
        "kill −9 of a Train worker", "train", kill_one("ray::RayTrainWorker"), "training .* failed"
    )
    evaluator = Fault(
        "kill −9 of an evaluation actor",
        "search",
        kill_one("ray::SubnetTrial"),
        "the evaluation of subnet .* failed",
    )
    return disturbed(bench, bench.begin("workers"), [worker] * 2 + [evaluator] * 2)


def controller(bench: Bench) -> list[Outcome]:
    act = kill_one("ray::TrainController")
    fault = Fault("kill −9 of the Train controller", "train", act, "the trial of a design failed")
    return disturbed(bench, bench.begin("controller"), [fault])


def driver(bench: Bench) -> list[Outcome]:
    act, log = kill_one("ray::ImplicitFunc"), "the trial of a design failed"
    found = []
    for phase in ("train", "search"):
        fault = Fault(f"kill −9 of a trial's driver, {PHASES[phase]}", phase, act, log)
        found += disturbed(bench, bench.begin(f"driver-{phase}"), [fault])
    return found


def study(bench: Bench) -> list[Outcome]:
    act = end_and_go_on(signal.SIGKILL, -signal.SIGKILL, 10)
    faults = [
        Fault(f"kill −9 of the study's own process, {name}", phase, act, acts.CUT_OFF)
        for phase, name in PHASES.items()
    ]
    return disturbed(bench, bench.begin("study"), faults)


def signals(bench: Bench) -> list[Outcome]:
    faults = [
        Fault(name, phase, end_and_go_on(signal.Signals[name], 130, 10), f"Interrupt: {name}")
        for name, phase in (("SIGINT", "train"), ("SIGTERM", "search"))
    ]
    return disturbed(bench, bench.begin("signals"), faults)


def node(bench: Bench) -> list[Outcome]:
    fault = Fault("kill −9 of the only node", "train", acts.kill_node, "ended")
    return disturbed(bench, bench.begin("node"), [fault])


def failures(bench: Bench) -> list[Outcome]:
    nan = Fault("a loss that is NaN", "train", acts.ask_for("nan"), "failed.* is nan")
    memory = Fault(
        "no memory for a subnet, once", "search", acts.ask_for("memory"), "evaluation .* failed"
    )
    return disturbed(bench, bench.begin("failures"), [nan] * 2 + [memory] * 3)


def bystanders(bench: Bench) -> list[Outcome]:
    slow = [
        Fault(f"{name} ten times slower for 20 s", phase, acts.slow_down(title), "", anew=False)
        for name, phase, title in (
            ("a Train worker", "train", "ray::RayTrainWorker"),
            ("an evaluation actor", "search", "ray::SubnetTrial"),
        )
    ]
    second = [
        Fault(
            f"a second study in the directory, {name}",
            phase,
            acts.second_study,
            "was refused",
            anew=False,
        )
        for phase, name in PHASES.items()
    ]
    return disturbed(bench, bench.begin("bystanders"), [*slow, *second])


def clock(bench: Bench) -> list[Outcome]:
    jumps = [("train", -1), ("train", 2), ("search", -1), ("search", 2)]
    faults = [
        Fault(f"the clock is {hours:+d} h off, {PHASES[phase]}", phase, acts.jump(hours), "", False)
        for phase, hours in jumps
    ]
    begun = bench.begin("clock", environment=acts.movable_clock(bench.folder))
    return disturbed(bench, begun, faults)


def mlflow(bench: Bench) -> list[Outcome]:
    with acts.mlflow_server(bench.folder / "mlflow") as server:
        faults = [
            Fault(f"MLflow's server is away for 20 s, {name}", phase, server.go_away, AWAY, False)
            for phase, name in PHASES.items()
        ]
        place = {"extra": (f"tracking.uri={server.address}",), "database": server.database}
        begun = bench.begin("mlflow", command="run", **place)
        return disturbed(bench, begun, faults)


def disk(bench: Bench) -> list[Outcome]:
    if not on_a_disk_of_its_own():
        return left_out("a full disk", "no file system can be mounted here")
    faults = [
        Fault(f"the disk is full, {name}", phase, partial(acts.fill_disk, bench=bench), FULL)
        for phase, name in PHASES.items()
    ]
    with tempfile.TemporaryDirectory() as notes:
        return disturbed(bench, bench.begin("disk", notes=Path(notes)), faults)


def damaged(bench: Bench) -> list[Outcome]:
    act = partial(acts.damage_newest, bench=bench)
    faults = [
        Fault("kill −9, a bit of the newest checkpoint flips", "train", act, "is damaged"),
        Fault("kill −9, a bit of the ledger flips", "search", act, "ledger goes on"),
    ]
    return disturbed(bench, bench.begin("damaged"), faults)


def damage(bench: Bench) -> list[Outcome]:
    """Many times, where files are read; without the processes around."""
    found = []
    for act in (files.damaged_ledger, files.damaged_checkpoint, files.damaged_shard):
        for kind in files.DAMAGE:
            with tempfile.TemporaryDirectory() as folder:
                found.append(act(bench.undisturbed, Path(folder), kind, 10, bench.rng))
    return found


def writes(bench: Bench) -> list[Outcome]:
    """Many times, where files are written; without the processes around."""
    if not on_a_disk_of_its_own():
        return left_out("a full disk", "no file system can be mounted here")
    shutil.copytree(bench.finished.output, bench.folder / "study")
    found = [
        files.full_while_writing(name, path, write, bench.folder, 10, bench.rng)
        for name, (path, write) in files.writes(bench.undisturbed, bench.folder).items()
    ]
    shutil.rmtree(bench.folder / "study")
    return found


ON_A_DISK = ("disk", "writes")
"""Plans that fill a disk: on one of their own."""
PLANS: dict[str, Callable[[Bench], list[Outcome]]] = {
    plan.__name__: plan
    for plan in (
        damage,
        writes,
        workers,
        controller,
        driver,
        study,
        signals,
        node,
        failures,
        damaged,
        disk,
        bystanders,
        clock,
        mlflow,
    )
}


def left_out(fault: str, why: str) -> list[Outcome]:
    print(f"{fault}: left out, {why}", file=sys.stderr)
    return []


def on_a_disk_of_its_own() -> bool:
    return os.environ.get("DISK") == "own"


def on_a_disk(name: str, folder: Path, arguments: list[str]) -> bool:
    """A plan in a process that has a small file system mounted on a folder; whether one can be."""
    unshare = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    mount = f"mount -t tmpfs -o size={DISK_MB}m none {folder}"
    if subprocess.run([*unshare, mount], capture_output=True).returncode:
        return False
    command = [sys.executable, __file__, *arguments, "--only", name]
    mounted = [*unshare, f'{mount} && exec "$@"', "sh"]
    subprocess.run([*mounted, *command], env={**os.environ, "DISK": "own"}, check=False)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("runs/faults"))
    parser.add_argument("--times", type=int, default=1, help="each plan")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=PLANS, metavar="PLAN", help=", ".join(PLANS))
    given = parser.parse_args()

    output: Path = given.output.resolve()
    prefix = SmallStudy(output / "prefix", "prioritise")
    undisturbed = SmallStudy(output / "undisturbed")
    finished = SmallStudy(output / "finished", "run")
    names = given.only or list(PLANS)
    if not prefix.is_done():
        prefix.run()
    if not undisturbed.is_done():
        undisturbed.begin_from(prefix).run()
    if "writes" in names and not finished.is_done():
        finished.begin_from(undisturbed).run()
    outcomes = output / "outcomes.jsonl"
    for name in names:
        for seed in range(given.seed, given.seed + given.times):
            scratch = output / f"{name}-{seed}"
            if not on_a_disk_of_its_own():
                shutil.rmtree(scratch, ignore_errors=True)
                scratch.mkdir()
                arguments = ["--output", str(output), "--seed", str(seed)]
                if name in ON_A_DISK and on_a_disk(name, scratch, arguments):
                    continue
            rng = random.Random(f"{name} {seed}")
            found = PLANS[name](Bench(scratch, prefix, undisturbed, finished, rng))
            with outcomes.open("a") as file:
                file.writelines(json.dumps(asdict(outcome)) + "\n" for outcome in found)
            print(table(found), file=sys.stderr)
    made = [Outcome(**json.loads(line)) for line in outcomes.read_text().splitlines()]
    (output / "table.md").write_text(table(made))
    print(table(made))
    return int(any(outcome.broken for outcome in made))


if __name__ == "__main__":
    sys.exit(main())
