"""A whole config in plain words, without a recipe; data as a source, and labels as probabilities afterwards."""

import sys

import vitrail

folder = sys.argv[1] if len(sys.argv) > 1 else "runs/plain"
train, test = vitrail.load_data("digits@train"), vitrail.load_data("digits@test")
config = vitrail.TrainConfig("", steps=80, batch=64, log_every=20, evaluate_every=40)  # Adam and a cosine, by default
model = vitrail.create_model("Ti/16", num_classes=len(train.classes), resolution=16)
result = vitrail.train(model, train, config, folder, validation=test, machine=vitrail.Machine(workers=0))
print(f"{result['accuracy']:.1%} of {result['count']} images after {result['steps']} steps")
print(vitrail.Predictor(model).predict(test[0].image, top=3))
