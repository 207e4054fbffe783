//! linear_add: linear's loop, which adds the residual behind the bias.

use super::linear::run;
use super::product::{product_rows, scratch_bytes};

product_rows! {
    LinearAdd = "linear_add", scratch: |case, isa| scratch_bytes(case, isa, 0), run: run
}
