"""A whole config in plain words, without a recipe; data as a source, and labels as probabilities afterwards."""

import sys

import vitrail

folder = sys.argv[1] if len(sys.argv) > 1 else "runs/plain"
train, test = vitrail.load_data("digits@train"), vitrail.load_data("digits@test")
config = vitrail.TrainConfig("", steps=80, batch=64, log_every=20, evaluate_every=40)  # Adam and a cosine, by default
small = vitrail.ViTConfig(patch=4, width=48, depth=2, heads=3, mlp=96, resolution=(8, 8))
model = vitrail.create_model(small, num_classes=len(train.classes))
run = vitrail.train(model, train, config, folder, validation=test, machine=vitrail.Machine(workers=0))
print(run.result.accuracy, run.metrics("validation"))
print(vitrail.Predictor(model).predict(test[0].image, top=3))
