"""The embedded corpora: short films with sound, rendered with known events or actions."""

from pipeline.demo.corpus import CORPUS_VERSION, DATASET, build_corpus, default_corpus_folder

__all__ = ["CORPUS_VERSION", "DATASET", "build_corpus", "default_corpus_folder"]
