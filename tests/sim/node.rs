//! The node under test: its shards with what they share, and the dialog files that outlive it. One
//! process of it lives from a start to a crash; its clock begins anew with each.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use callgate::base::Instant;
use callgate::base::hash::HashKey;
use callgate::dialog::store::{
    Found, FoundSetup, Head, Record, Region, SetupRecord, Store, Taken, Tally, Wall, positions,
    setups,
};
use callgate::guard::bans::SharedBans;
use callgate::limit::Limits;
use callgate::metrics::{Counter, Metrics};
use callgate::net::owner_of_hash;
use callgate::route::health::Board;
use callgate::shard::mail::Mailroom;
use callgate::shard::{Capacity, NodePlan, Shard, Shared, rehashed};

use crate::dice::Dice;
use crate::plans::set_limits;

/// Limit slots, trunk health rows.
pub const SLOTS: usize = 32;

/// What the clock of a process says when it begins.
const BOOT: Instant = Instant::from_micros(1_000_000);

/// The wall clock at the start of the world.
const WALL_US: u64 = 1_700_000_000_000_000;

/// One process; without shards while none runs.
pub struct Node {
    pub shards: Vec<Shard>,
    pub shared: Arc<Shared>,
    pub metrics: Vec<Arc<Metrics>>,
    pub not_before: Vec<Instant>,
    pub reading: Vec<bool>,
    /// How many processes there were before this one.
    pub life: u32,
    /// The part of each shard.
    pub capacity: Capacity,
    /// Calls of the files for which its tables had no room.
    pub refused: usize,
    /// By shard, where calls outlive the process.
    pub tapes: Vec<Arc<Tape>>,
    began: Instant,
}

/// What a process is started with.
pub struct Start<'s> {
    pub plan: &'s NodePlan,
    pub shards: usize,
    pub capacity: Capacity,
    pub letters_max: usize,
    pub key: [u64; 2],
    pub life: u32,
}

impl Node {
    /// A process with empty tables.
    pub fn start(now: Instant, start: &Start<'_>, dice: &mut Dice) -> Node {
        let limits = Arc::new(Limits::new(SLOTS));
        set_limits(&limits, start.plan);
        let board = Arc::new(Board::new(SLOTS as u16));
        board.introduce(BOOT, &start.plan.routing);
        let shared = Arc::new(Shared {
            limits,
            board,
            mail: Mailroom::new(start.shards, start.letters_max),
            draining: AtomicBool::new(false),
            owner_key: HashKey::new(start.key),
            bans: SharedBans::new(HashKey::new(start.key)),
        });
        let mut node = Node {
            shards: Vec::new(),
            shared,
            metrics: Vec::new(),
            not_before: vec![Instant::START; start.shards],
            reading: vec![false; start.shards],
            life: start.life,
            capacity: start.capacity,
            refused: 0,
            tapes: Vec::new(),
            began: now,
        };
        for id in 0..start.shards {
            node.metrics.push(Arc::new(Metrics::new(SLOTS)));
            let shard = node.new_shard(now, id, start.plan, start.capacity, dice);
            node.shards.push(shard);
        }
        node
    }

    /// A shard with empty tables for one seat of this process.
    pub fn new_shard(
        &self,
        now: Instant,
        id: usize,
        plan: &NodePlan,
        capacity: Capacity,
        dice: &mut Dice,
    ) -> Shard {
        let seed = [dice.number(), dice.number(), dice.number(), id as u64];
        Shard::new(
            id as u16,
            plan,
            Arc::clone(&self.shared),
            capacity,
            seed,
            Arc::clone(&self.metrics[id]),
            self.clock(now),
        )
    }

    /// Gives each shard its file, and the calls that are in it.
    pub fn keep_calls_in(&mut self, now: Instant, files: Vec<Vec<u8>>, names: &NodePlan) -> Tally {
        let mut tally = Tally::default();
        for (id, octets) in files.into_iter().enumerate() {
            let file = File::new(octets);
            self.tapes.push(Arc::clone(&file.tape));
            tally = tally.plus(self.hand_to(now, id, Box::new(file), names));
        }
        tally
    }

    /// Gives one shard a file.
    pub fn hand_to(
        &mut self,
        now: Instant,
        id: usize,
        file: Box<dyn Region>,
        names: &NodePlan,
    ) -> Tally {
        let wall = Wall {
            start_us: WALL_US + self.began.as_micros() - BOOT.as_micros(),
        };
        let slot_of = |name: &str| {
            let mut trunks = names.routing.trunks.iter();
            trunks
                .find(|trunk| trunk.name == name)
                .map(|trunk| trunk.slot)
        };
        let now = self.clock(now);
        let recalled = self.shards[id].keep_calls_in(now, file, wall, &slot_of);
        self.refused += recalled.refused;
        recalled.tally
    }

    pub fn is_down(&self) -> bool {
        self.shards.is_empty()
    }

    /// What the clock of this process says.
    pub fn clock(&self, now: Instant) -> Instant {
        BOOT + now.since(self.began)
    }

    /// When something is due, in the world's time.
    pub fn next_deadline(&self) -> Option<(Instant, usize)> {
        let due = |id: usize| {
            let due = self.shards[id].next_deadline()?;
            let due = self.began + due.since(BOOT);
            Some((due.max(self.not_before[id]), id))
        };
        (0..self.shards.len()).filter_map(due).min()
    }

    /// A counter over all shards.
    pub fn count(&self, counter: Counter) -> u64 {
        let values = self.metrics.iter().map(|metrics| metrics.value(counter));
        values.sum()
    }

    /// Takes all shards out of service, as the end of a process does.
    pub fn wind_up(&mut self) {
        for shard in &mut self.shards {
            shard.wind_up();
        }
        self.shards.clear();
    }
}

/// The dialog file of a shard, in memory.
pub struct File {
    octets: Vec<u8>,
    tape: Arc<Tape>,
}

/// Remembers what a file was before each write, while it runs.
#[derive(Default)]
pub struct Tape(Mutex<Option<Vec<Vec<u8>>>>);

impl File {
    fn new(octets: Vec<u8>) -> File {
        File {
            octets,
            tape: Arc::default(),
        }
    }
}

impl Region for File {
    fn octets(&self) -> &[u8] {
        &self.octets
    }

    fn octets_mut(&mut self) -> &mut [u8] {
        let mut before = self.tape.0.lock().expect("one thread");
        if let Some(before) = &mut *before {
            before.push(self.octets.clone());
        }
        &mut self.octets
    }
}

impl Tape {
    pub fn run(&self) {
        *self.0.lock().expect("one thread") = Some(Vec::new());
    }

    pub fn stop(&self) -> Vec<Vec<u8>> {
        self.0
            .lock()
            .expect("one thread")
            .take()
            .unwrap_or_default()
    }
}

/// A file as a process leaves it that dies at any moment of its last writes: those before are
/// whole, one is torn in any order of its octets, those behind it did not happen.
pub fn torn(dice: &mut Dice, mut before: Vec<Vec<u8>>, last: Vec<u8>) -> Vec<u8> {
    before.push(last);
    let cut = dice.below(before.len());
    let Some(after) = before.get(cut + 1) else {
        return before.swap_remove(cut);
    };
    let changed: Vec<usize> = (0..after.len())
        .filter(|at| before[cut][*at] != after[*at])
        .collect();
    let count = dice.below(changed.len() + 1);
    let arrives: Vec<usize> = match dice.below(3) {
        0 => changed[..count].to_vec(),
        1 => changed[changed.len() - count..].to_vec(),
        _ => changed.into_iter().filter(|_| dice.chance(500)).collect(),
    };
    let mut file = before[cut].clone();
    for at in arrives {
        file[at] = before[cut + 1][at];
    }
    file
}

/// What a start finds in the files of the process before it.
pub struct Prepared {
    pub files: Vec<Vec<u8>>,
    pub dialogs_each: usize,
    pub tally: Tally,
}

/// Files for a node of so many shards, with all calls of `old`: the same ones where they fit.
pub fn prepare(old: Vec<Vec<u8>>, key: &HashKey, shards: usize, dialogs_each: usize) -> Prepared {
    let mut tally = Tally::default();
    let mut fits = old.len() == shards;
    for file in &old {
        let head = Head::read(file).expect("the front of a file is never written again");
        fits &= head == Head::new(dialogs_each, key);
        positions(file).for_each(|found| tally.count(&found));
        setups(file).for_each(|found| tally.count_setup(&found));
    }
    if fits && tally.damaged == 0 {
        return Prepared {
            files: old,
            dialogs_each,
            tally,
        };
    }
    let mut shares: Vec<Share<'_>> = (0..shards).map(|_| Share::default()).collect();
    let owner = |hash: u64| usize::from(owner_of_hash(hash, shards as u16));
    for found in old.iter().flat_map(|file| positions(file)) {
        if let Found::Call(record) | Found::Earlier(record) = found
            && let Some(record) = rehashed(&record, key)
        {
            shares[owner(record.owner)].calls.push(record);
        }
    }
    // Under another key nobody would know the answers to their INVITEs.
    let print = Head::new(0, key).key_print;
    let known = |file: &&Vec<u8>| Head::read(file).is_ok_and(|head| head.key_print == print);
    for found in old.iter().filter(known).flat_map(|file| setups(file)) {
        if let FoundSetup::Call(_, record) | FoundSetup::Earlier(_, record) = found {
            shares[owner(record.owner)].setups.push(record);
        }
    }
    let most = shares
        .iter()
        .map(|share| share.calls.len() + share.setups.len());
    let dialogs_each = most.max().unwrap_or(0).max(dialogs_each);
    let files = shares.iter().map(|share| write(share, key, dialogs_each));
    Prepared {
        files: files.collect(),
        dialogs_each,
        tally,
    }
}

/// The calls of one shard.
#[derive(Default)]
struct Share<'r> {
    calls: Vec<Record<'r>>,
    setups: Vec<SetupRecord<'r>>,
}

fn write(share: &Share<'_>, key: &HashKey, positions: usize) -> Vec<u8> {
    let head = Head::new(positions, key);
    let mut octets = vec![0; head.octets()];
    head.write(&mut octets);
    if share.calls.is_empty() && share.setups.is_empty() {
        return octets;
    }
    let (mut store, _) = Store::open(Box::new(octets), |_, _| true);
    store.open_setups(|_, _| Taken::Yes);
    for call in &share.calls {
        store.write(None, call).expect("a position for each call");
    }
    for setup in &share.setups {
        store
            .write_setup(None, setup)
            .expect("a position for each set-up");
    }
    store.into_region().octets().to_vec()
}
