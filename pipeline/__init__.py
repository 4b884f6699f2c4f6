"""Raw media and manifests: decoding, audio front ends, time grids, importers, demo corpora."""
