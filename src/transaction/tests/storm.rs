//! A random storm over small tables: whatever happens, each record ends once and all memory comes
//! back; the same seed tells the same story.

use super::*;
use crate::base::Random;

const METHODS: [Method; 4] = [Method::Invite, Method::Bye, Method::Cancel, Method::Options];
const STATUSES: [u16; 7] = [100, 180, 200, 302, 404, 487, 603];

struct Storm {
    desk: Desk,
    random: Random,
    servers: Vec<ServerId>,
    clients: Vec<(ClientId, Method)>,
    tokens: u64,
    made: usize,
    gone: usize,
    refused: usize,
    told: HashKey,
    trace: u64,
}

impl Storm {
    fn new(seed: u64) -> Storm {
        let capacity = Capacity {
            servers: 40,
            clients: 40,
            bytes: 24 * 1024,
        };
        Storm {
            desk: Desk::with(&capacity),
            random: Random::new([seed, 2, 3, 4]),
            servers: Vec::new(),
            clients: Vec::new(),
            tokens: 0,
            made: 0,
            gone: 0,
            refused: 0,
            told: HashKey::new([5, 6]),
            trace: 0,
        }
    }

    fn pick(&mut self, count: usize) -> usize {
        self.random.below(count as u64) as usize
    }

    fn blow(&mut self) {
        match self.pick(10) {
            0 | 1 => self.request_comes(),
            2 | 3 => self.request_goes(),
            4 | 5 => self.user_answers(),
            6 | 7 => self.answer_comes(),
            8 => self.something_odd_happens(),
            _ => {
                let pause_us = self.random.below(900_000);
                self.desk.now = Instant::from_micros(self.desk.now.as_micros() + pause_us);
            }
        }
        self.listen();
    }

    fn request_comes(&mut self) {
        self.tokens += 1;
        let method = METHODS[self.pick(METHODS.len())];
        let (now, key) = (self.desk.now, server_key(self.tokens));
        match self
            .desk
            .table
            .accept(now, key, Role::of(method), flow(), 1)
        {
            Ok(id) => {
                self.made += 1;
                self.servers.push(id);
                assert_eq!(self.desk.table.find_server(&key), Some(id));
            }
            Err(_) => self.refused += 1,
        }
    }

    fn request_goes(&mut self) {
        self.tokens += 1;
        let method = METHODS[self.pick(METHODS.len())];
        let text = String::from_utf8_lossy(method.as_bytes()).into_owned();
        let Desk { table, out, now } = &mut self.desk;
        match table.send(*now, self.tokens, method, flow(), 2, request(&text), out) {
            Ok(id) => {
                self.made += 1;
                self.clients.push((id, method));
            }
            Err(_) => self.refused += 1,
        }
    }

    fn user_answers(&mut self) {
        if self.servers.is_empty() {
            return;
        }
        let id = self.servers[self.random.below(self.servers.len() as u64) as usize];
        let status = STATUSES[self.pick(STATUSES.len())];
        let Desk { table, out, now } = &mut self.desk;
        if table
            .respond(*now, id, status, response(status), out)
            .is_err()
        {
            self.refused += 1;
        }
    }

    fn answer_comes(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let (id, method) = self.clients[self.random.below(self.clients.len() as u64) as usize];
        let status = STATUSES[self.pick(STATUSES.len())];
        let text = response_text(status, &String::from_utf8_lossy(method.as_bytes()));
        let (mut read, mut reread) = (Scratch::new(64), Scratch::new(64));
        let Ok(response) = sip::parse(text.as_bytes(), &mut read) else {
            panic!("does not parse: {text}");
        };
        let Desk { table, out, now } = &mut self.desk;
        table.received(*now, id, &response, &mut reread, out);
    }

    fn something_odd_happens(&mut self) {
        let choice = self.pick(6);
        let server = self.servers.get(choice * 7).copied();
        let client = self.clients.get(choice * 7).copied();
        let Desk { table, out, now } = &mut self.desk;
        match (choice, server, client) {
            (0, Some(id), _) => table.abandon_server(id),
            (1, Some(id), _) => table.acked(*now, id),
            (2, Some(id), _) => table.retransmitted(*now, id, out),
            (3, _, Some((id, _))) => table.abandon_client(*now, id),
            (4, _, Some((id, _))) => table.cancelled(*now, id),
            (5, _, Some((id, _))) => table.unreachable(*now, id),
            _ => {}
        }
    }

    /// Hears all events, empties the outbox every so often, so that it is full now and then.
    fn listen(&mut self) {
        loop {
            let Desk { table, out, now } = &mut self.desk;
            let Some(event) = table.expire(*now, out) else {
                break;
            };
            match event {
                Event::ClientTimedOut(id) | Event::ClientFailed(id) => {
                    assert!(table.client_user(id).is_some());
                }
                Event::ServerTimedOut(id) => assert!(table.server_user(id).is_some()),
                Event::ClientGone(id, user) => {
                    assert_eq!(user, 2);
                    self.gone += 1;
                    self.clients.retain(|(other, _)| *other != id);
                }
                Event::ServerGone(id, user) => {
                    assert_eq!(user, 1);
                    self.gone += 1;
                    self.servers.retain(|other| *other != id);
                }
            }
            self.note(&name(&event));
        }
        if self.random.below(20) == 0 {
            let sent = self.desk.sent().join(" ");
            self.note(&sent);
        }
    }

    fn note(&mut self, what: &str) {
        let line = format!("{} {what} {}", self.trace, self.desk.now.as_micros());
        self.trace = self.told.hash(line.as_bytes());
    }

    /// Ends what only the user can end, then lets the timers do the rest.
    fn calm_down(&mut self) {
        let now = self.desk.now;
        for id in self.servers.clone() {
            self.desk.table.abandon_server(id);
        }
        for (id, _) in self.clients.clone() {
            self.desk.table.abandon_client(now, id);
        }
        self.desk.now = at(now.as_millis() + 200_000);
        self.listen();
    }
}

#[test]
fn after_a_storm_each_record_has_ended_once_and_nothing_is_left() {
    for seed in 0..8 {
        let mut storm = Storm::new(seed);
        for _ in 0..5000 {
            storm.blow();
        }
        storm.calm_down();
        assert!(storm.made > 200, "seed {seed}: {} records", storm.made);
        assert!(storm.refused > 0, "seed {seed}: nothing was ever full");
        assert_eq!(storm.gone, storm.made, "seed {seed}");
        assert!(storm.desk.is_empty(), "seed {seed}");
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let trace = |seed| {
        let mut storm = Storm::new(seed);
        for _ in 0..3000 {
            storm.blow();
        }
        storm.trace
    };
    assert_eq!(trace(11), trace(11));
    assert_ne!(trace(11), trace(12));
}
