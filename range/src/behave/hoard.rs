//! Memory that is really taken: every page of it is written, with words that no two pages share.

/// Taken at a time, bytes.
const PIECE_BYTES: u64 = 256 << 10;

/// What was taken so far; given back when dropped.
#[derive(Debug, Default)]
pub(super) struct Hoard {
    pieces: Vec<Vec<u64>>,
    state: u64,
}

impl Hoard {
    /// Bytes taken.
    pub(super) fn bytes(&self) -> u64 {
        self.pieces.len() as u64 * PIECE_BYTES
    }

    /// Takes pieces until it holds so much, to the next lower piece.
    pub(super) fn grow_to(&mut self, bytes: u64) {
        while self.bytes() + PIECE_BYTES <= bytes {
            let mut state = self.state;
            let piece = (0..PIECE_BYTES / 8).map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state
            });
            self.pieces.push(piece.collect());
            self.state = state;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_by_pieces_and_never_shrinks() {
        let mut hoard = Hoard::default();

        hoard.grow_to(PIECE_BYTES - 1);
        assert_eq!(hoard.bytes(), 0);
        hoard.grow_to(3 * PIECE_BYTES + 1);
        hoard.grow_to(PIECE_BYTES);

        assert_eq!(hoard.bytes(), 3 * PIECE_BYTES);
        assert_ne!(hoard.pieces[0][0], hoard.pieces[1][0]);
    }
}
