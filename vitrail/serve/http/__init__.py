"""Labels over HTTP: `vitrail serve`."""
