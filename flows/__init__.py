"""Commands and Prefect flows: thin glue over `features`, `trainers` and `pipeline`."""
