"""A run read back: what was asked for, how it went, what became of each image."""

import sys

import vitrail

folder = sys.argv[1] if len(sys.argv) > 1 else "runs/read"
vitrail.pretrain(vitrail.recipe("digits", steps=60, log_every=20, evaluate_every=30), folder)

run = vitrail.read_run(folder)
print(run)
print(run.config["optimizer"], run.result.accuracy, run.result.interval)
metrics = run.metrics()  # columns; metrics.to_pandas() where pandas is installed
print(metrics["step"], metrics["loss"])
predictions = run.predictions()
wrong = predictions["label"] != predictions["predicted"]
print(f"{wrong.sum()} of {predictions.rows} images are wrong, the first is {predictions['key'][wrong][0]}")
