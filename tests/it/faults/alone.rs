//! Rows that judge CPU time or the share of a link, which other tests at the same time would change.

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
