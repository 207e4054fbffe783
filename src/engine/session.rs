//! One text: its tokens, and their keys and values.

use crate::backends::KvLayout;
use crate::backends::alloc::{KvCache, insufficient};
use crate::error::{Error, Result};

/// The state of one text on one engine. Its tokens are those whose keys and values are in the cache.
#[derive(Debug)]
pub struct Session {
    pub(super) engine: u64,
    pub(super) cache: KvCache,
    pub(super) tokens: Vec<u32>,
}

impl Session {
    /// An empty session of an engine.
    pub(super) fn new(engine: u64, layout: KvLayout) -> Result<Session> {
        let mut tokens = Vec::new();
        // All of it now: no step may have to grow it.
        tokens.try_reserve_exact(layout.n_ctx as usize).map_err(|_| {
            Error::resources(insufficient("the tokens of a session", 4 * u64::from(layout.n_ctx), None, "-c"))
        })?;
        Ok(Session { engine, cache: KvCache::new(layout)?, tokens })
    }

    /// Tokens so far: the position of the next one.
    pub fn len(&self) -> u32 {
        self.tokens.len() as u32
    }
    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
    /// The tokens so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }
    /// Tokens it can hold.
    pub fn n_ctx(&self) -> u32 {
        self.cache.layout().n_ctx
    }
    /// Bytes of its keys and values with a full context.
    pub fn cache_bytes(&self) -> u64 {
        self.cache.bytes().len() as u64
    }
    /// Tokens it can still take.
    pub fn room(&self) -> u32 {
        self.n_ctx() - self.len()
    }
    /// Forgets everything; the memory stays. The next text gives the bits it would give on a new session.
    pub fn reset(&mut self) {
        self.truncate(0);
    }
    /// Forgets all but the first `len` tokens, so that another continuation can be tried.
    pub fn truncate(&mut self, len: u32) {
        // Cells past the end are never read, so they need no cleaning.
        self.tokens.truncate(len as usize);
    }

    /// Keys and values of a layer, as they lie in the cache: for tests and checkpoints, not for speed.
    pub fn cached(&self, layer: u32) -> CachedLayer {
        let (kv, bytes) = (*self.cache.layout(), self.cache.bytes());
        let mut out = CachedLayer { n_layer: kv.n_layer, tail_is_zero: true, ..CachedLayer::default() };
        let parts = [(kv.type_k, kv.head_dim_k, true), (kv.type_v, kv.head_dim_v, false)];
        for (dtype, dim, keys) in parts {
            let (cell, Some(codec)) = (dtype.row_bytes(dim as usize).unwrap_or(0), dtype.codec()) else {
                continue;
            };
            let at = |head, position| {
                if keys { kv.k_offset(layer, head, position) } else { kv.v_offset(layer, head, position) }
            };
            let rows = if keys { &mut out.keys } else { &mut out.values };
            for position in 0..self.len() {
                for head in 0..kv.n_head_kv {
                    let start = rows.len();
                    rows.resize(start + dim as usize, 0.0);
                    (codec.decode)(&bytes[at(head, position)..][..cell], &mut rows[start..]);
                }
            }
            let tail = |head| &bytes[at(head, self.len())..at(head, kv.n_ctx)];
            out.tail_is_zero &= (0..kv.n_head_kv).all(|head| tail(head).iter().all(|b| *b == 0));
        }
        out
    }
}

/// What a session has cached of one layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CachedLayer {
    /// Layers of the cache.
    pub n_layer: u32,
    /// Keys, a row of all heads for each token.
    pub keys: Vec<f32>,
    /// Values, alike.
    pub values: Vec<f32>,
    /// Whether all behind the last token is 0, as it is until a session forgets tokens.
    pub tail_is_zero: bool,
}
