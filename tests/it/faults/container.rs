//! Rows whose streams end in a container.

use anyhow::Result;
use jq_tests::faults;

#[test]
fn a_killed_agent_resets_old_streams_and_new_ones_work_soon() -> Result<()> {
    faults::hold("F11")
}

#[test]
fn streams_into_a_container_resume_soon_after_an_outage() -> Result<()> {
    faults::hold("F3-container")
}

#[test]
fn a_killed_helper_ends_no_stream_and_is_replaced_soon() -> Result<()> {
    faults::hold("F11-helper")
}

#[test]
fn an_upgrade_of_the_agent_keeps_container_jupyter_and_kernel() -> Result<()> {
    faults::hold("F12-jupyter")
}

#[test]
fn a_restarted_engine_interrupts_no_stream() -> Result<()> {
    faults::hold("F16")
}
