//! Elementary functions with one documented order of operations, the same bits on every machine.
//! (The functions come with the kernels.)
