"""Data of one's own by name, as DATA everywhere: `stripes@train[:90%]`. Here they are drawn when they are asked for."""

import numpy as np

import vitrail


class Stripes(vitrail.Source):
    """Lines across or down, at random places: uint8 [16, 16, 3]."""

    classes = ("across", "down")

    def __init__(self, split):
        self.seed = {"train": 0, "test": 1}[split]
        self.labels = np.arange({"train": 256, "test": 64}[split]) % 2

    def __getitem__(self, index):
        rng = np.random.default_rng((self.seed, index))
        image = np.zeros((16, 16, 3), np.uint8)
        image[rng.integers(16, size=3)] = 255
        label = int(self.labels[index])
        return vitrail.Example(image.swapaxes(0, 1) if label else image, label, f"stripes-{index}")


vitrail.register_data("stripes", Stripes, splits=("train", "test"), about="lines across or down")
print(vitrail.load_data("stripes@train[:90%]"))
model = vitrail.create_model("Ti/16", num_classes=2, resolution=16)
model.classes = Stripes.classes
print(vitrail.evaluate(model, "stripes"))
