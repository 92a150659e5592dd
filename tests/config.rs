//! Configuration files from the outside: what is taken, and what a person reads when one is not.

use callgate::config::{self, InOrder};

fn load(text: &str) -> Result<config::Config, config::Report> {
    config::load(text, "edge.toml", &mut InOrder::default())
}

const DESIGN: &str = include_str!("config/design.toml");

#[test]
fn the_example_of_the_design_has_no_fault() {
    let config = load(DESIGN).expect("the design's own example");
    assert_eq!(config.warnings, []);
}
