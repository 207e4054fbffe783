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
}
