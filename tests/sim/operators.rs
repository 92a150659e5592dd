//! Those who run the node: they reload, drain, disable, enable and end calls, at any moment.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use callgate::shard::NodePlan;
use callgate::shard::mail::{Ask, CallFilter, CallRow, Mail, Recount, TrunkOrder};
use crossbeam::channel::{Receiver, bounded};

use crate::plans::set_limits;
use crate::world::{Event, World};

impl World {
    /// One act of an operator, and the time of the next.
    pub fn operate(&mut self) {
        if self.closing {
            return;
        }
        if self.climate.operators && !self.is_out() {
            match self.dice.below(8) {
                0 | 1 => {
                    let variant = self.dice.below(self.plans.variants.len());
                    self.variant = variant;
                    self.reload(self.plans.variants[variant].clone());
                }
                2..=4 => self.order_trunk(),
                5 | 6 => self.end_some_call(),
                _ => {
                    let draining = self.dice.chance(300);
                    self.node.shared.draining.store(draining, Ordering::Relaxed);
                }
            }
        }
        let pause = self.dice.millis(1_000..120_000);
        self.after(pause, Event::Operate);
    }

    pub fn change_mood(&mut self) {
        if !self.closing && self.climate.moods {
            self.peers.change_mood();
            let pause = self.dice.millis(1_000..60_000);
            self.after(pause, Event::Mood);
        }
    }

    /// Another plan for all shards, as the runtime does it.
    pub fn reload(&mut self, plan: NodePlan) {
        set_limits(&self.node.shared.limits, &plan);
        let clock = self.node.clock(self.now);
        self.node.shared.board.introduce(clock, &plan.routing);
        self.lower_ceilings();
        for shard in 0..self.node.shards.len() {
            let (done, heard) = bounded(1);
            let plan = Arc::new(plan.clone());
            self.ask(shard, Ask::Swap { plan, done }, &heard);
        }
    }

    fn order_trunk(&mut self) {
        let trunks = &self.plans.variants[self.variant].routing.trunks;
        let slot = trunks[self.dice.below(trunks.len())].slot;
        let order = self.dice.pick(&[
            TrunkOrder::Drain,
            TrunkOrder::Enable,
            TrunkOrder::Enable,
            TrunkOrder::Disable,
            TrunkOrder::Probe,
        ]);
        self.give_order(slot, order);
    }

    fn give_order(&mut self, slot: u16, order: TrunkOrder) {
        let keeper = usize::from(slot) % self.node.shards.len();
        let (done, heard) = bounded(1);
        let _fault = self.ask(keeper, Ask::Trunk { slot, order, done }, &heard);
    }

    fn end_some_call(&mut self) {
        let rows = self.rows();
        if rows.is_empty() {
            return;
        }
        let (shard, row) = &rows[self.dice.below(rows.len())];
        let (reply, heard) = bounded(1);
        let call_id = row.call_id.clone();
        if let Some(call) = self.judge.call_of(&call_id) {
            self.judge.case_mut(call).ended_by_operator = true;
            self.ladder.remark(self.now, call, "ended by the operator");
        }
        let call_id = call_id.into_bytes();
        self.ask(*shard, Ask::EndCall { call_id, reply }, &heard);
    }

    /// All live calls that the shards list, with their shard.
    pub fn rows(&mut self) -> Vec<(usize, CallRow)> {
        let mut rows = Vec::new();
        for shard in 0..self.node.shards.len() {
            let mut from_index = Some(0);
            while let Some(from) = from_index {
                let (reply, heard) = bounded(1);
                let ask = Ask::Calls {
                    from_index: from,
                    rows_max: 1000,
                    filter: CallFilter::default(),
                    reply,
                };
                let page = self.ask(shard, ask, &heard);
                from_index = page.next_index;
                rows.extend(page.rows.into_iter().map(|row| (shard, row)));
            }
        }
        rows
    }

    /// What the calls of a shard hold of the limits.
    pub fn recount(&mut self, shard: usize) -> Recount {
        let (reply, heard) = bounded(1);
        self.ask(shard, Ask::Recount { reply }, &heard)
    }

    /// Asks a shard and lets it read its mail until it answers.
    fn ask<T>(&mut self, shard: usize, ask: Ask, heard: &Receiver<T>) -> T {
        self.read_mail(shard);
        assert!(
            self.node.shared.mail.post(shard, Mail::Ask(Box::new(ask))),
            "an inbox that was just read is not full"
        );
        self.read_mail(shard);
        heard
            .try_recv()
            .expect("a shard answers when it reads its mail")
    }

    /// Takes the node out of service: all calls are left to end, nothing new begins.
    pub fn close(&mut self) {
        self.closing = true;
        self.peers.calm_down();
        self.partitions.heal();
        if !self.node.is_down() {
            self.reload(self.plans.silent.clone());
        }
    }
}
