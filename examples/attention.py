"""What a model returns for a batch, and where it looks."""

import sys

import vitrail

folder = sys.argv[1] if len(sys.argv) > 1 else "runs/attention"
vitrail.pretrain(vitrail.recipe("digits", steps=60), folder)
model = vitrail.load(folder)
images, labels = next(iter(vitrail.data_loader("digits@test", model, batch=16)))

output: vitrail.ModelOutput = model(images, attention=[0, 2])
print(output.logits.shape, output.representation.shape, output.tokens.shape)
print(f"{(output.logits.argmax(dim=1) == labels).float().mean():.0%} of {len(labels)} images")
print([tuple(weights.shape) for weights in output.attention])  # of the layers 0 and 2: [B, heads, N, N]

seen = vitrail.look(model, images)
print(seen.distance.shape, seen.rollout.shape)
