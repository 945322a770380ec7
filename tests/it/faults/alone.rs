//! Rows that judge seconds, CPU time or the share of a link, which other tests at the same time would change: each runs alone on the
//! machine.

use anyhow::Result;
use jq_tests::faults;

#[test]
fn an_echo_goes_on_beside_a_transfer_over_a_deep_queue() -> Result<()> {
    faults::hold("F8")
}

#[test]
fn a_client_out_of_descriptors_waits_quietly_and_recovers_at_once() -> Result<()> {
    faults::hold("F24")
}

#[test]
fn a_reader_that_stops_holds_up_no_other_stream() -> Result<()> {
    faults::hold("F25")
}

#[test]
fn many_saturated_streams_never_wait_for_each_other_in_a_circle() -> Result<()> {
    faults::hold("F26")
}

#[test]
fn ten_thousand_idle_streams_are_cheap_and_outlive_an_outage() -> Result<()> {
    faults::hold("F29")
}

#[test]
fn streams_go_on_soon_after_a_link_was_down_for_a_second() -> Result<()> {
    faults::hold("F3-1s")
}

#[test]
fn streams_go_on_soon_after_a_link_was_down_for_five_seconds() -> Result<()> {
    faults::hold("F3-5s")
}

#[test]
fn streams_go_on_soon_after_a_link_was_down_for_thirty_seconds() -> Result<()> {
    faults::hold("F3-30s")
}

#[test]
fn streams_through_a_gateway_go_on_soon_after_an_outage() -> Result<()> {
    faults::hold("F3-gateway")
}

#[test]
fn streams_follow_the_laptop_to_another_address() -> Result<()> {
    faults::hold("F4-v4")
}

#[test]
fn streams_follow_the_laptop_from_v4_to_v6_and_back() -> Result<()> {
    faults::hold("F4-v6")
}

#[test]
fn streams_through_a_gateway_follow_the_laptop_to_another_address() -> Result<()> {
    faults::hold("F4-gateway")
}

#[test]
fn streams_go_on_when_a_nat_gives_them_another_port() -> Result<()> {
    faults::hold("F5-rebind")
}

#[test]
fn streams_go_on_when_a_nat_forgets_them() -> Result<()> {
    faults::hold("F5-expire")
}

#[test]
fn streams_go_on_soon_after_the_laptop_wakes_up_elsewhere() -> Result<()> {
    faults::hold("F9")
}

#[test]
fn streams_go_on_when_a_flow_falls_silent() -> Result<()> {
    faults::hold("F9-silence")
}

#[test]
fn a_stopped_agent_tears_nothing_down() -> Result<()> {
    faults::hold("F10-agent")
}

#[test]
fn a_stopped_client_tears_nothing_down() -> Result<()> {
    faults::hold("F10-client")
}

#[test]
fn a_stopped_relay_tears_nothing_down() -> Result<()> {
    faults::hold("F10-relay")
}

#[test]
fn an_upgrade_of_the_agent_interrupts_no_stream() -> Result<()> {
    faults::hold("F12")
}
