"""What a model makes of images, without its classifier: for scikit-learn, or for a search."""

from sklearn.neighbors import KNeighborsClassifier

import vitrail

config = vitrail.ViTConfig(patch=2, width=64, depth=2, heads=4, mlp=128, resolution=(8, 8))
model = vitrail.create_model(config)  # or vitrail.load("runs/a"): without num_classes a model gives features alone
train, test = vitrail.features(model, "digits@train"), vitrail.features(model, "digits@test")
print(vitrail.__version__, train)  # .values float32 [N, D], .labels int64 [N], .places in the source, .broken
neighbours = KNeighborsClassifier(10).fit(train.values, train.labels)
print(f"{neighbours.score(test.values, test.labels):.1%} of {len(test.labels)} images, by features at random")
