//! The gRPC services over an [`crate::Engine`]: validation, then one call of the engine.
