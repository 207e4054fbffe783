//! Tools to look at a run from outside: profiles, trace files, attention scores, and what the process and the machine did.

pub mod machine;
pub mod profile;
pub mod scores;
pub mod trace_file;
