//! The quick rows of the fault table. Each checks its own limit and the conditions that must hold after every fault.

mod alone;
mod container;

use anyhow::Result;
use jq_tests::faults;

#[test]
fn streams_continue_under_random_and_bursty_loss() -> Result<()> {
    faults::hold("F1")
}

#[test]
fn streams_continue_when_packets_are_reordered_duplicated_and_corrupted() -> Result<()> {
    faults::hold("F2")
}

#[test]
fn bits_flipped_between_ssh_and_the_client_are_detected() -> Result<()> {
    faults::hold("F2-pipe")
}

#[test]
fn streams_continue_when_the_path_starts_to_drop_large_packets() -> Result<()> {
    faults::hold("F6")
}

#[test]
fn on_a_network_without_udp_the_client_connects_over_ssh_without_a_long_wait() -> Result<()> {
    faults::hold("F7-start")
}

#[test]
fn streams_move_to_ssh_when_udp_is_blocked_and_back_when_it_is_unblocked() -> Result<()> {
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
fn streams_move_to_another_path_when_the_relay_is_killed() -> Result<()> {
    faults::hold("F14")
}

#[test]
fn a_rebooted_host_is_reported_and_new_streams_work_soon() -> Result<()> {
    faults::hold("F15")
}

#[test]
fn an_upload_interrupted_at_any_offset_is_never_executed() -> Result<()> {
    faults::hold("F20")
}

#[test]
fn twenty_clients_can_upload_the_agent_at_the_same_time() -> Result<()> {
    faults::hold("F21")
}

#[test]
fn an_unsuitable_agent_is_refused_and_never_makes_the_client_hang() -> Result<()> {
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
        include_str!("deployment.rs"),
    ];
    for scenario in faults::all().iter().filter(|scenario| scenario.quick) {
        let call = format!("hold(\"{}\")", scenario.id);
        let is_called = texts.iter().any(|text| text.contains(&call));
        assert!(is_called, "{}", scenario.id);
    }
}
