//! The quick rows of the fault table, each with its limit and what must hold after every fault.

mod alone;
mod container;

use anyhow::Result;
use jq_tests::faults;

#[test]
fn streams_go_on_under_random_and_bursty_loss() -> Result<()> {
    faults::hold("F1")
}

#[test]
fn streams_go_on_when_packets_are_shuffled_doubled_and_damaged() -> Result<()> {
    faults::hold("F2")
}

#[test]
fn bits_flipped_between_ssh_and_the_client_are_found() -> Result<()> {
    faults::hold("F2-pipe")
}

#[test]
fn streams_go_on_when_large_packets_begin_to_vanish() -> Result<()> {
    faults::hold("F6")
}

#[test]
fn a_network_without_udp_is_connected_over_ssh_without_a_long_wait() -> Result<()> {
    faults::hold("F7-start")
}

#[test]
fn streams_move_to_ssh_when_udp_is_blocked_and_back_when_it_is_open() -> Result<()> {
    faults::hold("F7-middle")
}

#[test]
fn streams_through_a_gateway_move_to_ssh_and_back() -> Result<()> {
    faults::hold("F7-gateway")
}

#[test]
fn a_killed_client_can_be_started_again_and_leaves_nothing_on_the_host() -> Result<()> {
    faults::hold("F13")
}

#[test]
fn a_killed_relay_is_replaced_by_another_way() -> Result<()> {
    faults::hold("F14")
}

#[test]
fn a_rebooted_host_is_said_to_be_one_and_new_streams_work_soon() -> Result<()> {
    faults::hold("F15")
}

#[test]
fn an_upload_cut_at_any_offset_is_never_executed() -> Result<()> {
    faults::hold("F20")
}

#[test]
fn twenty_clients_may_bring_the_agent_at_once() -> Result<()> {
    faults::hold("F21")
}

#[test]
fn an_agent_that_does_not_fit_is_refused_and_never_hangs() -> Result<()> {
    faults::hold("F22")
}

#[test]
fn clocks_ten_years_off_have_no_effect() -> Result<()> {
    faults::hold("F23")
}

#[test]
fn replies_to_half_closed_streams_are_complete_after_outages() -> Result<()> {
    faults::hold("F27")
}

#[test]
fn a_reset_during_an_outage_arrives_as_a_reset() -> Result<()> {
    faults::hold("F28")
}

#[test]
fn a_large_transfer_is_complete_after_a_storm_of_faults() -> Result<()> {
    faults::hold("F30")
}

#[test]
fn a_download_by_curl_is_complete_after_a_storm_of_faults() -> Result<()> {
    faults::hold("F30-curl")
}

#[test]
fn every_quick_scenario_is_a_test() {
    let texts = [
        include_str!("faults.rs"),
        include_str!("faults/alone.rs"),
        include_str!("faults/container.rs"),
    ];
    for scenario in faults::all().iter().filter(|scenario| scenario.quick) {
        let call = format!("hold(\"{}\")", scenario.id);
        let is_called = texts.iter().any(|text| text.contains(&call));
        assert!(is_called, "{}", scenario.id);
    }
}
