"""A loop of one's own: vitrail's model and data, torch's optimiser. Seconds on a CPU."""

import torch

import vitrail

torch.manual_seed(0)
config = vitrail.ViTConfig(patch=2, width=64, depth=3, heads=4, mlp=128, resolution=(8, 8))
model = vitrail.create_model(config, num_classes=10)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
augment = vitrail.recipe("digits").augment  # the images as they are; a vitrail.Augment crops and flips
loader = vitrail.data_loader("digits@train", model, batch=64, augment=augment, seed=0)

for epoch in range(3):  # each loop over the loader goes on where the last one ended
    for images, labels in loader:  # float32 [64, 3, 8, 8] as the model expects them, int64 [64]
        loss = torch.nn.functional.cross_entropy(model(images).logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch + 1}, step {loader.step}: {vitrail.evaluate(model, 'digits@test')}")
