"""The process of one run of one client: told by standard input what to do, it prints its figures."""

import importlib
import json
import sys


def main() -> None:
    task = json.load(sys.stdin)
    module = importlib.import_module(f"benchmarks.{task['benchmark']}")
    figures = module.measure(task["client"], task["where"], **task["options"])
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
