//! Slab and index with a million records of 128 bytes, and the store of copied messages.

use std::hint::black_box;

use callgate::base::{ByteStore, HashKey, Index, Key, Random, Slab};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

const RECORDS: usize = 1_000_000;

/// As large as a dialog's record; the name stands for Call-ID and tags.
struct Record {
    name: u64,
    _rest: [u64; 15],
}

struct Table {
    key: HashKey,
    slab: Slab<Record>,
    index: Index,
}

impl Table {
    fn filled() -> Table {
        let mut table = Table {
            key: HashKey::new([1, 2]),
            slab: Slab::new(RECORDS),
            index: Index::new(RECORDS),
        };
        (0..RECORDS as u64).for_each(|name| table.insert(name));
        table
    }

    fn hash(&self, name: u64) -> u64 {
        self.key.hash(&name.to_le_bytes())
    }

    fn insert(&mut self, name: u64) {
        let hash = self.hash(name);
        let record = Record {
            name,
            _rest: [0; 15],
        };
        let key = self.slab.insert(record).ok().expect("room");
        self.index.insert(hash, key.index);
    }

    fn find(&self, name: u64) -> Option<Key> {
        let index = self
            .index
            .find(self.hash(name), |held| self.is(held, name))?;
        self.slab.key_at(index)
    }

    fn remove(&mut self, name: u64) -> Option<Record> {
        let hash = self.hash(name);
        let slab = &self.slab;
        let index = self.index.remove(hash, |held| {
            slab.at(held).is_some_and(|record| record.name == name)
        })?;
        self.slab.remove(self.slab.key_at(index)?)
    }

    fn is(&self, held: u32, name: u64) -> bool {
        self.slab.at(held).is_some_and(|record| record.name == name)
    }
}

fn index_and_slab(c: &mut Criterion) {
    let mut table = Table::filled();
    let mut random = Random::new([1; 4]);
    let names: Vec<u64> = (0..65_536).map(|_| random.below(RECORDS as u64)).collect();
    let mut names = names.into_iter().cycle();
    c.bench_function("table/hit, 1 M records", |b| {
        b.iter(|| table.find(names.next().unwrap()));
    });
    c.bench_function("table/miss, 1 M records", |b| {
        b.iter(|| table.find(names.next().unwrap() + RECORDS as u64));
    });
    c.bench_function("table/remove and insert, 1 M records", |b| {
        b.iter(|| {
            let name = names.next().unwrap();
            black_box(table.remove(name));
            table.insert(name);
        });
    });
}

fn bytes(c: &mut Criterion) {
    let mut store = ByteStore::new(256 << 20);
    let mut random = Random::new([2; 4]);
    let text = [b'x'; 1500];
    let mut held: Vec<_> = (0..150_000)
        .map(|_| {
            store
                .store(&text[..400 + random.below(1000) as usize])
                .unwrap()
        })
        .collect();
    let picks: Vec<_> = (0..65_536)
        .map(|_| random.below(150_000) as usize)
        .collect();
    let mut picks = picks.into_iter().cycle();
    c.bench_function(
        "bytes/free a random text and store 700 octets, 150 k held",
        |b| {
            b.iter(|| {
                let handle = &mut held[picks.next().unwrap()];
                store.free(*handle);
                *handle = store.store(&text[..700]).unwrap();
            });
        },
    );
    c.bench_function("bytes/reserve 256 MiB", |b| {
        b.iter_batched(
            || (),
            |()| ByteStore::new(256 << 20),
            BatchSize::PerIteration,
        );
    });
}

criterion_group!(benches, index_and_slab, bytes);
criterion_main!(benches);
