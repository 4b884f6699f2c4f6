"""Features that somebody else extracted: LLP's folders, folders of arrays, HDF5 files."""

from features.importing.hdf5 import import_hdf5
from features.importing.llp import import_llp
from features.importing.npy import import_npy, make_grid
from features.importing.report import ImportReport

__all__ = ["ImportReport", "import_hdf5", "import_llp", "import_npy", "make_grid"]
