"""A run of the stand-in as a process that needs no library: LEVEL SEED FOLDER, and whether it breaks."""

import json
import sys
from pathlib import Path

if __name__ == "__main__":
    level, seed, folder, broken = sys.argv[1:5]
    if broken == "True":
        sys.exit("vitrail: the level is broken; mend it")
    Path(folder).mkdir(parents=True)
    (Path(folder) / "config.json").write_text(json.dumps({"config": {"level": float(level), "seed": int(seed)}}))
    row = {"kind": "validation", "step": 1, "accuracy": 1 - float(level)}
    (Path(folder) / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    result = {"accuracy": float(level) + 0.01 * int(seed), "count": 1000, "seconds": 1.0}
    (Path(folder) / "result.json").write_text(json.dumps(result))
