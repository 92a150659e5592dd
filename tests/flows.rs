//! The call flows of RFC 3665 section 3 that a proxy takes part in, played from text files.
//!
//! `tests/flows/*.flow` hold the ladders; `tests/flows/README.md` explains their form. The test
//! plays both ends over UDP and compares what the gate sends: order, Via, Record-Route, Route,
//! Max-Forwards, branches, and everything that must pass untouched.

#[path = "flows/ladder.rs"]
mod ladder;
#[path = "flows/rules.rs"]
mod rules;
#[path = "flows/stage.rs"]
mod stage;
mod support;

use std::path::Path;

use ladder::Ladder;
use stage::Stage;

/// Plays `tests/flows/NAME.flow`.
fn play(name: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/flows/{name}.flow"));
    let text = std::fs::read_to_string(&file).expect("the flow file is there");
    let ladder = Ladder::read(name, &text);
    Stage::set(&ladder).play(&ladder);
}

macro_rules! flows {
    ($($(#[$doc:meta])* $test:ident = $file:literal;)*) => {
        $($(#[$doc])* #[test] fn $test() { play($file); })*

        #[test]
        fn every_flow_file_is_played() {
            let played = [$($file),*];
            let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/flows");
            for entry in std::fs::read_dir(dir).expect("the flows are there") {
                let path = entry.expect("an entry").path();
                if path.extension().is_some_and(|extension| extension == "flow") {
                    let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a UTF-8 name");
                    assert!(played.contains(&name), "{name}.flow is not played");
                }
            }
        }
    };
}

flows! {
    session_3_1_passes_with_the_callee_hanging_up = "3.1-session";
    session_3_2_passes_through_two_proxies_that_both_record_route = "3.2-two-proxies";
    session_3_2_passes_with_the_gate_as_first_proxy = "3.2-as-first-proxy";
    session_3_2_passes_with_the_gate_as_second_proxy = "3.2-as-second-proxy";
    challenge_3_3_of_the_second_proxy_reaches_the_caller = "3.3-proxy-authentication";
    session_3_4_succeeds_though_the_first_proxy_is_dead = "3.4-proxy-failure";
    session_3_5_passes_behind_an_application_layer_gateway = "3.5-behind-alg";
    redirect_3_6_is_answered_and_an_offer_in_ack_passes = "3.6-redirect";
    re_invite_3_7_passes_from_the_callee = "3.7-re-invite";
    no_answer_3_8_is_cancelled_hop_by_hop = "3.8-no-answer";
    no_answer_3_8_is_cancelled_through_two_proxies = "3.8-no-answer-two-proxies";
    busy_3_9_is_acknowledged_hop_by_hop = "3.9-busy";
    silence_3_10_ends_after_seven_requests = "3.10-no-response";
    unavailable_3_11_after_ringing_reaches_the_caller = "3.11-unavailable";
}
