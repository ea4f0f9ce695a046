"""Each side of a comparison in a process of its own: its answer, its time, its CPU time and its own peak of memory.

A script gives its rows by name: a function that prepares (imports, reads the data, warms up) and returns what is to be
measured. ``measured`` starts the script again for one row, in the Python that has the package. Memory is the highest
resident size during the call beyond that before it, so neither imports nor inputs count.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# What is measured, once prepared: gives numbers by name, "value" first.
Call = Callable[[], Mapping[str, Any]]
_MiB = 2**20


def serve(rows: Mapping[str, Callable[..., Call]], argv: list[str]) -> bool:
    """Run one row if this process was started for one; whether it was."""
    if argv[1:2] != ["--row"]:
        return False
    # Some packages print while they compute.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            call = rows[argv[2]](*argv[3:])
        except ModuleNotFoundError as error:
            found: dict[str, Any] = {"skipped": f"not installed ({error})"}
        except (ImportError, RuntimeError) as error:
            found = {"skipped": str(error).splitlines()[0]}
        else:
            found = _measured(call)
    print(json.dumps(found))
    return True


def _measured(call: Call) -> dict[str, Any]:
    gc.collect()
    before = _resident("VmRSS", reset=True)
    start, cpu = time.perf_counter(), time.process_time()
    values = call()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = _resident("VmHWM")
    return {**values, "seconds": seconds, "cpu": cpu, "extra": (peak - before) / _MiB, "peak": peak / _MiB}


def _resident(what: str, *, reset: bool = False) -> float:
    """Resident bytes now (VmRSS) or at most so far (VmHWM); where Linux does not tell, the most so far."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the highest so far is what there is now
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return 1024.0 * next(int(line.split()[1]) for line in lines if line.startswith(what))
    except (OSError, StopIteration):
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


def measured(script: str, row: str, *arguments: object, python: str = sys.executable) -> dict[str, Any]:
    """What one row reports; ``{"skipped": reason}`` where its package is not at hand or fails."""
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | os.environ | {"PYTHONPATH": str(ROOT)}
    command = [python, "-W", "ignore", script, "--row", row, *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if run.returncode:
        return {"skipped": (run.stderr.strip().splitlines() or ["it was killed"])[-1]}
    found: dict[str, Any] = json.loads(run.stdout.strip().splitlines()[-1])
    return found


def rival(name: str) -> Any:
    """The module of that name; what is wrong with it is for ``serve`` to say."""
    import rivals

    return rivals.load(name)


LEGEND = (
    "×: how many times more the other takes, of time by the clock, of the processor's time, and of memory beyond the\n"
    "inputs; Δ: difference of the values, relative unless said otherwise. One thread each."
)


def show(what: str, found: Mapping[str, Any], ours: Mapping[str, Any] | None = None, gap: str | None = None) -> None:
    """One row, beside ours if given."""
    if "skipped" in found:
        print(f"  {what:<46} {found['skipped']}", flush=True)
        return
    text = f"  {what:<46} {found['value']:<20.14g} {found['seconds']:8.2f} s {found['extra']:7.0f} MiB"
    if ours is not None:
        times = [found[key] / max(ours[key], 1e-3) for key in ("seconds", "cpu")]
        memory = found["extra"] / max(ours["extra"], 1.0)
        gap = gap or f"{abs(found['value'] / ours['value'] - 1):.1e}"
        text += f"   ×{times[0]:<6.2f} ×{times[1]:<6.2f} ×{memory:<6.1f} Δ {gap}"
    print(text, flush=True)
