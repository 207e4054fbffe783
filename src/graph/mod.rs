//! What is computed: ids and tables, shapes with symbolic rows, ops over values.
//!
//! Knows nothing of weights' bytes, kernels, threads or offsets; those belong to the plan and the backends.

pub mod ids;
