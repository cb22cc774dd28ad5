//! The contract of a store as tests, races included. Every kind of store runs them.
