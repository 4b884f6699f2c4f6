"""The feature store: committed shards of features, found by what was computed from what."""

from features.store.catalog import FeatureInfo, Store
from features.store.checking import Damage, StoreCheck
from features.store.claims import Claim, claim
from features.store.commit import commit_shard, find_committed
from features.store.layout import Row, RowKey, Shard, ShardRecord, shard_name
from features.store.table import FeatureTable

__all__ = [
    "Claim",
    "Damage",
    "FeatureInfo",
    "FeatureTable",
    "Row",
    "RowKey",
    "Shard",
    "ShardRecord",
    "Store",
    "StoreCheck",
    "claim",
    "commit_shard",
    "find_committed",
    "shard_name",
]
