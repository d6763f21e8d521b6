"""Labels for images as people hold them: files, Pillow images, arrays, tensors; one or many."""

import sys

import numpy as np
from PIL import Image

import vitrail

folder = sys.argv[1] if len(sys.argv) > 1 else "runs/predict"
vitrail.pretrain(vitrail.recipe("digits", steps=150), folder)  # a model to use

pixels = vitrail.load_data("digits", "test")[0].image
Image.fromarray(pixels).save(f"{folder}/digit.png")
predictor = vitrail.Predictor(folder)
print(predictor.predict(f"{folder}/digit.png", top=2))  # one image: its labels, the most likely first
print(predictor.predict(Image.fromarray(pixels), top=2))
grey = pixels.mean(axis=2) / 255  # float [8, 8] from 0 to 1
print(predictor.predict(grey, top=1))
print(predictor.predict([pixels, f"{folder}/digit.png"], top=1))  # several: a list of them
print(predictor.predict(np.stack([pixels, pixels]), top=1))
try:
    predictor.predict(f"{folder}/none.png")
except vitrail.BadInput as problem:
    print(problem)
