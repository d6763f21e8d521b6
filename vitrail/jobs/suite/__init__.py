"""One model, or two, on many data sets."""
