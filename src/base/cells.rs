//! A bounded store for short octet strings: equal cells in one array reserved at start, a string in
//! as many of them as it needs, each naming the next.
//!
//! For strings of some hundred octets, where blocks of a few sizes (see [`super::bytes`]) would
//! waste a third: here it is half a cell and four octets per cell, whatever came and went before.
//! A string is not in one piece, so that to read it is to copy it.

use super::Fresh;

/// One stored string. Whoever holds it frees it once; the default is the empty one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Of no meaning where the string is empty.
    pub first: u32,
    pub len: u16,
}

/// Up to `capacity` cells.
#[derive(Debug)]
pub struct Cells {
    cells: Vec<Cell>,
    /// First cell of those given back.
    free: u32,
    used: usize,
    capacity: usize,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    octets: [u8; Cells::ROOM],
    next: u32,
}

const NIL: u32 = u32::MAX;

impl Cells {
    /// Memory that one cell takes.
    pub const OCTETS: usize = 32;
    /// Octets of a string in one cell.
    pub const ROOM: usize = Cells::OCTETS - size_of::<u32>();

    /// Reserves memory for `capacity` cells; there is none taken afterwards.
    pub fn new(capacity: usize) -> Cells {
        assert!(capacity < NIL as usize, "a link is 32 bits wide");
        Cells {
            cells: Vec::with_capacity(capacity),
            free: NIL,
            used: 0,
            capacity,
        }
    }

    /// Puts `octets` behind those of a string; `false` when there is no room, and then nothing has
    /// changed.
    pub fn append(&mut self, chain: &mut Chain, octets: &[u8]) -> bool {
        let before = usize::from(chain.len);
        let Ok(len) = u16::try_from(before + octets.len()) else {
            return false;
        };
        let needed = usize::from(len).div_ceil(Self::ROOM) - before.div_ceil(Self::ROOM);
        if needed > self.capacity - self.used {
            return false;
        }
        let mut last = self.last(*chain);
        let filled = before % Self::ROOM;
        let room = if filled == 0 { 0 } else { Self::ROOM - filled };
        let (front, rest) = octets.split_at(room.min(octets.len()));
        if !front.is_empty() {
            self.cells[last as usize].octets[filled..filled + front.len()].copy_from_slice(front);
        }
        for piece in rest.chunks(Self::ROOM) {
            let cell = self.take(piece);
            match last {
                NIL => chain.first = cell,
                last => self.cells[last as usize].next = cell,
            }
            last = cell;
        }
        chain.len = len;
        true
    }

    /// Copies a string to the front of `out`, as much of it as fits.
    pub fn read<'o>(&self, chain: Chain, out: &'o mut [u8]) -> &'o [u8] {
        let len = usize::from(chain.len).min(out.len());
        let mut at = chain.first;
        for piece in out[..len].chunks_mut(Self::ROOM) {
            let cell = &self.cells[at as usize];
            match <&mut [u8; Self::ROOM]>::try_from(&mut *piece) {
                Ok(whole) => *whole = cell.octets,
                Err(_) => piece.copy_from_slice(&cell.octets[..piece.len()]),
            }
            at = cell.next;
        }
        &out[..len]
    }

    /// Gives the cells of a string back.
    pub fn free(&mut self, chain: Chain) {
        if chain.len > 0 {
            let last = self.last(chain);
            self.cells[last as usize].next = self.free;
            self.free = chain.first;
            self.used -= usize::from(chain.len).div_ceil(Self::ROOM);
        }
    }

    /// Cells in use.
    pub fn used(&self) -> usize {
        self.used
    }

    /// The cells that were never written to.
    pub fn fresh(&self) -> Fresh {
        Fresh::of_vec(&self.cells)
    }

    fn last(&self, chain: Chain) -> u32 {
        if chain.len == 0 {
            return NIL;
        }
        let further = (usize::from(chain.len) - 1) / Self::ROOM;
        (0..further).fold(chain.first, |at, _| self.cells[at as usize].next)
    }

    /// A cell with these octets; the caller has seen that there is one.
    fn take(&mut self, piece: &[u8]) -> u32 {
        self.used += 1;
        let at = match self.free {
            NIL => {
                self.cells.push(Cell {
                    octets: [0; Self::ROOM],
                    next: NIL,
                });
                self.cells.len() as u32 - 1
            }
            at => {
                self.free = self.cells[at as usize].next;
                at
            }
        };
        self.cells[at as usize].octets[..piece.len()].copy_from_slice(piece);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Random;

    fn read(cells: &Cells, chain: Chain) -> Vec<u8> {
        cells.read(chain, &mut [0; 4096]).to_vec()
    }

    #[test]
    fn a_full_store_changes_nothing_and_takes_again_after_a_free() {
        let mut cells = Cells::new(3);
        let (mut first, mut second) = (Chain::default(), Chain::default());
        assert!(cells.append(&mut first, &[1; 2 * Cells::ROOM]));
        assert!(cells.append(&mut second, b"ab"));
        assert!(!cells.append(&mut first, b"c"));
        assert_eq!(read(&cells, first), [1; 2 * Cells::ROOM]);
        assert!(cells.append(&mut second, b"c"));
        assert_eq!(read(&cells, second), b"abc");
        cells.free(first);
        assert_eq!(cells.used(), 1);
        assert!(cells.append(&mut second, &[2; 2 * Cells::ROOM]));
        assert!(!cells.append(&mut Chain::default(), b"x"));
        assert!(!cells.append(&mut second, &[0; 1 << 16]));
    }

    #[test]
    fn the_empty_string_takes_no_room() {
        let mut cells = Cells::new(0);
        let mut chain = Chain::default();
        assert!(cells.append(&mut chain, b""));
        assert_eq!(read(&cells, chain), b"");
        cells.free(chain);
        assert_eq!(cells.used(), 0);
    }

    #[test]
    fn a_cell_is_as_large_as_it_says() {
        assert_eq!(size_of::<Cell>(), Cells::OCTETS);
    }

    #[test]
    fn it_agrees_with_a_vector_over_random_use() {
        let mut random = Random::new([17; 4]);
        let mut cells = Cells::new(600);
        let mut model: Vec<(Chain, Vec<u8>)> = vec![(Chain::default(), Vec::new()); 40];
        let mut refused = 0;
        for round in 0..20_000u32 {
            let pick = random.below(model.len() as u64) as usize;
            let (chain, octets) = &mut model[pick];
            if random.below(4) == 0 {
                cells.free(core::mem::take(chain));
                octets.clear();
            } else {
                let more = vec![round as u8; random.below(300) as usize];
                if octets.len() + more.len() <= 4096 && cells.append(chain, &more) {
                    octets.extend(more);
                } else {
                    refused += 1;
                }
            }
            assert_eq!(read(&cells, *chain), *octets);
            let used = model
                .iter()
                .map(|(_, octets)| octets.len().div_ceil(Cells::ROOM));
            assert_eq!(cells.used(), used.sum::<usize>());
        }
        assert!(refused > 100, "the full store was reached {refused} times");
    }
}
