"""All speed benchmarks of the library, one after another, each in a process of its own; then the page made from them.

    python benchmarks/run.py [NAME ...]

Names are those of the scripts; by default all that are on the page. What was finished is noted in
``runs/benchmarks.txt`` until all is: the same command goes on with the rest after an interruption or a failure.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import page
from sections import SECTIONS
from workers import ROOT

_FINISHED = ROOT / "runs" / "benchmarks.txt"


def main() -> int:
    """Run them; gives the number of those that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SECTIONS)}")
    names = parser.parse_args().names or list(SECTIONS)
    if unknown := set(names) - set(SECTIONS):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    finished = _FINISHED.read_text(encoding="utf-8").split() if _FINISHED.exists() else []
    failed = [name for name in names if name not in finished and not _run(name)]
    if not failed:
        _FINISHED.unlink(missing_ok=True)
    page.main()
    return len(failed)


def _run(name: str) -> bool:
    """Whether a benchmark ran to its end."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, str(Path(__file__).with_name(f"{name}.py"))], check=False)
    if done.returncode:
        print(f"{name} ended with exit code {done.returncode}", file=sys.stderr)
        return False
    _FINISHED.parent.mkdir(exist_ok=True)
    with _FINISHED.open("a", encoding="utf-8") as file:
        file.write(f"{name}\n")
    return True


if __name__ == "__main__":
    sys.exit(main())
