"""DATA as a torch Dataset, for torch's own DataLoader or another library's trainer."""

from torch.utils.data import DataLoader

import vitrail

source = vitrail.load_data("digits@train[:90%]")
print(source, source.labels.shape, source[0].key)

view = vitrail.Preprocess(resolution=(16, 16))
dataset = vitrail.ImageDataset(source, view, augment=vitrail.Augment(), seed=0)
for epoch in range(2):
    dataset.epoch = epoch  # other crops; the same for everyone who asks for (seed, epoch, index)
    images, labels = next(iter(DataLoader(dataset, batch_size=32, shuffle=True)))
    print(f"epoch {epoch}: {tuple(images.shape)} from {images.min():.2f} to {images.max():.2f}, labels {labels[:5]}")
