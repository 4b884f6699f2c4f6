"""Raw media and manifests: decoding, audio front ends, time grids, importers and the demo corpora."""
