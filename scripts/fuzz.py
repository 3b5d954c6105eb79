"""Fuzz what reads files and words of unknown origin: success or one clear line, nothing else.

    .venv/bin/python scripts/fuzz.py --cases 100000 --seed 0

Hypothesis makes the cases: sound files whose bytes or values were changed. Whatever raises another
error than those that a target may, takes longer than ten seconds or ends the process is a finding.
Each target runs in a process of its own, with a few gigabytes to reserve beyond what it begins
with. `--target` runs one, here and now. Exit status 1 if anything was found.
"""

import argparse
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzz_targets import TARGETS, Case
from hypothesis import HealthCheck, Phase, given, seed, settings

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 10
ROOM = 4 << 30
"""Bytes of addresses that a case may reserve."""


@dataclass
class Outcome:
    """What became of a target's cases; findings by where they come from, each with an example."""

    cases: int
    refused: int
    seconds: float
    findings: dict[str, str]


def fuzz(name: str, cases: int, seed_: int) -> Outcome:
    """Run a target's cases in this process."""
    signal.signal(signal.SIGALRM, too_long)
    outcome, start = Outcome(0, 0, 0.0, {}), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        target = TARGETS[name](Path(folder))

        @seed(seed_)
        @settings(
            max_examples=cases,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(target.cases)
        def run(case: Case) -> None:
            outcome.cases += 1
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            try:
                target.check(case)
            except target.allowed as error:
                outcome.refused += 1
                if len(str(error).splitlines()) != 1:
                    outcome.findings.setdefault("not one line", f"{case!r}: {error!r}"[:2000])
            except Exception as error:
                outcome.findings.setdefault(place_of(error), f"{case!r}"[:2000])
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)

        run()
    outcome.seconds = time.monotonic() - start
    return outcome


def place_of(error: Exception) -> str:
    """What an error is, and the last line of the project's that it passed."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f.filename.startswith(str(ROOT)) and ".venv" not in f.filename]
    last = own[-1] if own else frames[-1]
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}: {str(error)[:200]}"


def too_long(number: int, frame: Any) -> None:
    raise TimeoutError(f"longer than {SECONDS} s")


def bound_memory() -> None:
    """Make an absurd reservation a MemoryError instead of the end of the machine's memory."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))


def shares(cases: int) -> dict[str, int]:
    """Each target's cases: those that take longer get fewer."""
    weights = {name: make.weight for name, make in TARGETS.items()}
    found = {name: cases * weight // sum(weights.values()) for name, weight in weights.items()}
    found[max(found, key=lambda name: found[name])] += cases - sum(found.values())
    return found


def in_a_process(name: str, cases: int, seed_: int) -> Outcome:
    command = [sys.executable, __file__, "--target", name, "--cases", str(cases)]
    done = subprocess.run([*command, "--seed", str(seed_)], capture_output=True, text=True)
    try:
        return Outcome(**json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError, TypeError):
        return Outcome(
            0, 0, 0.0, {f"the process ended with {done.returncode}": done.stderr[-2000:]}
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=2000, help="of all targets together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", choices=list(TARGETS), help="this one alone, in this process")
    options = parser.parse_args()
    if options.target:
        bound_memory()
        outcome = fuzz(options.target, options.cases, options.seed)
        print(json.dumps(vars(outcome)))
        return bool(outcome.findings)
    line = "{:<14} {:>8} {:>8} {:>9} {:>8}"
    print(line.format("target", "cases", "refused", "findings", "seconds"))
    outcomes = []
    for name, cases in shares(options.cases).items():
        found = in_a_process(name, cases, options.seed)
        outcomes.append(found)
        figures = (found.cases, found.refused, len(found.findings), f"{found.seconds:.0f}")
        print(line.format(name, *figures), flush=True)
        for place, example in found.findings.items():
            print(f"    {place}\n        {example}", flush=True)
    totals = [sum(getattr(o, what) for o in outcomes) for what in ("cases", "refused")]
    findings = sum(len(o.findings) for o in outcomes)
    print(line.format("all", *totals, findings, f"{sum(o.seconds for o in outcomes):.0f}"))
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
