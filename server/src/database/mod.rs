//! Queues, KV values and commits: SQLite.
