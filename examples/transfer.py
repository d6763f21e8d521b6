"""Pre-train on some images, then transfer to others: fine-tuned, and by a classifier of frozen features."""

import sys

import vitrail

folder = sys.argv[1] if len(sys.argv) > 1 else "runs/transfer"
machine = vitrail.Machine(device="cpu", workers=0)
vitrail.pretrain(vitrail.recipe("digits", steps=60), f"{folder}/pretrain", machine)

data = {"train": "digits@train[:200]", "validation": "digits@train[200:300]", "test": "digits@test"}
config: vitrail.Finetune = vitrail.recipe("finetune digits", init=f"{folder}/pretrain", resolution=8, steps=20, **data)
print(vitrail.command_of(config, folder=f"{folder}/finetune"))
print(vitrail.finetune(config, f"{folder}/finetune", machine).accuracy)
print(vitrail.read_run(f"{folder}/finetune").metrics())

few = vitrail.Linear(f"{folder}/pretrain", train="digits@train", test="digits@test", shots=(1, 10))
for row in vitrail.linear(few, machine=machine).rows:
    print(row)
