//! Histograms on `/metrics`: cumulative buckets, sum and count, from what the shards hold.

use super::exposition::Page;
use super::node::Node;
use crate::metrics::Leg;
use crate::metrics::histogram::{Family, Reading, SETUP_DELAY, SHARD_TIME};
use crate::shard::NodePlan;

/// Writes every histogram. Those of trunks are summed over the shards, which keeps their number of
/// series down.
pub fn write(page: &mut Page, node: &Node, plan: &NodePlan) {
    page.heading(SHARD_TIME.name, "histogram", SHARD_TIME.help);
    for seat in &node.seats {
        let reading = seat.metrics.histograms.shard_time();
        let shard = seat.shard.to_string();
        one(page, &SHARD_TIME, &[("shard", &shard)], &reading);
    }
    page.heading(SETUP_DELAY.name, "histogram", SETUP_DELAY.help);
    for trunk in &plan.routing.trunks {
        for leg in Leg::ALL {
            let mut sum = Reading::default();
            for seat in &node.seats {
                sum.merge(&seat.metrics.histograms.setup_delay(trunk.slot, leg));
            }
            let labels = [("trunk", trunk.name.as_str()), ("direction", leg.word())];
            one(page, &SETUP_DELAY, &labels, &sum);
        }
    }
}

fn one(page: &mut Page, family: &Family, labels: &[(&str, &str)], reading: &Reading) {
    let mut count = 0;
    let bounds = family.bounds.iter().map(|(_, text)| *text);
    for (bound, in_bucket) in bounds.chain(["+Inf"]).zip(&reading.buckets) {
        count += in_bucket;
        let mut labels = labels.to_vec();
        labels.push(("le", bound));
        page.part("_bucket", &labels, count);
    }
    page.part("_sum", labels, reading.sum_us as f64 / 1e6);
    page.part("_count", labels, count);
}
