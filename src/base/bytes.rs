//! A bounded store for copied messages: what must outlive the datagram it came in.
//!
//! One region, reserved at start and touched only as far as it is used. It is cut into pages of
//! 64 KiB; a page serves blocks of one size and returns to the common pool when its last block is
//! free. Storing and freeing take constant time and no memory beyond the region.

use super::Fresh;

/// Names one stored text; the default names the empty one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    /// Where the block starts, in units of [`UNIT`].
    unit: u32,
    len: u16,
    /// Must equal that of the block, else the text was freed.
    stamp: u16,
}

impl Handle {
    /// The empty text, which takes no room; freeing it does nothing.
    pub const EMPTY: Handle = Handle {
        unit: u32::MAX,
        len: 0,
        stamp: 0,
    };

    /// Octets of the text.
    pub fn len(self) -> usize {
        usize::from(self.len)
    }

    /// Whether it names the empty text.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }
}

impl Default for Handle {
    fn default() -> Handle {
        Handle::EMPTY
    }
}

/// Texts of up to 65,535 octets each, in a region of fixed size.
#[derive(Debug)]
pub struct ByteStore {
    region: Box<[u8]>,
    /// Per unit at which a block may start: counts up at each store and each free.
    stamps: Box<[u16]>,
    pages: Box<[Page]>,
    /// First page of the pool of free ones.
    pool: u32,
    /// Per class: first page that has a free block.
    partial: [u32; CLASSES],
    used: usize,
    /// Pages that ever left the pool: they do so in order.
    opened: u32,
}

#[derive(Clone, Debug)]
struct Page {
    /// A bit per block that is free.
    free: [u64; BLOCKS_MAX / 64],
    free_len: u16,
    class: u8,
    /// Neighbours in the list of the class, or the next page of the pool.
    next: u32,
    previous: u32,
}

/// The largest text.
pub const TEXT_MAX: usize = u16::MAX as usize;
const PAGE: usize = 64 * 1024;
const UNIT: usize = 128;
const UNITS_PER_PAGE: usize = PAGE / UNIT;
const BLOCKS_MAX: usize = PAGE / UNIT;
const NIL: u32 = u32::MAX;

/// Block sizes. Dense where SIP messages lie (500 to 1,500 octets), so that little is wasted there.
const CLASS_SIZES: [usize; CLASSES] = [
    128, 256, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192, 16384, 32768, 65536,
];
const CLASSES: usize = 13;

impl ByteStore {
    /// Reserves `bytes_max` octets, rounded up to whole pages.
    pub fn new(bytes_max: usize) -> ByteStore {
        let pages = bytes_max.div_ceil(PAGE);
        assert!(pages * UNITS_PER_PAGE < NIL as usize, "a unit is 32 bits");
        ByteStore {
            region: vec![0; pages * PAGE].into_boxed_slice(),
            stamps: vec![0; pages * UNITS_PER_PAGE].into_boxed_slice(),
            pages: (0..pages).map(|page| Page::pooled(page, pages)).collect(),
            pool: if pages == 0 { NIL } else { 0 },
            partial: [NIL; CLASSES],
            used: 0,
            opened: 0,
        }
    }

    /// Copies `text`, or gives `None` when there is no room or it is longer than [`TEXT_MAX`].
    pub fn store(&mut self, text: &[u8]) -> Option<Handle> {
        let len = u16::try_from(text.len()).ok()?;
        if len == 0 {
            return Some(Handle::EMPTY);
        }
        let page = self.page_with_room(class_of(text.len()))?;
        let block = self.take_block(page);
        let class = usize::from(self.pages[page as usize].class);
        let unit = page as usize * UNITS_PER_PAGE + block * CLASS_SIZES[class] / UNIT;
        self.region[unit * UNIT..][..text.len()].copy_from_slice(text);
        self.stamps[unit] = self.stamps[unit].wrapping_add(1);
        self.used += CLASS_SIZES[class];
        Some(Handle {
            unit: unit as u32,
            len,
            stamp: self.stamps[unit],
        })
    }

    /// The stored text. A handle that was freed is a bug; it gives the empty text.
    pub fn get(&self, handle: Handle) -> &[u8] {
        if !self.is_live(handle) {
            return b"";
        }
        &self.region[handle.unit as usize * UNIT..][..handle.len()]
    }

    /// Gives the room back. A handle that was freed before is a bug; nothing happens to others.
    pub fn free(&mut self, handle: Handle) {
        if !self.is_live(handle) {
            return;
        }
        let unit = handle.unit as usize;
        self.stamps[unit] = self.stamps[unit].wrapping_add(1);
        let page = (unit / UNITS_PER_PAGE) as u32;
        let size = CLASS_SIZES[usize::from(self.pages[page as usize].class)];
        self.give_block(page, unit % UNITS_PER_PAGE * UNIT / size);
        self.used -= size;
    }

    /// Octets of all blocks in use, which is what the texts take with rounding.
    pub fn used(&self) -> usize {
        self.used
    }

    /// The pages that were never written to.
    pub fn fresh(&self) -> Fresh {
        Fresh::behind(&self.region, self.opened as usize * PAGE)
    }

    /// Octets of the whole region.
    pub fn capacity(&self) -> usize {
        self.region.len()
    }

    fn is_live(&self, handle: Handle) -> bool {
        if handle.is_empty() {
            return false;
        }
        let live = self.stamps.get(handle.unit as usize) == Some(&handle.stamp);
        debug_assert!(live, "a handle is used after it was freed: {handle:?}");
        live
    }

    /// A page with a free block of `class`; of a larger class when the pool is empty, since a
    /// text in too large a block is better than a call refused.
    fn page_with_room(&mut self, class: usize) -> Option<u32> {
        if self.partial[class] != NIL {
            return Some(self.partial[class]);
        }
        if self.pool != NIL {
            return Some(self.open_page(class));
        }
        let larger = &self.partial[class + 1..];
        larger.iter().copied().find(|&page| page != NIL)
    }

    fn open_page(&mut self, class: usize) -> u32 {
        let page = self.pool;
        self.pool = self.pages[page as usize].next;
        self.opened = self.opened.max(page + 1);
        self.pages[page as usize].assign(class);
        self.link(page);
        page
    }

    fn take_block(&mut self, page: u32) -> usize {
        let block = self.pages[page as usize].take();
        if self.pages[page as usize].free_len == 0 {
            self.unlink(page);
        }
        block
    }

    fn give_block(&mut self, page: u32, block: usize) {
        let entry = &mut self.pages[page as usize];
        let was_full = entry.free_len == 0;
        entry.give(block);
        let blocks = PAGE / CLASS_SIZES[usize::from(entry.class)];
        let is_unused = usize::from(entry.free_len) == blocks;
        match (was_full, is_unused) {
            (true, false) => self.link(page),
            (false, true) => {
                self.unlink(page);
                self.pool_page(page);
            }
            (true, true) => self.pool_page(page), // one block is the whole page
            (false, false) => {}
        }
    }

    fn pool_page(&mut self, page: u32) {
        self.pages[page as usize].next = self.pool;
        self.pool = page;
    }

    /// Puts a page at the front of its class.
    fn link(&mut self, page: u32) {
        let class = usize::from(self.pages[page as usize].class);
        let next = core::mem::replace(&mut self.partial[class], page);
        self.pages[page as usize].next = next;
        self.pages[page as usize].previous = NIL;
        if next != NIL {
            self.pages[next as usize].previous = page;
        }
    }

    fn unlink(&mut self, page: u32) {
        let entry = &self.pages[page as usize];
        let (class, next, previous) = (usize::from(entry.class), entry.next, entry.previous);
        match previous {
            NIL => self.partial[class] = next,
            _ => self.pages[previous as usize].next = next,
        }
        if next != NIL {
            self.pages[next as usize].previous = previous;
        }
    }
}

impl Page {
    /// Page number `page` of `pages` as it lies in the pool at start.
    fn pooled(page: usize, pages: usize) -> Page {
        Page {
            free: [0; BLOCKS_MAX / 64],
            free_len: 0,
            class: 0,
            next: if page + 1 < pages {
                page as u32 + 1
            } else {
                NIL
            },
            previous: NIL,
        }
    }

    /// Cuts the page into blocks of `class`, all free.
    fn assign(&mut self, class: usize) {
        let blocks = PAGE / CLASS_SIZES[class];
        self.class = class as u8;
        self.free_len = blocks as u16;
        for (i, word) in self.free.iter_mut().enumerate() {
            *word = match blocks.saturating_sub(64 * i) {
                0 => 0,
                rest @ 1..64 => (1 << rest) - 1,
                _ => u64::MAX,
            };
        }
    }

    /// Takes the first free block; the caller has seen that there is one.
    fn take(&mut self) -> usize {
        let mut word = 0;
        while self.free[word] == 0 {
            word += 1;
        }
        let bit = self.free[word].trailing_zeros() as usize;
        self.free[word] &= self.free[word] - 1;
        self.free_len -= 1;
        64 * word + bit
    }

    fn give(&mut self, block: usize) {
        self.free[block / 64] |= 1 << (block % 64);
        self.free_len += 1;
    }
}

/// The smallest class whose blocks hold `len` octets.
fn class_of(len: usize) -> usize {
    usize::from(CLASS_OF_UNITS[len.div_ceil(UNIT)])
}

/// The class for each length in units, 0 to 512.
static CLASS_OF_UNITS: [u8; UNITS_PER_PAGE + 1] = {
    let mut classes = [0; UNITS_PER_PAGE + 1];
    let mut units = 0;
    let mut class = 0;
    while units <= UNITS_PER_PAGE {
        while CLASS_SIZES[class] < units * UNIT {
            class += 1;
        }
        classes[units] = class as u8;
        units += 1;
    }
    classes
};

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::base::Random;

    /// A text of `len` octets that differs from those of other seeds.
    fn text(len: usize, seed: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 + seed * 17) as u8).collect()
    }

    #[test]
    fn every_length_up_to_the_largest_comes_back_as_it_was() {
        let mut store = ByteStore::new(1 << 20);
        for len in (0..=TEXT_MAX).step_by(61).chain([1, 127, 128, 129, 65_535]) {
            let handle = store.store(&text(len, len)).unwrap();
            assert_eq!(store.get(handle), text(len, len));
            assert_eq!((handle.len(), handle.is_empty()), (len, len == 0));
            store.free(handle);
            assert_eq!(store.used(), 0);
        }
        assert_eq!(store.store(&text(TEXT_MAX + 1, 0)), None);
    }

    #[test]
    fn the_empty_text_takes_no_room() {
        let mut store = ByteStore::new(0);
        assert_eq!(store.capacity(), 0);
        let handle = store.store(b"").unwrap();
        assert_eq!(handle, Handle::default());
        assert_eq!(store.get(handle), b"");
        store.free(handle);
        store.free(Handle::EMPTY);
        assert_eq!(store.store(b"x"), None);
    }

    #[test]
    fn a_full_store_refuses_and_takes_again_after_a_free() {
        let mut store = ByteStore::new(2 * PAGE);
        let handles: Vec<_> = (0..)
            .map_while(|seed| store.store(&text(1000, seed)))
            .collect();
        assert_eq!(handles.len(), 2 * PAGE / 1024);
        assert_eq!(store.used(), store.capacity());
        store.free(handles[77]);
        let again = store.store(&text(900, 3)).unwrap();
        assert_eq!(store.get(again), text(900, 3));
        assert_eq!(store.store(b"x"), None);
    }

    #[test]
    fn a_page_whose_blocks_are_all_free_serves_another_size() {
        let mut store = ByteStore::new(PAGE);
        let small: Vec<_> = (0..512)
            .map(|i| store.store(&text(100, i)).unwrap())
            .collect();
        assert_eq!(store.store(&text(TEXT_MAX, 0)), None);
        small.into_iter().for_each(|handle| store.free(handle));
        let large = store.store(&text(TEXT_MAX, 0)).unwrap();
        assert_eq!(store.get(large), text(TEXT_MAX, 0));
        assert_eq!(store.store(b"x"), None);
    }

    #[test]
    fn a_small_text_goes_into_a_larger_block_before_it_is_refused() {
        let mut store = ByteStore::new(PAGE);
        let large = store.store(&text(3000, 1)).unwrap();
        let small = store.store(&text(10, 2)).unwrap();
        assert_eq!(store.used(), 2 * 3072);
        assert_eq!(store.get(large), text(3000, 1));
        store.free(small);
        store.free(large);
        assert_eq!(store.used(), 0);
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic = "used after it was freed")]
    fn freeing_twice_is_caught_and_harms_nobody() {
        let mut store = ByteStore::new(PAGE);
        let first = store.store(b"first").unwrap();
        store.free(first);
        let second = store.store(b"second").unwrap();
        store.free(first);
        assert_eq!(store.get(first), b"");
        assert_eq!(store.get(second), b"second");
    }

    #[test]
    fn it_agrees_with_a_hash_map_over_random_use() {
        let mut random = Random::new([13; 4]);
        let mut store = ByteStore::new(20 * PAGE);
        let mut model: HashMap<usize, (Handle, Vec<u8>)> = HashMap::new();
        let mut refused = 0;
        for seed in 0..30_000 {
            if random.below(100) < 52 {
                let longest = [200, 1500, 4000, 65_535][random.below(4) as usize];
                let text = text(random.below(longest) as usize, seed);
                match store.store(&text) {
                    Some(handle) => drop(model.insert(model.len(), (handle, text))),
                    None => refused += 1,
                }
            } else if !model.is_empty() {
                let last = model.remove(&(model.len() - 1)).unwrap();
                let pick = random.below(model.len() as u64 + 1) as usize;
                let (handle, text) = match model.get_mut(&pick) {
                    Some(entry) => core::mem::replace(entry, last),
                    None => last,
                };
                assert_eq!(store.get(handle), text);
                store.free(handle);
            }
        }
        assert!(refused > 100, "the full store was reached {refused} times");
        for (handle, text) in model.into_values() {
            assert_eq!(store.get(handle), text);
            store.free(handle);
        }
        assert_eq!(store.used(), 0);
        let whole = (0..20).map(|i| store.store(&text(TEXT_MAX, i)));
        assert!(whole.into_iter().all(|handle| handle.is_some()));
    }
}
