//! Rows that measure time, CPU time or throughput. Other tests would distort these figures, so each row runs alone on the machine.

use anyhow::Result;
use jq_tests::faults;

#[test]
fn echo_latency_stays_low_beside_a_transfer_over_a_deep_queue() -> Result<()> {
    faults::hold("F8")
}

#[test]
fn a_client_without_free_descriptors_waits_without_using_the_cpu_and_recovers_at_once() -> Result<()> {
    faults::hold("F24")
}

#[test]
fn a_reader_that_stops_blocks_no_other_stream() -> Result<()> {
    faults::hold("F25")
}

#[test]
fn many_saturated_streams_never_deadlock() -> Result<()> {
    faults::hold("F26")
}

#[test]
fn ten_thousand_idle_streams_are_cheap_and_survive_an_outage() -> Result<()> {
    faults::hold("F29")
}

#[test]
fn streams_resume_soon_after_an_outage_of_one_second() -> Result<()> {
    faults::hold("F3-1s")
}

#[test]
fn streams_resume_soon_after_an_outage_of_five_seconds() -> Result<()> {
    faults::hold("F3-5s")
}

#[test]
fn streams_resume_soon_after_an_outage_of_thirty_seconds() -> Result<()> {
    faults::hold("F3-30s")
}

#[test]
fn streams_through_a_gateway_resume_soon_after_an_outage() -> Result<()> {
    faults::hold("F3-gateway")
}

#[test]
fn streams_continue_when_the_laptop_changes_its_address() -> Result<()> {
    faults::hold("F4-v4")
}

#[test]
fn streams_continue_when_the_laptop_moves_from_ipv4_to_ipv6_and_back() -> Result<()> {
    faults::hold("F4-v6")
}

#[test]
fn streams_through_a_gateway_continue_when_the_laptop_changes_its_address() -> Result<()> {
    faults::hold("F4-gateway")
}

#[test]
fn streams_continue_when_a_nat_assigns_another_port() -> Result<()> {
    faults::hold("F5-rebind")
}

#[test]
fn streams_continue_when_a_nat_drops_its_mappings() -> Result<()> {
    faults::hold("F5-expire")
}

#[test]
fn streams_resume_soon_after_the_laptop_wakes_up_in_another_network() -> Result<()> {
    faults::hold("F9")
}

#[test]
fn streams_continue_when_their_udp_flow_is_dropped_silently() -> Result<()> {
    faults::hold("F9-silence")
}

#[test]
fn streams_survive_a_suspended_agent() -> Result<()> {
    faults::hold("F10-agent")
}

#[test]
fn streams_survive_a_suspended_client() -> Result<()> {
    faults::hold("F10-client")
}

#[test]
fn streams_survive_a_suspended_relay() -> Result<()> {
    faults::hold("F10-relay")
}

#[test]
fn an_upgrade_of_the_agent_interrupts_no_stream() -> Result<()> {
    faults::hold("F12")
}
