//! Strings that many pods share, kept once.

use std::{collections::HashSet, sync::Arc};

/// The strings. One that nothing uses any more goes with the next [`Names::sweep`].
#[derive(Debug)]
pub struct Names {
    known: HashSet<Arc<str>>,
    max: usize,
}

impl Names {
    /// At most so many are shared; further ones are kept by each pod for itself.
    pub fn new(max: usize) -> Self {
        Self { known: HashSet::new(), max }
    }

    /// The one copy of a text.
    pub fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.known.get(text) {
            return Arc::clone(known);
        }
        let name: Arc<str> = text.into();
        if self.known.len() < self.max {
            self.known.insert(Arc::clone(&name));
        }
        name
    }

    /// Forgets what nobody uses.
    pub fn sweep(&mut self) {
        self.known.retain(|name| Arc::strong_count(name) > 1);
        if self.known.capacity() > self.known.len().max(1_024) * 4 {
            self.known.shrink_to_fit();
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }
}
