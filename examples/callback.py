"""Train a model that one has, in a run folder, with a callback that ends the training once it is good enough."""

import sys

import torch

import vitrail


class GoodEnough(vitrail.Callback):
    """Looks every 50 steps at what the run has seen last of its validation images."""

    every = 50

    def __call__(self, state, metrics):
        print(f"step {state.step}: loss {metrics['loss']:.3f}, validation {state.validation}")
        state.stopped = state.validation is not None and state.validation["accuracy"] > 0.8


folder = sys.argv[1] if len(sys.argv) > 1 else "runs/callback"
config = vitrail.recipe("digits", steps=300, evaluate_every=50)  # `vitrail recipes` lists them
print(vitrail.command_of(config))  # the command that trains by this config

torch.manual_seed(0)
model = vitrail.create_model(config.model, num_classes=10)  # or vitrail.load("checkpoint.npz", num_classes=10)
run = vitrail.train(model, "digits@train", config, folder, callbacks=[GoodEnough()])
print(run)
