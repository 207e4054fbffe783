//! How an architecture writes a graph: methods that return values, never errors.
//!
//! The builder remembers every mistake with the file and line of the architecture that made it, goes on with a
//! stand-in, and [`GraphBuilder::finish`] verifies the graph and returns all problems together. Names are
//! llama.cpp's: inside a layer `attn_norm` becomes the value `attn_norm-3` and the weight `attn_norm` the tensor
//! `blk.3.attn_norm.weight`.

use super::{Def, Dim, Graph, Id, OpNode, Part, Shape, Value, ValueId, ValueList, ValueType, Weight, verify};
use crate::error::{Class, Error, Problem, Result};
use crate::ops::{self, Op, rope::Pairing};
use crate::quant::DType;
use smallvec::SmallVec;
use std::ops::Range;
use std::panic::Location;

/// What the builder asks of a file: the type and the dimensions of a tensor, fastest first as GGUF lists them.
pub trait TensorTypes {
    /// Type and dimensions of the tensor, if the file has it.
    fn tensor_type(&self, name: &str) -> Option<(DType, SmallVec<[u64; 4]>)>;
}

/// Types of the cache, chosen by the user and written into the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheTypes {
    /// Of keys: one of [`kv_append::TYPES`](crate::ops::kv_append::TYPES).
    pub k: DType,
    /// Of values, alike.
    pub v: DType,
}

impl Default for CacheTypes {
    fn default() -> Self {
        CacheTypes { k: DType::F16, v: DType::F16 }
    }
}

/// Heads of an attention block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heads {
    /// Query heads.
    pub n_head: u32,
    /// Key and value heads.
    pub n_head_kv: u32,
    /// Multiplies the scores.
    pub scale: f32,
}

/// Builds a [`Graph`].
pub struct GraphBuilder<'a> {
    graph: Graph,
    tensors: &'a dyn TensorTypes,
    cache: CacheTypes,
    layer: Option<u32>,
    problems: Vec<Problem>,
}

impl<'a> GraphBuilder<'a> {
    /// A builder for a file's tensors.
    pub fn new(arch: &str, tensors: &'a dyn TensorTypes, cache: CacheTypes) -> Self {
        let graph = Graph { arch: arch.to_string(), ..Graph::default() };
        GraphBuilder { graph, tensors, cache, layer: None, problems: Vec::new() }
    }

    /// Enters layer `il`: names that follow belong to it.
    pub fn layer(&mut self, il: u32) {
        self.layer = Some(il);
    }

    /// Leaves the layers: names that follow stand alone.
    pub fn end_layers(&mut self) {
        self.layer = None;
    }

    /// Whether the file has this weight (named as in [`Self::linear`]).
    pub fn has(&self, weight: &str) -> bool {
        self.tensors.tensor_type(&self.tensor_name(weight, "weight")).is_some()
    }

    /// Whether the file has a bias beside this weight.
    pub fn has_bias(&self, weight: &str) -> bool {
        self.tensors.tensor_type(&self.tensor_name(weight, "bias")).is_some()
    }

    /// Rows of the embedding table for the step's tokens: `[T, n_embd]`.
    #[track_caller]
    pub fn embed(&mut self, name: &str, weight: &str, n_vocab: u32, n_embd: u32) -> ValueId {
        let table = self.weight(weight, "weight", &[n_vocab, n_embd], None);
        self.op1(name, Op::Embed(ops::embed::Attrs), &[table])
    }

    /// Root-mean-square norm with the weight `[cols of x]`.
    #[track_caller]
    pub fn rms_norm(&mut self, name: &str, x: ValueId, weight: &str, eps: f32) -> ValueId {
        let n = self.cols(x);
        let w = self.weight(weight, "weight", &[n], Some(DType::F32));
        self.op1(name, Op::RmsNorm(ops::rms_norm::Attrs { eps }), &[x, w])
    }

    /// Root-mean-square norm of every head of x, all with the weight `[head_dim]`.
    #[track_caller]
    pub fn head_norm(&mut self, name: &str, x: ValueId, weight: &str, head_dim: u32, eps: f32) -> ValueId {
        let w = self.weight(weight, "weight", &[head_dim], Some(DType::F32));
        self.op1(name, Op::RmsNorm(ops::rms_norm::Attrs { eps }), &[x, w])
    }

    /// Product with the weight `[n_out, cols of x]`. Activations are quantised first if the weight's type asks
    /// for it; products of the same x share that.
    #[track_caller]
    pub fn linear(&mut self, name: &str, x: ValueId, weight: &str, n_out: u32) -> ValueId {
        self.product(name, x, (weight, false), 0..n_out, n_out)
    }

    /// Product with the weight `[n_out, cols of x]` and the bias `[n_out]` beside it.
    #[track_caller]
    pub fn linear_bias(&mut self, name: &str, x: ValueId, weight: &str, n_out: u32) -> ValueId {
        self.product(name, x, (weight, true), 0..n_out, n_out)
    }

    /// Product with rows `rows` of the weight `[n_out, cols of x]`, for files that store several matrices as one. Rows
    /// of one tensor that are used twice are an error.
    #[track_caller]
    pub fn linear_rows(
        &mut self,
        name: &str,
        x: ValueId,
        weight: &str,
        rows: Range<u32>,
        n_out: u32,
    ) -> ValueId {
        self.product(name, x, (weight, false), rows, n_out)
    }

    /// As [`Self::linear_rows`], with the same elements of the bias `[n_out]` beside the weight.
    #[track_caller]
    pub fn linear_rows_bias(
        &mut self,
        name: &str,
        x: ValueId,
        weight: &str,
        rows: Range<u32>,
        n_out: u32,
    ) -> ValueId {
        self.product(name, x, (weight, true), rows, n_out)
    }

    #[track_caller]
    fn product(
        &mut self,
        name: &str,
        x: ValueId,
        (weight, bias): (&str, bool),
        rows: Range<u32>,
        n_out: u32,
    ) -> ValueId {
        let n = self.cols(x);
        let part = (rows != (0..n_out)).then_some(Part { first: rows.start, of: n_out });
        let m = rows.end.saturating_sub(rows.start);
        let w = self.weight_part(weight, "weight", &[m, n], part, None);
        let mut args: ValueList = smallvec::smallvec![self.activation_for(x, w), w];
        if bias {
            args.push(self.weight_part(weight, "bias", &[m], part, Some(DType::F32)));
        }
        self.op1(name, Op::Linear(ops::linear::Attrs), &args)
    }

    /// Cosines and sines for the step's positions; `factors` names weights `[n_rot / 2]` of frequency factors: none,
    /// one, or the one for short and the one for long contexts if [`second_above`](ops::rope_table::Attrs) is set.
    #[track_caller]
    pub fn rope_table(&mut self, name: &str, attrs: ops::rope_table::Attrs, factors: &[&str]) -> ValueId {
        let n = attrs.n_rot / 2;
        let args: ValueList =
            factors.iter().map(|f| self.weight(f, "weight", &[n], Some(DType::F32))).collect();
        self.op1(name, Op::RopeTable(attrs), &args)
    }

    /// Rotates every head of x.
    #[track_caller]
    pub fn rope(
        &mut self,
        name: &str,
        x: ValueId,
        table: ValueId,
        pairing: Pairing,
        head_dim: u32,
    ) -> ValueId {
        let n_rot = self.cols(table);
        self.op1(name, Op::Rope(ops::rope::Attrs { pairing, head_dim, n_rot }), &[x, table])
    }

    /// Stores k and v in the layer's cache and attends to it: `[T, n_head * head_dim]`.
    #[track_caller]
    pub fn attention(&mut self, name: &str, q: ValueId, k: ValueId, v: ValueId, heads: Heads) -> ValueId {
        let layer = self.layer.unwrap_or(0);
        let append = ops::kv_append::Attrs {
            layer,
            n_head_kv: heads.n_head_kv,
            type_k: self.cache.k,
            type_v: self.cache.v,
        };
        let caches = self.op(&["cache_k", "cache_v"], Op::KvAppend(append), &[k, v]);
        let attrs = ops::attention::Attrs {
            layer,
            n_head: heads.n_head,
            n_head_kv: heads.n_head_kv,
            scale: heads.scale,
        };
        self.op1(name, Op::Attention(attrs), &[q, caches[0], caches[1]])
    }

    /// `silu(gate) * up`.
    #[track_caller]
    pub fn swiglu(&mut self, name: &str, gate: ValueId, up: ValueId) -> ValueId {
        self.op1(name, Op::Swiglu(ops::swiglu::Attrs), &[gate, up])
    }

    /// `a + b`.
    #[track_caller]
    pub fn add(&mut self, name: &str, a: ValueId, b: ValueId) -> ValueId {
        self.op1(name, Op::Add(ops::add::Attrs), &[a, b])
    }

    /// The rows that want logits.
    #[track_caller]
    pub fn select_rows(&mut self, name: &str, x: ValueId) -> ValueId {
        self.op1(name, Op::SelectRows(ops::select_rows::Attrs), &[x])
    }

    /// Makes a value a result of the graph.
    pub fn output(&mut self, v: ValueId) {
        self.graph.outputs.push(v);
    }

    /// Any op of the table, with the names of its results: the way for ops that have no method here.
    #[track_caller]
    pub fn op(&mut self, names: &[&str], op: Op, args: &[ValueId]) -> ValueList {
        let src = self.source(Location::caller());
        let types: SmallVec<[ValueType; 4]> = args.iter().map(|a| self.graph.values[*a].ty.clone()).collect();
        let types = op.infer(&types).unwrap_or_else(|why| {
            let p = Problem::new(
                "BadOp",
                format!("{} {:?}", op.kind(), self.value_name(names.first().unwrap_or(&""))),
            );
            self.problems.push(p.found(why).hint(self.at(src)));
            // A stand-in of the first operand's type lets the rest be checked too.
            let like = types.first().cloned().unwrap_or(ValueType::matrix(DType::F32, Dim::T, 0));
            names.iter().map(|_| like.clone()).collect()
        });
        if types.len() != names.len() {
            let p = Problem::new("BadOp", op.kind().name()).found(format!("{} names", names.len()));
            self.problems.push(p.expected(format!("{}", types.len())).hint(self.at(src)));
        }
        let id = super::OpId::from_index(self.graph.ops.len());
        let mut outs = ValueList::new();
        for (i, (ty, name)) in types.into_iter().zip(names).enumerate() {
            let name = self.value_name(name);
            outs.push(self.graph.values.push(Value { name, ty, def: Def::Op(id, i as u8) }));
        }
        self.graph.ops.push(OpNode { op, args: args.into(), outs: outs.clone(), src, rule: None });
        outs
    }

    /// Checks the graph and returns it.
    ///
    /// Errors: every mistake the builder remembered and every invariant [`verify`] finds broken, together.
    pub fn finish(self) -> Result<Graph> {
        let (graph, problems) = self.finish_partly();
        Error::from_problems(Class::Model, problems)?;
        Ok(graph)
    }

    /// As [`Self::finish`], but returns the graph beside the problems: its list of weights holds either way.
    pub fn finish_partly(mut self) -> (Graph, Vec<Problem>) {
        if self.problems.is_empty() {
            self.problems = verify::verify(&self.graph);
        }
        (self.graph, self.problems)
    }

    #[track_caller]
    fn op1(&mut self, name: &str, op: Op, args: &[ValueId]) -> ValueId {
        self.op(&[name], op, args)[0]
    }

    /// x itself, or x quantised to the type that meets the weight; quantised once however many products read it.
    #[track_caller]
    fn activation_for(&mut self, x: ValueId, w: ValueId) -> ValueId {
        let Some(to) = self.graph.values[w].ty.dtype.weight_codec().map(|c| c.activation) else { return x };
        if self.graph.values[x].ty.dtype == to {
            return x;
        }
        let op = Op::Quantize(ops::quantize::Attrs { to });
        if let Some(node) = self.graph.ops.rows().iter().find(|n| n.op == op && n.args[..] == [x]) {
            return node.outs[0];
        }
        let name = format!("{}_{}", self.graph.values[x].name, to.name().to_ascii_lowercase());
        let outer = self.layer.take();
        let v = self.op1(&name, op, &[x]);
        self.layer = outer;
        v
    }

    /// The value of a weight, demanded with these dimensions (slowest first). A weight the file lacks stands in
    /// as F32; the demand then names it.
    fn weight(&mut self, weight: &str, suffix: &str, dims: &[u32], only: Option<DType>) -> ValueId {
        self.weight_part(weight, suffix, dims, None, only)
    }

    /// As [`Self::weight`] for part of a tensor, whose dimensions are `dims`.
    fn weight_part(
        &mut self,
        weight: &str,
        suffix: &str,
        dims: &[u32],
        part: Option<Part>,
        only: Option<DType>,
    ) -> ValueId {
        let name = self.tensor_name(weight, suffix);
        let mut w = Weight { name, dtype: DType::F32, shape: dims.into(), part, value: ValueId(0) };
        let same = |o: &&Weight| o.name == w.name && o.shape == w.shape && o.part == w.part;
        if let Some(w) = self.graph.weights.rows().iter().find(same) {
            return w.value;
        }
        let found = self.tensors.tensor_type(&w.name).map(|(t, _)| t);
        // The demand reports a wrong or unsupported type of the file; the graph goes on with one that fits.
        w.dtype = only.unwrap_or(match found {
            Some(t)
                if t.weight_codec().is_some_and(|_| t.row_bytes(dims[dims.len() - 1] as usize).is_some()) =>
            {
                t
            }
            _ => DType::F32,
        });
        let shape: Shape = dims.iter().map(|d| Dim::Fixed(*d)).collect();
        let def = Def::Weight(super::WeightId::from_index(self.graph.weights.len()));
        let ty = ValueType { dtype: w.dtype, shape };
        w.value = self.graph.values.push(Value { name: w.value_name(), ty, def });
        let value = w.value;
        self.graph.weights.push(w);
        value
    }

    fn cols(&self, v: ValueId) -> u32 {
        self.graph.values[v].ty.cols()
    }

    fn tensor_name(&self, weight: &str, suffix: &str) -> String {
        match self.layer {
            Some(il) => format!("blk.{il}.{weight}.{suffix}"),
            None => format!("{weight}.{suffix}"),
        }
    }

    fn value_name(&self, name: &str) -> String {
        match self.layer {
            Some(il) => format!("{name}-{il}"),
            None => name.to_string(),
        }
    }

    fn source(&mut self, at: &Location<'_>) -> (u16, u32) {
        let file = at.file().replace('\\', "/");
        let i = self.graph.files.iter().position(|f| *f == file).unwrap_or_else(|| {
            self.graph.files.push(file);
            self.graph.files.len() - 1
        });
        (i as u16, at.line())
    }

    fn at(&self, src: (u16, u32)) -> String {
        format!("see {}:{}", self.graph.files[usize::from(src.0)], src.1)
    }
}
