//! A bounded store for short octet strings: equal cells in one array reserved at start, a string in
//! as many of them as it needs, each naming the next; the last one is full to its end.
//!
//! For strings of some hundred octets, where blocks of a few sizes (see [`super::bytes`]) would
//! waste a third: here it is half a cell and four octets per further cell, whatever came and went
//! before.
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

/// Octets of a string; in all cells of it but the last one, behind [`ROOM`] of them the next cell.
#[derive(Clone, Copy, Debug)]
struct Cell([u8; Cells::OCTETS]);

impl Cell {
    fn next(&self) -> u32 {
        let [.., a, b, c, d] = self.0;
        u32::from_le_bytes([a, b, c, d])
    }

    fn set_next(&mut self, next: u32) {
        self.0[ROOM..].copy_from_slice(&next.to_le_bytes());
    }
}

/// Octets of a string in a cell that names another.
const ROOM: usize = Cells::OCTETS - size_of::<u32>();

/// How many cells so many octets take.
const fn cells_of(len: usize) -> usize {
    match len {
        0 => 0,
        1..=Cells::OCTETS => 1,
        _ => (len - Cells::OCTETS).div_ceil(ROOM) + 1,
    }
}

const NIL: u32 = u32::MAX;

impl Cells {
    /// Memory that one cell takes.
    pub const OCTETS: usize = 32;

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
        let needed = cells_of(usize::from(len)) - cells_of(before);
        if needed > self.capacity - self.used {
            return false;
        }
        let mut last = self.last(*chain);
        let filled = before.saturating_sub(ROOM * cells_of(before).saturating_sub(1));
        // What is put into new cells: where there are any, the last one of before makes room for
        // their place, and then they begin with what stood there.
        let mut carried = [0; size_of::<u32>()];
        let (mut rest, mut carried_len) = (octets, 0);
        if let Some(cell) = self.cells.get_mut(last as usize) {
            let room = match needed {
                0 => Self::OCTETS,
                _ => ROOM,
            };
            match room.checked_sub(filled) {
                Some(room) => {
                    let (front, behind) = octets.split_at(room.min(octets.len()));
                    cell.0[filled..filled + front.len()].copy_from_slice(front);
                    rest = behind;
                }
                None => {
                    carried_len = filled - room;
                    carried[..carried_len].copy_from_slice(&cell.0[room..filled]);
                }
            }
        }
        let mut carried = &carried[..carried_len];
        for left in (0..needed).rev() {
            let room = match left {
                0 => Self::OCTETS,
                _ => ROOM,
            };
            let (piece, behind) = rest.split_at((room - carried.len()).min(rest.len()));
            let cell = self.take(core::mem::take(&mut carried), piece);
            rest = behind;
            match last {
                NIL => chain.first = cell,
                last => self.cells[last as usize].set_next(cell),
            }
            last = cell;
        }
        chain.len = len;
        true
    }

    /// Copies a string to the front of `out`, as much of it as fits.
    pub fn read<'o>(&self, chain: Chain, out: &'o mut [u8]) -> &'o [u8] {
        let len = usize::from(chain.len).min(out.len());
        let (mut at, mut place) = (chain.first, 0);
        // Of the string, not of what is read: only its last cell is full to its end.
        let mut cells = cells_of(usize::from(chain.len));
        while place < len {
            let cell = &self.cells[at as usize];
            cells -= 1;
            let room = match cells {
                0 => Self::OCTETS,
                _ => ROOM,
            };
            let now = room.min(len - place);
            match out[place..].first_chunk_mut() {
                // More than is needed, where there is room for it.
                Some(whole) => *whole = cell.0,
                None => out[place..place + now].copy_from_slice(&cell.0[..now]),
            }
            place += now;
            at = cell.next();
        }
        &out[..len]
    }

    /// Gives the cells of a string back.
    pub fn free(&mut self, chain: Chain) {
        if chain.len > 0 {
            let last = self.last(chain);
            self.cells[last as usize].set_next(self.free);
            self.free = chain.first;
            self.used -= cells_of(usize::from(chain.len));
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
        match cells_of(usize::from(chain.len)) {
            0 => NIL,
            cells => (1..cells).fold(chain.first, |at, _| self.cells[at as usize].next()),
        }
    }

    /// A cell with these octets, one piece behind the other; the caller has seen that there is one.
    fn take(&mut self, front: &[u8], behind: &[u8]) -> u32 {
        self.used += 1;
        let at = match self.free {
            NIL => {
                self.cells.push(Cell([0; Self::OCTETS]));
                self.cells.len() as u32 - 1
            }
            at => {
                self.free = self.cells[at as usize].next();
                at
            }
        };
        let octets = &mut self.cells[at as usize].0;
        octets[..front.len()].copy_from_slice(front);
        octets[front.len()..front.len() + behind.len()].copy_from_slice(behind);
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
        assert!(cells.append(&mut first, &[1; ROOM + Cells::OCTETS]));
        assert!(cells.append(&mut second, b"ab"));
        assert!(!cells.append(&mut first, b"c"));
        assert_eq!(read(&cells, first), [1; ROOM + Cells::OCTETS]);
        assert!(cells.append(&mut second, b"c"));
        assert_eq!(read(&cells, second), b"abc");
        cells.free(first);
        assert_eq!(cells.used(), 1);
        assert!(cells.append(&mut second, &[2; ROOM + Cells::OCTETS]));
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
        let mut cells = Cells::new(300);
        let mut model: Vec<(Chain, Vec<u8>)> = vec![(Chain::default(), Vec::new()); 40];
        let mut refused = 0;
        for round in 0..20_000u32 {
            let pick = random.below(model.len() as u64) as usize;
            let (chain, octets) = &mut model[pick];
            if random.below(4) == 0 {
                cells.free(core::mem::take(chain));
                octets.clear();
            } else {
                let more = random.below(if round % 2 == 0 { 300 } else { 9 });
                let more = vec![round as u8; more as usize];
                if octets.len() + more.len() <= 4096 && cells.append(chain, &more) {
                    octets.extend(more);
                } else {
                    refused += 1;
                }
            }
            assert_eq!(read(&cells, *chain), *octets);
            let used = model.iter().map(|(_, octets)| cells_of(octets.len()));
            assert_eq!(cells.used(), used.sum::<usize>());
        }
        assert!(refused > 100, "the full store was reached {refused} times");
    }
}
