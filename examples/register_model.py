"""A model of one's own by name: for create_model, for recipes, and for `--model` of commands in this process."""

import sys

import vitrail

vitrail.register_model("mine/2", lambda: vitrail.ViTConfig(patch=2, width=48, depth=2, heads=3, mlp=96))
print(vitrail.list_models("mine*"), vitrail.list_models("R50*"))

model = vitrail.create_model("mine/2", num_classes=10, resolution=8)
print(f"{sum(weights.numel() for weights in model.parameters()):,} parameters")

config: vitrail.Pretrain = vitrail.recipe("digits", model="mine/2", steps=60)
folder = sys.argv[1] if len(sys.argv) > 1 else "runs/mine"
print(vitrail.pretrain(config, folder).accuracy)
